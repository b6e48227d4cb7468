//! Words that the command line of another runtime has and clap's can't: each becomes one that ours has.
//!
//! containerd writes `-no-subreaper`, as Go's parser takes it, on `restore` alone. crun asks for help by `-?` and `--usage`,
//! too. Go's flags may have a value (`--detach=true`, `--tty=false`). youki has `-l` and `-r` for `--log` and `--root`.

use std::ffi::OsString;

use clap::{ArgAction, Command};

/// The arguments with those words replaced, where they can be no payload's. `command` describes the command line; it is only
/// made if one of the words may be there.
pub(super) fn normalized(args: Vec<OsString>, command: impl FnOnce() -> Command) -> Vec<OsString> {
    if !args.iter().skip(1).any(|arg| arg.to_str().is_some_and(may_be_odd)) {
        return args;
    }
    let globals = command();
    let mut found: Option<&Command> = None;
    let mut out = Vec::with_capacity(args.len());
    let mut args = args.into_iter();
    out.extend(args.next());
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let is_option = text.len() > 1 && text.starts_with('-') && text != "--";
        let name = found.map_or("", Command::get_name);
        match (is_option, found) {
            (false, None) => found = globals.find_subcommand(text),
            // What follows is the payload's, or the options of ps(1).
            (false, Some(_)) if text == "--" || matches!(name, "exec" | "ps") => {
                out.push(arg);
                break;
            }
            _ => {}
        }
        let takes_value = is_option && !text.contains('=') && takes_value(text, &globals, found);
        match replaced(text, &globals, found) {
            Some(Some(word)) => out.push(word.into()),
            Some(None) => {}
            None => out.push(arg),
        }
        if takes_value {
            out.extend(args.next());
        }
    }
    out.extend(args);
    out
}

fn may_be_odd(text: &str) -> bool {
    matches!(text, "-no-subreaper" | "-?" | "--usage" | "-l" | "-r")
        || text.starts_with('-') && text.split_once('=').is_some_and(|(_, value)| truth(value).is_some())
}

/// The spellings that Go's strconv.ParseBool has.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What stands in place of a word: another, or nothing. None if it stays.
fn replaced(text: &str, globals: &Command, found: Option<&Command>) -> Option<Option<String>> {
    let word = |word: &str| Some(Some(word.to_owned()));
    match (text, found.map(Command::get_name)) {
        ("-?" | "--usage", _) => word("--help"),
        ("-l", None) => word("--log"),
        ("-r", None) => word("--root"),
        ("-no-subreaper", Some("restore")) => word("--no-subreaper"),
        _ => {
            let (flag, value) = text.split_once('=')?;
            let value = truth(value)?;
            matches!(action(flag, globals, found)?, ArgAction::SetTrue).then(|| value.then(|| flag.to_owned()))
        }
    }
}

fn takes_value(text: &str, globals: &Command, found: Option<&Command>) -> bool {
    let short = match text {
        "-l" | "-r" if found.is_none() => return true,
        text => text,
    };
    action(short, globals, found).is_some_and(ArgAction::takes_values)
}

/// What an option does, by `--name` or `-n`.
fn action<'a>(flag: &str, globals: &'a Command, found: Option<&'a Command>) -> Option<&'a ArgAction> {
    let mut known = globals.get_arguments().chain(found.into_iter().flat_map(Command::get_arguments));
    let is_it = |arg: &&clap::Arg| match flag.strip_prefix("--") {
        Some(name) => arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name)),
        None => arg.get_short().is_some_and(|short| flag.strip_prefix('-') == Some(&*short.to_string())),
    };
    known.find(is_it).map(clap::Arg::get_action)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn with(args: &str) -> String {
        let args = args.split(' ').map(OsString::from).collect();
        normalized(args, super::super::Cli::command).join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn only_restore_knows_a_single_dash() {
        assert_eq!(with("tandem restore -no-subreaper x"), "tandem restore --no-subreaper x");
        assert_eq!(with("tandem exec x restore -no-subreaper"), "tandem exec x restore -no-subreaper");
    }

    #[test]
    fn help_has_cruns_names_too() {
        assert_eq!(with("tandem -?"), "tandem --help");
        assert_eq!(with("tandem run --usage"), "tandem run --help");
        assert_eq!(with("tandem exec x ls --usage"), "tandem exec x ls --usage");
    }

    #[test]
    fn a_flag_may_have_gos_truth() {
        assert_eq!(with("tandem exec --detach=true --tty=false x a --tty=true"), "tandem exec --detach x a --tty=true");
        assert_eq!(with("tandem --systemd-cgroup=1 kill -a=F x"), "tandem --systemd-cgroup kill x");
        assert_eq!(with("tandem exec --env A=true --cwd=1 x"), "tandem exec --env A=true --cwd=1 x");
        assert_eq!(with("tandem --rootless=true state x"), "tandem --rootless=true state x");
    }

    #[test]
    fn youkis_short_options_are_before_the_command() {
        assert_eq!(with("tandem -r /r -l /l kill -r x"), "tandem --root /r --log /l kill -r x");
    }
}
