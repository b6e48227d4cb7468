//! JSON as its author sees it: paths, an object's properties each once, and what is wrong in words of JSON, not of Rust.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_path_to_error::{Path, Segment};

use crate::error::{Error, member};
use crate::nearest::nearest;

/// The path of a property: `a.b[0]["c.d"]`; empty for the document.
pub(super) fn path(path: &Path) -> String {
    let mut text = String::new();
    for segment in path.iter() {
        text = match segment {
            Segment::Seq { index } => format!("{text}[{index}]"),
            Segment::Map { key } => join(&text, key),
            Segment::Enum { variant } => join(&text, variant),
            // An unfinished text ends in a property of no name yet.
            Segment::Unknown => return text,
        };
    }
    text
}

/// A property of an object, whose own path is `at`.
pub(crate) fn join(at: &str, name: &str) -> String {
    // Of a name with a dot in it, a path would not tell where it ends.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match (at.is_empty(), !name.is_empty() && name.chars().all(plain)) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{at}.{name}"),
        (_, false) => member(at, name),
    }
}

/// The error for what serde says of the property at a path.
pub(super) fn error(at: &str, said: &str) -> Error {
    let (said, place) = match said.rfind(" at line ") {
        Some(end) => said.split_at(end),
        None => (said, ""),
    };
    if let Some(name) = said.strip_prefix("missing field ") {
        let property = join(at, name.trim_matches('`'));
        return Error::config(format!("`{property}` is missing{place}")).about(property);
    }
    // A list of names may be long: the place comes before it.
    let why = unknown(said, place).unwrap_or_else(|| in_words(said) + place);
    match at {
        "" => Error::config(why),
        at => Error::at(at, why),
    }
}

/// A name that is none of those that serde lists: the nearest, where one is, and all of them unless it is surely meant.
fn unknown(said: &str, place: &str) -> Option<String> {
    let (found, known) = said.strip_prefix("unknown variant ")?.split_once(", expected ")?;
    let names = known.split('`').skip(1).step_by(2);
    let rest = match nearest(found.trim_matches('`'), names) {
        Some((0 | 1, name)) => format!("`{name}` comes nearest"),
        Some((_, name)) => format!("`{name}` comes nearest; {known} is expected"),
        None => format!("{known} is expected"),
    };
    Some(format!("{found} is unknown{place}; {rest}"))
}

/// serde's sentences in words of JSON.
fn in_words(said: &str) -> String {
    if let Some((found, wanted)) = said.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("{} is expected, not {}", kind(wanted), value(found));
    }
    if let Some((found, wanted)) = said.strip_prefix("invalid value: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        return format!("{} is out of range; {} is expected", value(found), range(wanted));
    }
    match said.strip_prefix("duplicate field ") {
        Some(name) => format!("{name} is there twice"),
        None if said == "recursion limit exceeded" => "it is nested over 127 deep".into(),
        None => said.to_owned(),
    }
}

/// What of JSON one of our types is read from.
fn kind(wanted: &str) -> String {
    match wanted {
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".into(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more,".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "path string" | "string or map" | "a borrowed string" => "a string".into(),
        "a sequence" => "an array".into(),
        "a map" => "an object".into(),
        _ if wanted.starts_with("struct ") => "an object".into(),
        _ if wanted.starts_with("a tuple ") => "an array".into(),
        _ => wanted.to_owned(),
    }
}

fn range(wanted: &str) -> String {
    let whole = |from: i128, to: i128| format!("a whole number from {from} to {to}");
    match wanted {
        "i8" => whole(i8::MIN.into(), i8::MAX.into()),
        "i16" => whole(i16::MIN.into(), i16::MAX.into()),
        "i32" => whole(i32::MIN.into(), i32::MAX.into()),
        "i64" | "isize" => whole(i64::MIN.into(), i64::MAX.into()),
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" | "usize" => whole(0, u64::MAX.into()),
        _ => kind(wanted),
    }
}

/// What was found, as it stands in the file.
fn value(found: &str) -> String {
    for kind in ["integer ", "floating point ", "boolean "] {
        if let Some(value) = found.strip_prefix(kind) {
            return value.trim_matches('`').to_owned();
        }
    }
    match found {
        "sequence" => "an array".into(),
        "map" => "an object".into(),
        _ if found.starts_with("string ") => format!("the {found}"),
        _ => found.to_owned(),
    }
}

/// A JSON value in which no object has two properties of a name.
pub(super) struct Unique(pub(super) Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(Reader).map(Unique)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = vec![];
        while let Some(Unique(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            let Unique(value) = access.next_value()?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_of_json() {
        let said = |serde: &str| error("a.b", serde).to_string();
        for (serde, ours) in [
            (
                "invalid type: string \"x\", expected i64 at line 2 column 3",
                "`a.b`: a whole number is expected, not the string \"x\" at line 2 column 3",
            ),
            ("invalid type: map, expected a sequence", "`a.b`: an array is expected, not an object"),
            ("invalid type: integer `7`, expected a boolean", "`a.b`: true or false is expected, not 7"),
            ("invalid type: null, expected struct Root", "`a.b`: an object is expected, not null"),
            (
                "invalid value: integer `-1`, expected u8",
                "`a.b`: -1 is out of range; a whole number from 0 to 255 is expected",
            ),
            ("unknown variant `x`, expected `y` or `z`", "`a.b`: `x` is unknown; `y` or `z` is expected"),
            (
                "unknown variant `memroy`, expected one of `cpu`, `memory`, `pids` at line 2 column 3",
                "`a.b`: `memroy` is unknown at line 2 column 3; `memory` comes nearest",
            ),
            (
                "unknown variant `zzz`, expected one of `cpu`, `memory`, `pids` at line 2 column 3",
                "`a.b`: `zzz` is unknown at line 2 column 3; one of `cpu`, `memory`, `pids` is expected",
            ),
            ("missing field `c` at line 1 column 2", "`a.b.c` is missing at line 1 column 2"),
            ("duplicate field `c`", "`a.b`: `c` is there twice"),
            ("recursion limit exceeded at line 1 column 2", "`a.b`: it is nested over 127 deep at line 1 column 2"),
            ("EOF while parsing an object", "`a.b`: EOF while parsing an object"),
        ] {
            assert_eq!(said(serde), ours);
        }
        assert_eq!(error("a", "missing field `c`").property(), Some("a.c"));
    }

    #[test]
    fn a_name_stands_once_in_an_object() {
        let read = |text: &str| serde_json::from_str::<Unique>(text);
        let text = r#"{"a":[1,-1,1.5,null,true,"x",{"a":1}],"b":{}}"#;
        assert_eq!(read(text).unwrap().0, serde_json::from_str::<Value>(text).unwrap());
        assert!(read(r#"{"a":[{"b":1,"b":1}]}"#).is_err());
    }
}
