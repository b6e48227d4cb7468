//! The one error type of the runtime: a line that says what was being done, to what, which call refused, and why.
//!
//! An error starts where a call fails and gains context on its way up ([`Context`]); it is printed once, by `main`.
//! It crosses the sync socket unchanged, so that a failure in the child reads the same as one in the parent.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What a caller can do something different about. Everything else is [`Kind::System`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The configuration (config.json, process.json, resources) asks for what is wrong or what can't be had.
    Config,
    /// The command line or the container ID is wrong.
    Usage,
    /// No container of that ID exists.
    NotFound,
    /// A container of that ID exists already.
    Exists,
    /// The container is in a state that doesn't allow the command.
    State,
    /// The other side of the sync socket broke the protocol.
    Protocol,
    /// The other side of the sync socket took longer for a message than it has.
    Stalled,
    /// The other side of the sync socket is gone before its time.
    PeerGone,
    /// The kernel or a file refused.
    System,
    /// The kernel has killed the process for want of memory: a counter says so.
    OutOfMemory,
    /// The process has ended before its payload was executed, by nobody's doing but its own.
    NotExecuted,
}

/// One failure. `Display` gives one line: the context from the outside in, then the system's own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: Kind,
    /// Innermost first: the order in which context was added.
    chain: Vec<String>,
    /// The errno of the call that failed, if a system call did.
    errno: Option<i32>,
    /// What the user can do about it.
    advice: Option<String>,
    /// The JSON path of the property that is wrong, if the configuration is.
    property: Option<String>,
}

/// The result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure that is no system call's.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, chain: vec![message.into()], errno: None, advice: None, property: None }
    }

    /// The configuration is wrong: `message` names the property.
    pub fn config(message: impl Into<String>) -> Error {
        Error::new(Kind::Config, message)
    }

    /// The configuration is wrong at one property, by its JSON path: `linux.devices[0].type`.
    pub fn at(property: impl Into<String>, why: impl fmt::Display) -> Error {
        let property = property.into();
        Error::config(format!("`{property}`: {why}")).about(property)
    }

    /// The kernel, a file or a peer process refused without an errno.
    pub fn system(message: impl Into<String>) -> Error {
        Error::new(Kind::System, message)
    }

    /// A system call failed: `call` names it with its object, as `open_tree /data`.
    pub fn call(call: impl Into<String>, errno: Errno) -> Error {
        Error { errno: Some(errno.raw_os_error()), ..Error::system(call) }
    }

    /// The same error, with what was being done when it happened.
    pub fn context(mut self, doing: impl Into<String>) -> Error {
        self.chain.push(doing.into());
        self
    }

    /// The same error, with what the user can do about it.
    pub fn advise(mut self, advice: impl Into<String>) -> Error {
        self.advice = Some(advice.into());
        self
    }

    /// The same error, with the JSON path of the property that it is about.
    pub fn about(mut self, property: impl Into<String>) -> Error {
        self.property = Some(property.into());
        self
    }

    /// The same error, with one more word of advice after what there is.
    pub fn also_advise(mut self, advice: impl Into<String>) -> Error {
        let more = advice.into();
        self.advice = Some(self.advice.map_or_else(|| more.clone(), |first| format!("{first}; {more}")));
        self
    }

    /// The same error, and that what it left could not be undone, if that is so.
    pub fn and_undone(self, undone: Result<()>) -> Error {
        match undone {
            Ok(()) => self,
            Err(undo) => self.advise(format!("and the clean-up failed: {undo}")),
        }
    }

    /// The same error under another kind.
    pub fn of_kind(mut self, kind: Kind) -> Error {
        self.kind = kind;
        self
    }

    /// The same error with no text longer than `cap` bytes: for a frame that must hold it. What is cut ends in `…`.
    pub fn shortened(mut self, cap: usize) -> Error {
        let texts = self.chain.iter_mut().chain(self.advice.as_mut()).chain(self.property.as_mut());
        texts.for_each(|text| shorten(text, cap));
        self
    }

    /// What a caller can branch on.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The JSON path of the property that is wrong; None where it is not the configuration, or the whole of it.
    pub fn property(&self) -> Option<&str> {
        self.property.as_deref()
    }

    /// What the user can do about it.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// The line without the advice.
    pub fn message(&self) -> String {
        Error { advice: None, ..self.clone() }.to_string()
    }

    /// The errno of the failed call, if one failed.
    pub fn errno(&self) -> Option<Errno> {
        self.errno.map(Errno::from_raw_os_error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, link) in self.chain.iter().rev().enumerate() {
            if i > 0 {
                f.write_str(": ")?;
            }
            f.write_str(&one_line(link))?;
        }
        // Not where they are said already, in the spelling of [`in_lower_case`].
        let words = self.errno.map(strerror).filter(|words| !self.chain[0].ends_with(&words.to_lowercase()));
        if let Some(words) = words {
            write!(f, ": {words}")?;
        }
        if let Some(advice) = &self.advice {
            write!(f, " ({})", one_line(advice))?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The C library's text for an errno, as every peer prints it ("Permission denied", without "os error 13"):
/// engines match on these words.
fn strerror(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// An errno's text as Go's programs have it. Docker's client looks for that one, and minds the case, where it is to tell what became
/// of a program: everywhere else the C library's is right.
pub(crate) fn in_lower_case(errno: Errno) -> String {
    strerror(errno.raw_os_error()).to_lowercase()
}

/// A text as it may be shown on a terminal and written to a log: on one line, and with no character that either would take
/// for a command, whatever a path of the image, an argument or the kernel's log held.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => line.push(' '),
            // Those that turn the direction of what follows change what is read as well.
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                line.extend(c.escape_unicode())
            }
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// Cuts a text that is longer than `cap` bytes, between two characters; what is cut ends in `…`.
pub(crate) fn shorten(text: &mut String, cap: usize) {
    if text.len() > cap {
        let end = (0..=cap).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// The JSON path of a member whose name is not the specification's: `annotations["org.example.key"]`.
pub(crate) fn member(object: &str, name: &str) -> String {
    format!("{object}[{name:?}]")
}

/// Adds to a failure what was being done. The closure runs only on failure.
pub trait Context<T> {
    /// `doing` names the step, or the call and its object.
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T, Error> {
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| e.context(doing()))
    }
}

impl<T> Context<T> for Result<T, Errno> {
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::call(doing(), errno))
    }
}

impl<T> Context<T> for Result<T, nix::errno::Errno> {
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::call(doing(), Errno::from_raw_os_error(errno as i32)))
    }
}

impl<T> Context<T> for Result<T, std::io::Error> {
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| match e.raw_os_error() {
            Some(errno) => Error::call(doing(), Errno::from_raw_os_error(errno)),
            None => Error::system(e.to_string()).context(doing()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_from_the_outside_in_and_ends_with_the_systems_words() {
        let refused: Result<(), Errno> = Err(Errno::ACCESS);
        let error = refused.context(|| "open_tree `/data`").context(|| "mount `/mnt`").unwrap_err();
        assert_eq!(error.to_string(), "mount `/mnt`: open_tree `/data`: Permission denied");
        assert_eq!(error.errno(), Some(Errno::ACCESS));
    }

    #[test]
    fn is_one_line_whatever_it_holds() {
        let error = Error::config("bad\npath").advise("rename it");
        assert_eq!(error.to_string(), "bad path (rename it)");
    }

    #[test]
    fn is_shown_without_a_command_to_the_terminal() {
        let error =
            Error::config("`a\u{1b}[2Jb\u{9b}c\u{202e}d\u{7f}`").context("x\ty").advise("not\u{7}\u{1b}]0;e\nf");
        let shown = r"x\ty: `a\u{1b}[2Jb\u{9b}c\u{202e}d\u{7f}` (not\u{7}\u{1b}]0;e f)";
        assert_eq!(error.to_string(), shown);
        assert_eq!(one_line("`ä 日本` ☃"), "`ä 日本` ☃");
    }

    #[test]
    fn the_systems_words_are_there_once() {
        let error = Error::call(format!("execve `/x`: {}", in_lower_case(Errno::NOENT)), Errno::NOENT);
        assert_eq!(error.to_string(), "execve `/x`: no such file or directory");
        assert_eq!(error.errno(), Some(Errno::NOENT));
    }

    #[test]
    fn is_cut_between_characters() {
        let error = Error::config("aé".repeat(3)).shortened(3);
        assert_eq!(error.to_string(), "aé…");
        assert_eq!(Error::config("aé").shortened(2).to_string(), "a…");
        assert_eq!(Error::config("aé").shortened(3).to_string(), "aé");
    }

    #[test]
    fn is_the_same_after_the_socket() {
        let error = Error::call("mount", Errno::PERM).context("step").advise("do");
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&json).unwrap(), error);
    }
}
