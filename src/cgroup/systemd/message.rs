//! D-Bus messages as bytes (D-Bus Specification, "Message Format").

use super::wire::{Reader, Value, pad, put, signature, split};

/// Longer messages are legal and nothing that systemd sends.
const LONGEST: usize = 16 << 20;

/// What kind a message is; a method call is only ever sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Reply,
    Error,
    Signal,
}

/// One message, as far as this program looks at it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) serial: u32,
    pub(super) reply_to: Option<u32>,
    pub(super) path: Option<String>,
    pub(super) interface: Option<String>,
    /// The member called, or the signal.
    pub(super) member: Option<String>,
    pub(super) error: Option<String>,
    pub(super) destination: Option<String>,
    pub(super) body: Vec<Value>,
}

impl Message {
    pub(super) fn call(serial: u32, path: &str, interface: &str, member: &str, body: Vec<Value>) -> Message {
        Message {
            kind: Kind::Call,
            serial,
            reply_to: None,
            path: Some(path.to_owned()),
            interface: Some(interface.to_owned()),
            member: Some(member.to_owned()),
            error: None,
            destination: None,
            body,
        }
    }

    /// The bytes to send.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.body.iter().for_each(|value| put(&mut body, value));
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Reply => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
        };
        let mut bytes = vec![b'l', kind, 0, 1];
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(self.serial.to_le_bytes());
        let text = |value: &Option<String>| value.clone().map(Value::Str);
        let fields = [
            (1, self.path.clone().map(Value::Path)),
            (2, text(&self.interface)),
            (3, text(&self.member)),
            (4, text(&self.error)),
            (5, self.reply_to.map(Value::U32)),
            (6, text(&self.destination)),
            (8, (!self.body.is_empty()).then(|| Value::Signature(signature(&self.body)))),
        ];
        let fields = fields.into_iter().filter_map(|(code, value)| {
            value.map(|value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]))
        });
        put(&mut bytes, &Value::Array("(yv)".into(), fields.collect()));
        pad(&mut bytes, 8);
        bytes.extend(body);
        bytes
    }

    /// The first message in `bytes` and its length; `None` while it is not whole.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<(Message, usize)>, &'static str> {
        let Some(head) = bytes.get(..16) else { return Ok(None) };
        if head[0] != b'l' {
            return Err("a message that is not little-endian");
        }
        if head[3] != 1 {
            return Err("a message of another protocol version");
        }
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (body, serial, fields) = (word(4) as usize, word(8), word(12) as usize);
        let start = (16 + fields).next_multiple_of(8);
        let length = start.saturating_add(body);
        if fields > LONGEST || length > LONGEST {
            return Err("a message that is too long");
        }
        let Some(whole) = bytes.get(..length) else { return Ok(None) };
        let kind = match head[1] {
            1 => Kind::Call,
            2 => Kind::Reply,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => return Err("a message of an unknown kind"),
        };
        let mut message = Message { kind, ..Message::call(serial, "", "", "", vec![]) };
        (message.path, message.interface, message.member) = (None, None, None);
        let mut reader = Reader { bytes: &whole[..16 + fields], at: 12 };
        let mut body_signature = String::new();
        let Value::Array(_, fields) = reader.value("a(yv)", 0)? else { return Err("no header fields") };
        for field in fields {
            let Value::Struct(pair) = field else { continue };
            let [Value::Byte(code), Value::Variant(value)] = &pair[..] else { continue };
            let text = || value.as_str().map(str::to_owned);
            match (code, &**value) {
                (1, _) => message.path = text(),
                (2, _) => message.interface = text(),
                (3, _) => message.member = text(),
                (4, _) => message.error = text(),
                (5, Value::U32(serial)) => message.reply_to = Some(*serial),
                (6, _) => message.destination = text(),
                (8, Value::Signature(signature)) => body_signature.clone_from(signature),
                _ => {}
            }
        }
        // Alignment counts from the message's begin, and the body's is a multiple of 8.
        let mut reader = Reader { bytes: &whole[start..], at: 0 };
        let mut rest = body_signature.as_str();
        while !rest.is_empty() {
            let (first, others) = split(rest)?;
            message.body.push(reader.value(first, 0)?);
            rest = others;
        }
        Ok(Some((message, length)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn every_kind() -> Vec<Value> {
        vec![
            Value::Byte(1),
            Value::Bool(true),
            Value::I16(-2),
            Value::U16(3),
            Value::I32(-4),
            Value::U32(5),
            Value::I64(-6),
            Value::U64(u64::MAX),
            Value::Double(1.5),
            Value::str("text"),
            Value::Path("/a".into()),
            Value::Signature("a(sv)".into()),
            Value::strings(&["a", "bc"]),
            Value::Array("(st)".into(), vec![]),
            Value::bytes(&[1, 2, 3]),
            Value::Struct(vec![Value::Byte(1), Value::U64(2)]),
            Value::Variant(Box::new(Value::strings(&["x"]))),
        ]
    }

    #[test]
    fn comes_back_as_it_went() {
        let mut message = Message::call(7, "/o", "i.f", "M", every_kind());
        message.destination = Some("d.e".into());
        let bytes = message.encode();
        let (again, length) = Message::decode(&bytes).unwrap().unwrap();
        assert_eq!((again, length), (message, bytes.len()));
        for cut in 0..bytes.len() {
            assert_eq!(Message::decode(&bytes[..cut]), Ok(None), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(&bytes);
            if bytes.len() > 16 {
                bytes[..4].copy_from_slice(&[b'l', 4, 0, 1]);
                bytes[4..8].copy_from_slice(&0u32.to_le_bytes());
                bytes[12..16].copy_from_slice(&8u32.to_le_bytes());
                let _ = Message::decode(&bytes);
            }
        }

        #[test]
        fn no_changed_byte_breaks_it(at in 0usize..400, byte in any::<u8>()) {
            let mut bytes = Message::call(7, "/o", "i.f", "M", every_kind()).encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Message::decode(&bytes);
        }
    }
}
