//! The values that systemd is told and tells, and their encoding (D-Bus Specification, "Marshaling").
//!
//! Every length and signature that is read is checked: what is broken is an error, never a panic.

use std::fmt::Write as _;

use serde::Serialize;

/// The specification's bound for nested containers is 64 in all.
const DEEPEST: usize = 64;

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Str(String),
    /// An object path.
    Path(String),
    Signature(String),
    /// The elements' signature, and the elements.
    Array(String, Vec<Value>),
    /// Also a dictionary's entry, when it is read.
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    pub(super) fn str(text: impl Into<String>) -> Value {
        Value::Str(text.into())
    }

    pub(super) fn strings(list: &[&str]) -> Value {
        Value::Array("s".into(), list.iter().map(|text| Value::str(*text)).collect())
    }

    pub(super) fn bytes(bytes: &[u8]) -> Value {
        Value::Array("y".into(), bytes.iter().map(|byte| Value::Byte(*byte)).collect())
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) | Value::Path(text) => Some(text),
            Value::Variant(inner) => inner.as_str(),
            _ => None,
        }
    }

    /// The value's type.
    pub(super) fn signature(&self) -> String {
        let basic = match self {
            Value::Byte(_) => "y",
            Value::Bool(_) => "b",
            Value::I16(_) => "n",
            Value::U16(_) => "q",
            Value::I32(_) => "i",
            Value::U32(_) => "u",
            Value::I64(_) => "x",
            Value::U64(_) => "t",
            Value::Double(_) => "d",
            Value::Str(_) => "s",
            Value::Path(_) => "o",
            Value::Signature(_) => "g",
            Value::Variant(_) => "v",
            Value::Array(of, _) => return format!("a{of}"),
            Value::Struct(fields) => return format!("({})", signature(fields)),
        };
        basic.to_owned()
    }
}

/// The signature of values in a row.
pub(super) fn signature(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

pub(super) fn pad(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

/// The alignment of a type, by the first letter of its signature.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b's' | b'o' | b'a' | b'h') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

pub(super) fn put(bytes: &mut Vec<u8>, value: &Value) {
    pad(bytes, alignment(&value.signature()));
    match value {
        Value::Byte(v) => bytes.push(*v),
        Value::Bool(v) => bytes.extend(u32::from(*v).to_le_bytes()),
        Value::I16(v) => bytes.extend(v.to_le_bytes()),
        Value::U16(v) => bytes.extend(v.to_le_bytes()),
        Value::I32(v) => bytes.extend(v.to_le_bytes()),
        Value::U32(v) => bytes.extend(v.to_le_bytes()),
        Value::I64(v) => bytes.extend(v.to_le_bytes()),
        Value::U64(v) => bytes.extend(v.to_le_bytes()),
        Value::Double(v) => bytes.extend(v.to_le_bytes()),
        Value::Str(text) | Value::Path(text) => {
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        Value::Signature(text) => {
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
        Value::Array(of, elements) => {
            // The length is that of the elements alone, without what aligns the first.
            let length_at = bytes.len();
            bytes.extend([0; 4]);
            pad(bytes, alignment(of));
            let begin = bytes.len();
            elements.iter().for_each(|element| put(bytes, element));
            let length = (bytes.len() - begin) as u32;
            bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        }
        Value::Struct(fields) => fields.iter().for_each(|field| put(bytes, field)),
        Value::Variant(inner) => {
            put(bytes, &Value::Signature(inner.signature()));
            put(bytes, inner);
        }
    }
}

/// Splits a signature after its first complete type.
pub(super) fn split(signature: &str) -> Result<(&str, &str), &'static str> {
    let end = end_of_type(signature.as_bytes(), 0, 0)?;
    Ok(signature.split_at(end))
}

fn end_of_type(text: &[u8], at: usize, depth: usize) -> Result<usize, &'static str> {
    if depth > DEEPEST {
        return Err("a signature that is too deep");
    }
    match text.get(at) {
        Some(b'a') => end_of_type(text, at + 1, depth + 1),
        Some(open @ (b'(' | b'{')) => {
            let close = if *open == b'(' { b')' } else { b'}' };
            let mut next = at + 1;
            while text.get(next) != Some(&close) {
                next = end_of_type(text, next, depth + 1)?;
            }
            if next == at + 1 {
                return Err("a signature with an empty container");
            }
            Ok(next + 1)
        }
        Some(b'y' | b'b' | b'n' | b'q' | b'i' | b'u' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' | b'h') => {
            Ok(at + 1)
        }
        _ => Err("a broken signature"),
    }
}

pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        self.align(N);
        let bytes = self.bytes.get(self.at..self.at + N).ok_or("a message that ends too early")?;
        self.at += N;
        bytes.try_into().map_err(|_| "a message that ends too early")
    }

    fn text(&mut self, length: usize) -> Result<String, &'static str> {
        let end = self.at.checked_add(length).ok_or("a text that is too long")?;
        let bytes = self.bytes.get(self.at..end).ok_or("a message that ends too early")?;
        self.at = end + 1;
        String::from_utf8(bytes.to_vec()).map_err(|_| "a text that is not UTF-8")
    }

    /// Reads one value of the type.
    pub(super) fn value(&mut self, signature: &str, depth: usize) -> Result<Value, &'static str> {
        if depth > DEEPEST {
            return Err("a message that is too deep");
        }
        self.align(alignment(signature));
        let letter = signature.as_bytes().first().copied().unwrap_or_default();
        Ok(match letter {
            b'y' => Value::Byte(self.take::<1>()?[0]),
            b'b' => Value::Bool(u32::from_le_bytes(self.take()?) != 0),
            b'n' => Value::I16(i16::from_le_bytes(self.take()?)),
            b'q' => Value::U16(u16::from_le_bytes(self.take()?)),
            b'i' => Value::I32(i32::from_le_bytes(self.take()?)),
            b'u' | b'h' => Value::U32(u32::from_le_bytes(self.take()?)),
            b'x' => Value::I64(i64::from_le_bytes(self.take()?)),
            b't' => Value::U64(u64::from_le_bytes(self.take()?)),
            b'd' => Value::Double(f64::from_le_bytes(self.take()?)),
            b's' | b'o' => {
                let length = u32::from_le_bytes(self.take()?) as usize;
                let text = self.text(length)?;
                if letter == b's' { Value::Str(text) } else { Value::Path(text) }
            }
            b'g' => {
                let length = usize::from(self.take::<1>()?[0]);
                Value::Signature(self.text(length)?)
            }
            b'v' => {
                let length = usize::from(self.take::<1>()?[0]);
                let inner = self.text(length)?;
                let (first, rest) = split(&inner)?;
                if !rest.is_empty() {
                    return Err("a variant of several values");
                }
                Value::Variant(Box::new(self.value(first, depth + 1)?))
            }
            b'a' => {
                let of = &signature[1..];
                let length = u32::from_le_bytes(self.take()?) as usize;
                self.align(alignment(of));
                let end = self.at.saturating_add(length);
                if end > self.bytes.len() {
                    return Err("an array that is longer than its message");
                }
                let mut elements = Vec::new();
                while self.at < end {
                    elements.push(self.value(of, depth + 1)?);
                }
                Value::Array(of.to_owned(), elements)
            }
            b'(' | b'{' => {
                let mut rest = &signature[1..signature.len() - 1];
                let mut fields = Vec::new();
                while !rest.is_empty() {
                    let (first, others) = split(rest)?;
                    fields.push(self.value(first, depth + 1)?);
                    rest = others;
                }
                Value::Struct(fields)
            }
            _ => return Err("a broken signature"),
        })
    }
}

/// The object path of a unit: its name with everything but letters and digits as `_XX`.
pub(super) fn unit_path(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (index, byte) in unit.bytes().enumerate() {
        match byte {
            b'0'..=b'9' if index > 0 => path.push(char::from(byte)),
            b'a'..=b'z' | b'A'..=b'Z' => path.push(char::from(byte)),
            _ => {
                let _ = write!(path, "_{byte:02x}");
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_laid_out_as_specified() {
        // From the specification's rules by hand: an array of structs is aligned to 8 after its length.
        let mut bytes = Vec::new();
        put(&mut bytes, &Value::Array("(yu)".into(), vec![Value::Struct(vec![Value::Byte(9), Value::U32(1)])]));
        assert_eq!(bytes, [8, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0]);
        let mut bytes = Vec::new();
        put(&mut bytes, &Value::Variant(Box::new(Value::U64(1))));
        assert_eq!(bytes, [1, b't', 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn splits_signatures() {
        assert_eq!(split("a(sv)u"), Ok(("a(sv)", "u")));
        assert_eq!(split("(a{sv}s)"), Ok(("(a{sv}s)", "")));
        for bad in ["", "a", "(", "(s", "()", "z", "a{", ")"] {
            assert!(split(bad).is_err(), "{bad}");
        }
        assert!(split(&"a".repeat(100)).is_err());
    }

    #[test]
    fn unit_paths_are_escaped() {
        assert_eq!(unit_path("libpod-a1.scope"), "/org/freedesktop/systemd1/unit/libpod_2da1_2escope");
        assert_eq!(unit_path("1a"), "/org/freedesktop/systemd1/unit/_31a");
    }
}
