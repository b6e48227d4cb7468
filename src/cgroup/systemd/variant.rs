//! Annotations `org.systemd.property.NAME`: properties of the unit as GVariant text (GLib, "GVariant Text Format").
//!
//! Known are booleans, strings, numbers with and without a type, arrays, tuples, and `@TYPE` before any of them. Not
//! known are dictionaries, maybes and variants, which no property of a scope needs.

use super::wire::{self, Value};
use crate::error::{Error, Result, member};

const PREFIX: &str = "org.systemd.property.";
/// What the place of the container decides, and no annotation may.
const OURS: [&str; 2] = ["PIDs", "Slice"];
const DEEPEST: usize = 16;

/// The unit's properties that the annotations ask for.
///
/// # Errors
/// A name that is none, or a value that is not understood.
pub(super) fn from_annotations<'a>(
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<(String, Value)>> {
    let wanted = annotations.filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text)));
    wanted.map(|(name, text)| property(name, text)).collect()
}

fn annotation(name: &str, why: &str) -> Error {
    Error::config(format!("annotation `{name}`: {why}")).about(member("annotations", name))
}

fn property(name: &str, text: &str) -> Result<(String, Value)> {
    let invalid = |why: &str| annotation(&format!("{PREFIX}{name}"), why);
    if name.len() < 3 || !name.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(invalid("this is no name of a property"));
    }
    if OURS.contains(&name) {
        return Err(invalid("the runtime sets this property itself"));
    }
    let value = parse(text).map_err(|why| invalid(&format!("`{text}`: {why}")))?;
    // systemd's own files count in seconds, its bus in microseconds.
    match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        None => Ok((name.to_owned(), value)),
        Some(stem) => match microseconds(&value) {
            Some(value) => Ok((format!("{stem}USec"), value)),
            None => Err(invalid(&format!("`{text}` is no number of seconds"))),
        },
    }
}

/// Seconds in microseconds. The bus knows no other type for them than a 64-bit number without sign.
fn microseconds(seconds: &Value) -> Option<Value> {
    const SECOND: u64 = 1_000_000;
    let whole = match seconds {
        Value::Byte(v) => u64::from(*v),
        Value::I16(v) => u64::try_from(*v).ok()?,
        Value::U16(v) => u64::from(*v),
        Value::I32(v) => u64::try_from(*v).ok()?,
        Value::U32(v) => u64::from(*v),
        Value::I64(v) => u64::try_from(*v).ok()?,
        // Infinity stays what it is.
        Value::U64(u64::MAX) => return Some(Value::U64(u64::MAX)),
        Value::U64(v) => *v,
        Value::Double(v) if (0.0..1e12).contains(v) => return Some(Value::U64((v * SECOND as f64) as u64)),
        _ => return None,
    };
    whole.checked_mul(SECOND).map(Value::U64)
}

/// Reads one value.
fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser { rest: text };
    let value = parser.value(None, 0)?;
    match parser.rest.trim() {
        "" => Ok(value),
        rest => Err(format!("`{rest}` is left over after the value")),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

/// The types that can be named before a value, and their signatures.
const TYPES: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

impl<'a> Parser<'a> {
    /// A value, of the type `wanted` if that is known.
    fn value(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err("it is nested too deep".into());
        }
        self.rest = self.rest.trim_start();
        match self.rest.chars().next() {
            None => Err("a value is missing".into()),
            Some('\'' | '"') => {
                let text = self.string()?;
                of_type(wanted, Value::Str(text))
            }
            Some('[') => self.array(wanted, depth),
            Some('(') => self.tuple(wanted, depth),
            Some('@') => {
                let text = &self.rest[1..];
                let (kind, rest) = wire::split(text).map_err(|why| format!("`{text}` begins with {why}"))?;
                self.rest = rest;
                self.value(Some(kind), depth + 1)
            }
            Some(_) => {
                let word = self.word();
                if let Some((_, kind)) = TYPES.iter().find(|(name, _)| *name == word) {
                    return self.value(Some(kind), depth + 1);
                }
                match word {
                    "true" => of_type(wanted, Value::Bool(true)),
                    "false" => of_type(wanted, Value::Bool(false)),
                    _ => number(word, wanted),
                }
            }
        }
    }

    /// Up to the next blank or punctuation.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",])".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn string(&mut self) -> Result<String, String> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, c)| c);
        let mut text = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if Some(c) == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => text.push(match chars.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(c @ ('\'' | '"' | '\\')) => c,
                    _ => return Err("an unknown escape in the string".into()),
                }),
                '\0' => return Err("a nul byte in the string".into()),
                c => text.push(c),
            }
        }
        Err("the string does not end".into())
    }

    /// Whether the list ends here; else past the comma between two elements.
    fn ends(&mut self, close: char, first: bool) -> Result<bool, String> {
        self.rest = self.rest.trim_start();
        if let Some(rest) = self.rest.strip_prefix(close) {
            self.rest = rest;
            return Ok(true);
        }
        if !first {
            let Some(rest) = self.rest.strip_prefix(',') else {
                return Err(format!("`,` or `{close}` is missing"));
            };
            self.rest = rest.trim_start();
            // A tuple of one ends in a comma.
            if close == ')'
                && let Some(rest) = self.rest.strip_prefix(close)
            {
                self.rest = rest;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn array(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, String> {
        self.rest = &self.rest[1..];
        let mut of = match wanted {
            None => None,
            Some(kind) => Some(kind.strip_prefix('a').ok_or_else(|| mismatch(kind))?.to_owned()),
        };
        let mut elements = Vec::new();
        while !self.ends(']', elements.is_empty())? {
            // The first element decides for the others.
            let element = self.value(of.as_deref(), depth + 1)?;
            of.get_or_insert_with(|| element.signature());
            elements.push(element);
        }
        match of {
            Some(of) => Ok(Value::Array(of, elements)),
            None => Err("an empty array needs a type before it, as `@as []`".into()),
        }
    }

    fn tuple(&mut self, wanted: Option<&str>, depth: usize) -> Result<Value, String> {
        self.rest = &self.rest[1..];
        let mut kinds = match wanted {
            None => None,
            Some(kind) => Some(kind.strip_prefix('(').and_then(|k| k.strip_suffix(')')).ok_or_else(|| mismatch(kind))?),
        };
        let mut fields = Vec::new();
        while !self.ends(')', fields.is_empty())? {
            let kind = match &mut kinds {
                None => None,
                Some(rest) => {
                    let (first, others) = wire::split(rest).map_err(|_| "the tuple is too long".to_owned())?;
                    *rest = others;
                    Some(first)
                }
            };
            fields.push(self.value(kind, depth + 1)?);
        }
        match (fields.is_empty(), kinds) {
            (true, _) => Err("an empty tuple is no value".into()),
            (false, Some(rest)) if !rest.is_empty() => Err("the tuple is too short".into()),
            _ => Ok(Value::Struct(fields)),
        }
    }
}

fn mismatch(kind: &str) -> String {
    format!("it is not of the type `{kind}`")
}

/// A value as another type that it can stand for.
fn of_type(wanted: Option<&str>, value: Value) -> Result<Value, String> {
    match (wanted, value) {
        (None, value) => Ok(value),
        (Some("o"), Value::Str(text)) if text.starts_with('/') => Ok(Value::Path(text)),
        (Some("g"), Value::Str(text)) if text.len() < 256 => Ok(Value::Signature(text)),
        (Some(kind), value) if value.signature() == kind => Ok(value),
        (Some(kind), _) => Err(mismatch(kind)),
    }
}

/// A number, of 32 bits with a sign or a fraction if no type is named.
fn number(word: &str, wanted: Option<&str>) -> Result<Value, String> {
    let none = || format!("`{word}` is no value");
    let fraction = !word.starts_with("0x") && word.contains(['.', 'e', 'E']);
    let kind = wanted.unwrap_or(if fraction { "d" } else { "i" });
    if kind == "d" {
        let plain = word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        return word.parse().ok().filter(|_| plain).map(Value::Double).ok_or_else(none);
    }
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).map_err(|_| none())?),
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => {
            i128::from(digits.parse::<u64>().map_err(|_| none())?)
        }
        None => return Err(none()),
    };
    let n = if negative { -magnitude } else { magnitude };
    let value = match kind {
        "y" => n.try_into().map(Value::Byte),
        "n" => n.try_into().map(Value::I16),
        "q" => n.try_into().map(Value::U16),
        "i" => n.try_into().map(Value::I32),
        "u" => n.try_into().map(Value::U32),
        "x" => n.try_into().map(Value::I64),
        "t" => n.try_into().map(Value::U64),
        _ => return Err(mismatch(kind)),
    };
    value.map_err(|_| format!("`{word}` does not fit into the type `{kind}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_by_their_text() {
        for (text, value) in [
            ("true", Value::Bool(true)),
            (" 'a b' ", Value::str("a b")),
            ("\"it's\"", Value::str("it's")),
            (r"'it\'s'", Value::str("it's")),
            ("123", Value::I32(123)),
            ("-1", Value::I32(-1)),
            ("0x10", Value::I32(16)),
            ("uint64 123", Value::U64(123)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("int64 -5", Value::I64(-5)),
            ("uint32  7", Value::U32(7)),
            ("byte 0xff", Value::Byte(255)),
            ("1.5", Value::Double(1.5)),
            ("double 2", Value::Double(2.0)),
            ("objectpath '/a'", Value::Path("/a".into())),
            ("['a', 'b']", Value::strings(&["a", "b"])),
            ("@as []", Value::strings(&[])),
            ("@t 5", Value::U64(5)),
            ("[uint64 1, 2]", Value::Array("t".into(), vec![Value::U64(1), Value::U64(2)])),
            ("@a(ss) [('/dev/null', 'rw')]", {
                let pair = Value::Struct(vec![Value::str("/dev/null"), Value::str("rw")]);
                Value::Array("(ss)".into(), vec![pair])
            }),
            ("('a',)", Value::Struct(vec![Value::str("a")])),
        ] {
            assert_eq!(parse(text).as_ref(), Ok(&value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "hello",
            "'open",
            "[",
            "[1,",
            "['a', 1]",
            "[]",
            "1 2",
            "uint64 -1",
            "uint32 4294967296",
            "99999999999",
            "byte 'a'",
            "@as 1",
            "@zz 1",
            "{'a': 1}",
            "<1>",
            "()",
            "@(st) ('a')",
            "@(s) ('a', 1)",
            "inf",
            "nan",
            "0x",
            r"'\q'",
            "--1",
            "+-1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(1000)).is_err());
    }

    #[test]
    fn properties_by_their_annotation() {
        let of = |name: &str, text: &str| {
            let key = format!("{PREFIX}{name}");
            from_annotations([(key.as_str(), text), ("other", "x")].into_iter()).map(|mut list| list.remove(0))
        };
        assert_eq!(of("CollectMode", "'inactive'").unwrap(), ("CollectMode".into(), Value::str("inactive")));
        assert_eq!(of("TimeoutStopSec", "5").unwrap(), ("TimeoutStopUSec".into(), Value::U64(5_000_000)));
        assert_eq!(of("TimeoutStopSec", "0.5").unwrap(), ("TimeoutStopUSec".into(), Value::U64(500_000)));
        assert_eq!(of("TimeoutStopUSec", "uint64 7").unwrap(), ("TimeoutStopUSec".into(), Value::U64(7)));
        for (name, text, why) in [
            ("Xy", "1", "no name of a property"),
            ("Memory Max", "1", "no name of a property"),
            ("PIDs", "[uint32 1]", "sets this property itself"),
            ("MemoryMax", "lots", "`lots`: `lots` is no value"),
            ("TimeoutStopSec", "'a'", "is no number of seconds"),
            ("TimeoutStopSec", "-1", "is no number of seconds"),
        ] {
            let error = of(name, text).unwrap_err().to_string();
            assert!(error.starts_with("annotation `org.systemd.property.") && error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[-@a-z0-9(){}\\[\\]'\"\\\\, .x]{0,40}") {
            if let Ok(value) = parse(&text) {
                // What is understood can be sent.
                let bytes = super::super::message::Message::call(1, "/o", "i", "m", vec![value]).encode();
                prop_assert!(super::super::message::Message::decode(&bytes).is_ok());
            }
        }
    }
}
