//! Colours, the width of the terminal, and texts that are safe to show on it.

use std::io::IsTerminal;

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(bool);

impl Paint {
    pub(super) fn new(color: Color) -> Paint {
        let refused = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Paint(match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && !refused(),
        })
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.with("36", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The columns of the terminal: what COLUMNS says, else what standard output is, else 80.
pub(super) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
    let asked = || rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().map(|size| size.ws_col.into());
    said.or_else(asked).filter(|width| *width > 0).unwrap_or(80)
}

/// A text as a terminal may have it: what would be a command to it, or turn the line around, as an escape. Names are an
/// image's, and anybody's.
pub(super) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let turns =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || turns {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// No more characters than that; what is cut ends in `…`.
pub(super) fn shorten(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width.saturating_sub(1)).chain(['…']).take(width).collect(),
        false => text.to_owned(),
    }
}

/// A text in lines of so many characters, cut at blanks. A word that is longer has a line of its own.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    // What is before the first word is an indent, and stays.
    let indent = text.chars().take_while(|c| *c == ' ').count();
    let mut lines = vec![text[..indent].to_owned()];
    for word in text[indent..].split(' ') {
        let Some(line) = lines.last_mut() else { break };
        let fits = line.chars().count() + 1 + word.chars().count() <= width;
        match line.trim().is_empty() {
            true => line.push_str(word),
            false if fits => line.push_str(&format!(" {word}")),
            false => lines.push(word.to_owned()),
        }
    }
    lines
}

pub(super) fn duration(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..1_000_000 => format!("{:.2} ms", us as f64 / 1000.0),
        _ => format!("{:.2} s", us as f64 / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_a_command_to_a_terminal() {
        assert_eq!(safe("\x1b[31m\u{9b}a\tb\n\u{202e}é"), "\\u{1b}[31m\\u{9b}a\\tb\\n\\u{202e}é");
        assert_eq!(shorten("abc", 2), "a…");
        assert_eq!(wrap("  12 ms  a longer-word b", 10), ["  12 ms  a", "longer-word", "b"]);
        assert_eq!(duration(1_500), "1.50 ms");
    }
}
