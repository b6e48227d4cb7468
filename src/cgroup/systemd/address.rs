//! Where a systemd can be reached: addresses by user and environment, and the sockets behind them (D-Bus Specification,
//! "Server Addresses").

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Connects a socket; with it, whether a message bus listens there.
pub(super) fn dial(address: &str) -> Result<(UnixStream, bool)> {
    let mut failure = None;
    for entry in address.split(';').filter(|entry| !entry.is_empty()) {
        match place(entry) {
            Some(Place::Path(path)) => {
                // systemd's own socket: a connection without a bus in between.
                let brokered = !path.ends_with("systemd/private");
                match UnixStream::connect(&path) {
                    Ok(stream) => return Ok((stream, brokered)),
                    Err(e) => failure = Some(e),
                }
            }
            Some(Place::Abstract(name)) => {
                let stream = SocketAddr::from_abstract_name(&name).and_then(|a| UnixStream::connect_addr(&a));
                match stream {
                    Ok(stream) => return Ok((stream, true)),
                    Err(e) => failure = Some(e),
                }
            }
            None => {}
        }
    }
    use std::io::ErrorKind;
    // Not the kernel's words for these: engines read "No such file or directory" as a missing executable.
    let why = match failure.map(|e| (e.kind(), e)) {
        None => "only `unix:path=` and `unix:abstract=` are known".to_owned(),
        Some((ErrorKind::NotFound, _)) => "there is no such socket".to_owned(),
        Some((ErrorKind::ConnectionRefused, _)) => "nobody listens there".to_owned(),
        Some((ErrorKind::PermissionDenied, _)) => "this user may not connect".to_owned(),
        Some((_, e)) => e.to_string(),
    };
    Err(Error::system(format!("`{address}`: {why}")))
}

#[derive(Debug, PartialEq)]
enum Place {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// The socket of one entry of an address ("Server Addresses").
fn place(entry: &str) -> Option<Place> {
    let keys = entry.strip_prefix("unix:")?;
    keys.split(',').find_map(|pair| match pair.split_once('=')? {
        ("path", value) => Some(Place::Path(std::ffi::OsString::from_vec(unescape(value)?).into())),
        ("abstract", value) => Some(Place::Abstract(unescape(value)?)),
        _ => None,
    })
}

/// Undoes `%XX`.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    Some(bytes)
}

/// The address of a socket's path.
pub(super) fn of_path(path: &Path) -> String {
    let mut address = String::from("unix:path=");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' | b'.' | b'\\' | b'*' => {
                address.push(char::from(*byte));
            }
            other => address.push_str(&format!("%{other:02x}")),
        }
    }
    address
}

/// What an address is looked for in: environment variables, and the ids.
pub(super) struct Surroundings<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The user, as the initial user namespace names it.
    pub(super) uid: u32,
    /// Whether the user is root, if only in its own user namespace.
    pub(super) root: bool,
    /// Whether it is the machine's root.
    pub(super) machine_root: bool,
}

/// The addresses to try in turn: the machine's systemd for its root, else the user's own.
pub(super) fn addresses(around: &Surroundings<'_>) -> Vec<String> {
    // podman sets variables to nothing that it means to be unset.
    let variable = |name: &str| (around.variable)(name).filter(|value| !value.is_empty());
    let system = || match variable("DBUS_SYSTEM_BUS_ADDRESS") {
        Some(address) => vec![address],
        None => vec![of_path(Path::new("/run/dbus/system_bus_socket")), of_path(Path::new("/run/systemd/private"))],
    };
    if around.machine_root {
        return system();
    }
    let runtime = variable("XDG_RUNTIME_DIR").map_or_else(|| format!("/run/user/{}", around.uid).into(), PathBuf::from);
    let mut addresses = match variable("DBUS_SESSION_BUS_ADDRESS") {
        Some(address) => vec![address],
        None => vec![of_path(&runtime.join("bus")), of_path(&runtime.join("systemd/private"))],
    };
    if around.root {
        // Root of a container that has a systemd of its own.
        addresses.extend(system());
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(set: &[(&str, &str)], root: bool, machine_root: bool) -> Vec<String> {
        let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        addresses(&Surroundings { variable: &variable, uid: 1000, root, machine_root })
    }

    #[test]
    fn addresses_by_user_and_environment() {
        let system = ["unix:path=/run/dbus/system_bus_socket", "unix:path=/run/systemd/private"];
        assert_eq!(find(&[("DBUS_SESSION_BUS_ADDRESS", "x")], true, true), system);
        assert_eq!(find(&[("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/x")], true, true), ["unix:path=/x"]);
        let user = ["unix:path=/run/user/1000/bus", "unix:path=/run/user/1000/systemd/private"];
        assert_eq!(find(&[("XDG_RUNTIME_DIR", "")], false, false), user);
        assert_eq!(find(&[("XDG_RUNTIME_DIR", "/r u")], false, false)[0], "unix:path=/r%20u/bus");
        assert_eq!(find(&[("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=a")], false, false), ["unix:abstract=a"]);
        assert_eq!(find(&[], true, false), [&user[..], &system[..]].concat());
    }

    #[test]
    fn places_in_addresses() {
        assert_eq!(place("unix:path=/a%20b,guid=1"), Some(Place::Path("/a b".into())));
        assert_eq!(place("unix:guid=1,abstract=/tmp/x"), Some(Place::Abstract(b"/tmp/x".to_vec())));
        for bad in ["tcp:host=x", "unix:path=%", "unix:path=%zz", "unix:"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
