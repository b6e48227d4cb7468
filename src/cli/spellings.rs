//! Words that the command line of another runtime has and clap's can't: each becomes one that ours has.
//!
//! Go's parser takes a long option with one dash, too (`-bundle`; containerd writes `-no-subreaper`), and its flags may have
//! a value (`--detach=true`, `--tty=false`). crun asks for help by `-?` and `--usage`. youki has `-l` and `-r` for `--log` and
//! `--root`. kill(1) and docker have `-s` for the signal.
//!
//! A word of one dash is a long option only if it is the whole name of one: `-it` is `-i -t`. What is a long name could be a
//! short option with its value beside it (`-user`: `-u ser`), which nobody writes who knows Go's.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Command};

/// The arguments with those words replaced, where they can be no payload's. `command` describes the command line; it is only
/// made if one of the words may be there.
pub(super) fn normalized(args: Vec<OsString>, command: impl FnOnce() -> Command) -> Vec<OsString> {
    if !args.iter().skip(1).any(|arg| arg.to_str().is_some_and(may_be_odd)) {
        return args;
    }
    let globals = command();
    let mut found: Option<&Command> = None;
    let mut has_id = false;
    let mut out: Vec<OsString> = Vec::with_capacity(args.len());
    // Where flags are in it, for one that takes them back.
    let mut options = vec![];
    let mut args = args.into_iter();
    out.extend(args.next());
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let is_option = text.len() > 1 && text.starts_with('-') && text != "--";
        let name = found.map_or("", Command::get_name);
        match (is_option, found) {
            (false, None) => found = globals.find_subcommand(text),
            // What follows the ID of `ps` are the options of ps(1); of `exec`, the payload begins with the first word that is
            // none of its options.
            (false, Some(_)) if text == "--" || name == "ps" || (name == "exec" && has_id) => {
                out.push(arg);
                break;
            }
            (true, Some(_)) if name == "exec" && has_id && !is_known(text, &globals, found) => {
                out.push(arg);
                break;
            }
            (false, Some(_)) => has_id = true,
            _ => {}
        }
        let takes_value = is_option && !text.contains('=') && takes_value(text, &globals, found);
        options.extend(is_option.then_some(out.len()));
        match replaced(text, &globals, found) {
            Some(Word::Is(word)) => out.push(word.into()),
            Some(Word::TakesBack(flag)) => {
                options.pop();
                options.iter().for_each(|at| take_back(&mut out[*at], flag, &globals, found));
            }
            None => out.push(arg),
        }
        if takes_value {
            out.extend(args.next());
        }
    }
    // What is left of `-t` once that is taken back: of options alone, for any other word is the payload's.
    for at in options.into_iter().rev() {
        if out[at] == TAKEN_BACK {
            out.remove(at);
        }
    }
    out.extend(args);
    out
}

/// No option: the shell passes none like it.
const TAKEN_BACK: &str = "-\u{fffd}";

/// What stands in place of a word.
enum Word<'a> {
    Is(String),
    /// Nothing: it sets this flag to false, whatever was said before.
    TakesBack(&'a Arg),
}

/// Takes a flag out of an option before it: the whole word, or its letter of several.
fn take_back(word: &mut OsString, flag: &Arg, globals: &Command, found: Option<&Command>) {
    let Some(text) = word.to_str().map(str::to_owned) else { return };
    let is_it = |name: &str| arg(name, globals, found).is_some_and(|arg| arg.get_id() == flag.get_id());
    if text.starts_with("--") {
        if is_it(&text) {
            *word = TAKEN_BACK.into();
        }
        return;
    }
    let takes = |c: &char| action(&format!("-{c}"), globals, found).is_some_and(ArgAction::takes_values);
    let letters: Vec<char> = text.chars().skip(1).collect();
    // From the first that takes a value on, it is that one's.
    let flags = letters.iter().position(takes).unwrap_or(letters.len());
    let kept = letters.iter().enumerate().filter(|(i, c)| *i >= flags || !is_it(&format!("-{c}")));
    let kept: String = kept.map(|(_, c)| c).collect();
    *word = if kept.is_empty() { TAKEN_BACK.into() } else { format!("-{kept}").into() };
}

fn may_be_odd(text: &str) -> bool {
    matches!(text, "-?" | "--usage" | "-l" | "-r" | "-s")
        || one_dash(text).is_some()
        || text.starts_with('-') && text.split_once('=').is_some_and(|(_, value)| truth(value).is_some())
}

/// The name of a word that may be a long option with one dash, and its value if it has one. The shortest has three letters.
fn one_dash(text: &str) -> Option<(&str, Option<&str>)> {
    let (name, value) = match text.strip_prefix('-')?.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (&text[1..], None),
    };
    let is_name = name.len() > 2 && name.starts_with(|c: char| c.is_ascii_lowercase());
    (is_name && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'))
        .then_some((name, value))
}

/// The spellings that Go's strconv.ParseBool has.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What stands in place of a word. None if it stays.
fn replaced<'a>(text: &str, globals: &'a Command, found: Option<&'a Command>) -> Option<Word<'a>> {
    let word = |word: &str| Some(Word::Is(word.to_owned()));
    match (text, found.map(Command::get_name)) {
        ("-?" | "--usage", _) => word("--help"),
        ("-l", None) => word("--log"),
        ("-r", None) => word("--root"),
        // The global option of this letter is about cgroups, which `kill` makes none of.
        ("-s", Some("kill")) => word("--signal"),
        _ => {
            let long = long(text, globals, found);
            let text = long.as_deref().unwrap_or(text);
            let without_value = || {
                let (flag, value) = text.split_once('=')?;
                let value = truth(value)?;
                let arg = arg(flag, globals, found).filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue))?;
                Some(if value { Word::Is(flag.to_owned()) } else { Word::TakesBack(arg) })
            };
            without_value().or_else(|| long.clone().map(Word::Is))
        }
    }
}

/// The word with two dashes, if it is the whole name of a long option with one.
fn long(text: &str, globals: &Command, found: Option<&Command>) -> Option<String> {
    let (name, _) = one_dash(text)?;
    action(&format!("--{name}"), globals, found).map(|_| format!("-{text}"))
}

/// Whether clap takes it for options: a long one, or short ones in a row.
fn is_known(text: &str, globals: &Command, found: Option<&Command>) -> bool {
    let flag = text.split_once('=').map_or(text, |(flag, _)| flag);
    let first = flag.chars().nth(1).map(|short| format!("-{short}")).unwrap_or_default();
    let short = !flag.starts_with("--") && action(&first, globals, found).is_some();
    short
        || matches!(text, "-?" | "--usage")
        || action(flag, globals, found).is_some()
        || long(text, globals, found).is_some()
}

fn takes_value(text: &str, globals: &Command, found: Option<&Command>) -> bool {
    if matches!((text, found.map(Command::get_name)), ("-l" | "-r", None) | ("-s", Some("kill"))) {
        return true;
    }
    let long = long(text, globals, found);
    let text = long.as_deref().unwrap_or(text);
    if text.starts_with("--") {
        return action(text, globals, found).is_some_and(ArgAction::takes_values);
    }
    // Of short ones in a row, the first that takes a value has the rest for it, or the next word.
    let shorts: Vec<String> = text.chars().skip(1).map(|short| format!("-{short}")).collect();
    let takes = |short: &String| action(short, globals, found).is_some_and(ArgAction::takes_values);
    shorts.iter().position(takes).is_some_and(|at| at + 1 == shorts.len())
}

/// What an option does, by `--name` or `-n`.
fn action<'a>(flag: &str, globals: &'a Command, found: Option<&'a Command>) -> Option<&'a ArgAction> {
    arg(flag, globals, found).map(Arg::get_action)
}

fn arg<'a>(flag: &str, globals: &'a Command, found: Option<&'a Command>) -> Option<&'a Arg> {
    // The command's own first: `spec --rootless` takes no value, and the global option of that name does.
    let mut known = found.into_iter().flat_map(Command::get_arguments).chain(globals.get_arguments());
    let is_it = |arg: &&Arg| match flag.strip_prefix("--") {
        Some(name) => arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name)),
        None => arg.get_short().is_some_and(|short| flag.strip_prefix('-') == Some(&*short.to_string())),
    };
    known.find(is_it)
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
    fn a_long_option_may_have_gos_single_dash() {
        assert_eq!(with("tandem restore -no-subreaper x"), "tandem restore --no-subreaper x");
        assert_eq!(with("tandem exec x restore -no-subreaper"), "tandem exec x restore -no-subreaper");
        assert_eq!(
            with("tandem -root /r -debug=true run -bundle /b -pid-file=/p -detach=false -no-pivot x"),
            "tandem --root /r --debug run --bundle /b --pid-file=/p --no-pivot x"
        );
        assert_eq!(
            with("tandem exec -cwd /d -env A=1 -user 0 x ls -cwd"),
            "tandem exec --cwd /d --env A=1 --user 0 x ls -cwd"
        );
        // Words that are no long option's name are short ones, and a payload's are its own.
        for line in
            ["tandem exec -td x ls", "tandem run -nonesuch x", "tandem ps x -user root", "tandem create -b -pid-file x"]
        {
            assert_eq!(with(line), line);
        }
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
        assert_eq!(with("tandem exec x --detach=true --tty=0 a --tty=true"), "tandem exec x --detach a --tty=true");
        assert_eq!(with("tandem exec -tu 0 --detach=false x a"), "tandem exec -tu 0 x a");
        assert_eq!(with("tandem exec -tu0 --detach=false x a"), "tandem exec -tu0 x a");
        // The last one counts.
        assert_eq!(with("tandem exec -tdu 0 -t -d --tty --tty=false x a"), "tandem exec -du 0 -d x a");
        assert_eq!(with("tandem exec --tty=false -t x a"), "tandem exec -t x a");
        assert_eq!(with("tandem exec x --unknown --detach=true"), "tandem exec x --unknown --detach=true");
        assert_eq!(with("tandem exec x -- --detach=true"), "tandem exec x -- --detach=true");
        // No word of the payload is an option that was taken back.
        assert_eq!(with("tandem exec -t --tty=false x a -\u{fffd}"), "tandem exec x a -\u{fffd}");
    }

    #[test]
    fn a_commands_own_option_comes_before_the_global_one_of_its_name() {
        assert_eq!(with("tandem spec --rootless -bundle /b"), "tandem spec --rootless --bundle /b");
        assert_eq!(with("tandem spec -rootless -bundle=/b"), "tandem spec --rootless --bundle=/b");
        assert_eq!(with("tandem spec --rootless=true"), "tandem spec --rootless");
    }

    #[test]
    fn the_signal_of_kill_may_be_an_option() {
        assert_eq!(with("tandem -s kill -s TERM x"), "tandem -s kill --signal TERM x");
        assert_eq!(with("tandem exec -s x kill -s x"), "tandem exec -s x kill -s x");
    }

    #[test]
    fn youkis_short_options_are_before_the_command() {
        assert_eq!(with("tandem -r /r -l /l kill -r x"), "tandem --root /r --log /l kill -r x");
    }
}
