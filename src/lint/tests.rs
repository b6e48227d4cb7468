use super::*;

#[test]
fn a_message_does_not_repeat_its_path() {
    let line = |error: Error| Finding::error(&error).to_string();
    assert_eq!(line(Error::at("process.cwd", "bad").advise("do")), "error process.cwd: bad (do)");
    let sysctl = Error::at("linux.sysctl", "`a.b` is none").about("linux.sysctl[\"a.b\"]");
    assert_eq!(line(sysctl), "error linux.sysctl[\"a.b\"]: `a.b` is none");
    let bare = Error::config("linux.resources.pids.limit: -2 is none").about("linux.resources.pids.limit");
    assert_eq!(line(bare), "error linux.resources.pids.limit: -2 is none");
    assert_eq!(line(Error::config("`root` is missing").about("root")), "error root: `root` is missing");
    let annotation = Error::config("annotation `a.b`: no").about("annotations[\"a.b\"]");
    assert_eq!(line(annotation), "error annotations[\"a.b\"]: no");
    assert_eq!(line(Error::config("EOF: at line 1")), "error $: EOF: at line 1");
}

#[test]
fn a_version_that_is_newer_is_told() {
    assert_eq!(version("1.3.0"), None);
    assert_eq!(version("1.0.2-dev"), None);
    assert!(version("1.0").unwrap().message.contains("three numbers"));
    assert!(version("1.4.0").unwrap().message.contains("newer than 1.3"));
}
