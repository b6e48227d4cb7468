//! A connection to a systemd: over a message bus, or straight to the socket that systemd itself listens on.
//!
//! Synchronous, and with an end to every wait. Authentication is EXTERNAL without a name: the other side takes the user
//! from the socket's credentials, which are right in its own user namespace, where a number sent from another one, such
//! as podman's, would not be.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::address::dial;
use super::message::{Kind, Message};
use super::other_manager;
use super::wire::Value;
use crate::error::{Error, Result};

/// How long a call may wait for its reply. systemd answers within milliseconds, or has bigger troubles.
const PATIENCE: Duration = Duration::from_secs(25);
/// The longest line of an authentication.
const LINE: usize = 4096;

const BUS: &str = "org.freedesktop.DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A call that came to nothing.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The other side refused: the D-Bus error's name, and its words.
    Said(String, String),
    /// There was no answer.
    Lost(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Lost(error)
    }
}

impl Refusal {
    /// Whether it is systemd's, or the bus's, error of this name (its last component).
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self, Refusal::Said(full, _) if full.rsplit('.').next() == Some(name))
    }

    /// As an error of this program.
    pub(super) fn error(self) -> Error {
        match self {
            Refusal::Lost(error) => error,
            Refusal::Said(name, words) if words.is_empty() => Error::system(name),
            Refusal::Said(_, words) => Error::system(words.trim_end_matches('.')),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    address: String,
    /// Whether there is a message bus in between.
    brokered: bool,
    serial: u32,
    received: Vec<u8>,
    /// `JobRemoved` signals that came while something else was waited for: job and result.
    jobs: Vec<(String, String)>,
}

impl Bus {
    /// Connects to the first address at which anybody listens, and asks to be told of jobs that end.
    pub(super) fn connect(addresses: &[String]) -> Result<Bus> {
        let mut failure = None;
        for address in addresses {
            match Bus::open(address) {
                Ok(bus) => return Ok(bus),
                // The first address is the one that was to be expected.
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let error = failure.unwrap_or_else(|| Error::system("no address of a bus is known"));
        Err(error.context("connect to systemd").advise(other_manager("does without systemd")))
    }

    fn open(address: &str) -> Result<Bus> {
        let (stream, brokered) = dial(address)?;
        let mut bus =
            Bus { stream, address: address.to_owned(), brokered, serial: 0, received: Vec::new(), jobs: Vec::new() };
        bus.authenticate().map_err(|error| error.context(format!("authenticate to `{address}`")))?;
        if brokered {
            let rule = format!(
                "type='signal',sender='{SYSTEMD}',path='{MANAGER_PATH}',interface='{MANAGER}',member='JobRemoved'"
            );
            bus.call_at(BUS, "/org/freedesktop/DBus", BUS, "Hello", vec![]).map_err(Refusal::error)?;
            bus.call_at(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", vec![Value::Str(rule)])
                .map_err(Refusal::error)?;
        }
        Ok(bus)
    }

    /// Where it is connected to.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Calls the manager.
    pub(super) fn manager(&mut self, member: &str, body: Vec<Value>) -> Result<Vec<Value>, Refusal> {
        self.call_at(SYSTEMD, MANAGER_PATH, MANAGER, member, body)
    }

    /// A property of an object of systemd's.
    pub(super) fn property(&mut self, path: &str, interface: &str, name: &str) -> Result<Value, Refusal> {
        let body = vec![Value::str(interface), Value::str(name)];
        let mut reply = self.call_at(SYSTEMD, path, "org.freedesktop.DBus.Properties", "Get", body)?;
        match reply.pop() {
            Some(Value::Variant(value)) => Ok(*value),
            _ => Err(Error::system(format!("systemd gives no value of `{name}`")).into()),
        }
    }

    /// Waits until a job has ended, and says how: `done` if it did what it was to do.
    pub(super) fn job(&mut self, job: &str, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(index) = self.jobs.iter().position(|(path, _)| path == job) {
                return Ok(self.jobs.swap_remove(index).1);
            }
            let message = self.receive(deadline, "the end of a job")?;
            self.note(&message);
        }
    }

    fn call_at(
        &mut self,
        to: &str,
        path: &str,
        interface: &str,
        member: &str,
        body: Vec<Value>,
    ) -> Result<Vec<Value>, Refusal> {
        self.serial += 1;
        let serial = self.serial;
        let mut message = Message::call(serial, path, interface, member, body);
        message.destination = self.brokered.then(|| to.to_owned());
        self.send(&message.encode())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let reply = self.receive(deadline, member)?;
            if reply.reply_to != Some(serial) {
                self.note(&reply);
                continue;
            }
            return match reply.kind {
                Kind::Reply => Ok(reply.body),
                _ => {
                    let words = reply.body.first().and_then(Value::as_str).unwrap_or_default().to_owned();
                    Err(Refusal::Said(reply.error.unwrap_or_default(), words))
                }
            };
        }
    }

    /// Keeps what a signal tells of a job.
    fn note(&mut self, message: &Message) {
        if message.kind != Kind::Signal || message.member.as_deref() != Some("JobRemoved") {
            return;
        }
        if let [_, job, _, result] = &message.body[..]
            && let (Some(job), Some(result)) = (job.as_str(), result.as_str())
        {
            self.jobs.push((job.to_owned(), result.to_owned()));
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = self.stream.set_write_timeout(Some(PATIENCE)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|e| Error::system(format!("send to `{}`: {e}", self.address)))
    }

    /// The next message.
    fn receive(&mut self, deadline: Instant, what: &str) -> Result<Message> {
        loop {
            match Message::decode(&self.received) {
                Ok(Some((message, length))) => {
                    self.received.drain(..length);
                    return Ok(message);
                }
                Ok(None) => self.fill(deadline, what)?,
                Err(why) => return Err(Error::system(format!("`{}` sent {why}", self.address))),
            }
        }
    }

    /// Waits for more bytes.
    fn fill(&mut self, deadline: Instant, what: &str) -> Result<()> {
        let mut piece = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::system(format!("`{}` does not answer: {what} is waited for in vain", self.address)));
            }
            let read = self.stream.set_read_timeout(Some(left)).and_then(|()| self.stream.read(&mut piece));
            match read {
                Ok(0) => return Err(Error::system(format!("`{}` has closed the connection", self.address))),
                Ok(n) => {
                    self.received.extend_from_slice(&piece[..n]);
                    return Ok(());
                }
                Err(e) => match e.kind() {
                    std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock => {}
                    _ => return Err(Error::system(format!("receive from `{}`: {e}", self.address))),
                },
            }
        }
    }

    /// "Authentication Protocol": the nul byte, EXTERNAL, an empty answer to the question who this is, and the begin, all
    /// at once. systemd's own socket forgets a call that it reads together with the begin: it must have read that before.
    fn authenticate(&mut self) -> Result<()> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line(deadline)?;
            match line.split(' ').next() {
                Some("DATA") => {}
                Some("OK") => return Ok(()),
                _ => return Err(Error::system(format!("refused: `{}`", line.escape_default()))),
            }
        }
    }

    fn line(&mut self, deadline: Instant) -> Result<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.received[..end]).into_owned();
                self.received.drain(..end + 2);
                return Ok(line);
            }
            if self.received.len() > LINE {
                return Err(Error::system("a line that does not end"));
            }
            self.fill(deadline, "authentication")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::of_path;
    use super::*;

    #[test]
    fn a_missing_bus_is_told_with_what_to_do() {
        let error = Bus::connect(&["unix:path=/nonexistent/bus".into(), "tcp:x".into()]).unwrap_err().to_string();
        let why = "connect to systemd: `unix:path=/nonexistent/bus`: there is no such socket";
        let what = other_manager("does without systemd");
        assert_eq!(error, format!("{why} ({what})"));
    }

    /// The other end of a connection: authenticates, then answers each call with what `answer` makes of it.
    fn serve(answer: impl Fn(&Message) -> Vec<Message> + Send + 'static) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
            stream.write_all(b"DATA\r\nOK 1234\r\n").unwrap();
            let mut received = Vec::new();
            while let Ok(n) = stream.read(&mut buffer) {
                if n == 0 {
                    return;
                }
                received.extend_from_slice(&buffer[..n]);
                while let Ok(Some((message, length))) = Message::decode(&received) {
                    received.drain(..length);
                    for answer in answer(&message) {
                        // In two pieces: a message may come in any.
                        let bytes = answer.encode();
                        let (first, second) = bytes.split_at(bytes.len() / 2);
                        stream.write_all(first).unwrap();
                        std::thread::sleep(Duration::from_millis(2));
                        stream.write_all(second).unwrap();
                    }
                }
            }
        });
        (dir, of_path(&path))
    }

    fn reply(to: &Message, kind: Kind, body: Vec<Value>) -> Message {
        let error = (kind == Kind::Error).then(|| "org.freedesktop.systemd1.UnitExists".to_owned());
        let none = Message::call(9, "", "", "", body);
        Message { kind, reply_to: Some(to.serial), path: None, interface: None, member: None, error, ..none }
    }

    #[test]
    fn a_job_that_ends_before_the_reply_is_not_missed() {
        let (_dir, address) = serve(|message| {
            let ended = vec![Value::U32(1), Value::Path("/j/1".into()), Value::str("u"), Value::str("done")];
            let signal = Message { kind: Kind::Signal, ..Message::call(8, "/m", "i", "JobRemoved", ended) };
            match message.member.as_deref() {
                Some("StartTransientUnit") => {
                    vec![signal, reply(message, Kind::Reply, vec![Value::Path("/j/1".into())])]
                }
                Some("StopUnit") => vec![reply(message, Kind::Error, vec![Value::str("It is there.")])],
                _ => vec![reply(message, Kind::Reply, vec![])],
            }
        });
        let mut bus = Bus::connect(&[address]).unwrap();
        let job = bus.manager("StartTransientUnit", vec![]).unwrap();
        assert_eq!(job, [Value::Path("/j/1".into())]);
        assert_eq!(bus.job("/j/1", Duration::from_secs(5)).unwrap(), "done");
        let refusal = bus.manager("StopUnit", vec![]).unwrap_err();
        assert!(refusal.is("UnitExists") && !refusal.is("NoSuchUnit"));
        assert_eq!(refusal.error().to_string(), "It is there");
        let error = bus.job("/j/2", Duration::from_millis(20)).unwrap_err().to_string();
        assert!(error.contains("does not answer"), "{error}");
    }
}
