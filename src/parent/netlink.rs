//! The few requests of rtnetlink(7) that move a network device: links and addresses.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::os::fd::OwnedFd;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFF_UP: u32 = 1;

/// Flags of an address that say how it is to be, not what the kernel has found out: no DAD, no prefix route, temporaries.
const FLAGS_KEPT: u32 = 0x02 | 0x200 | 0x100;
const FLAG_PERMANENT: u32 = 0x80;

/// A socket in the network namespace of the thread that opens it.
pub(super) struct Netlink {
    socket: OwnedFd,
}

/// A device.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) name: String,
}

/// An address of a device.
#[derive(Clone, Debug)]
pub(super) struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Netlink {
    pub(super) fn open() -> Result<Netlink, Errno> {
        // Protocol 0 is NETLINK_ROUTE.
        let flags = SocketFlags::CLOEXEC;
        Ok(Netlink { socket: socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)? })
    }

    /// All devices.
    pub(super) fn links(&self) -> Result<Vec<Link>, Errno> {
        Ok(self.ask(GET_LINK, DUMP, &link(0, 0, 0))?.iter().filter_map(|body| read_link(body)).collect())
    }

    /// The addresses of a device that a move is to keep: those somebody has set, of global scope.
    pub(super) fn addresses(&self, index: u32) -> Result<Vec<Address>, Errno> {
        let answers = self.ask(GET_ADDRESS, DUMP, &[0; 8])?;
        Ok(answers.iter().filter_map(|body| read_address(body, index)).collect())
    }

    /// Moves a device to another network namespace, where it has `name`. It is down there, and has no address.
    pub(super) fn move_link(&self, index: u32, namespace: i32, name: &str) -> Result<(), Errno> {
        let mut body = link(index, 0, 0);
        attribute(&mut body, IFLA_NET_NS_FD, &namespace.to_ne_bytes());
        attribute(&mut body, IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
        self.ask(NEW_LINK, ACK, &body).map(drop)
    }

    pub(super) fn add_address(&self, index: u32, address: &Address) -> Result<(), Errno> {
        const GLOBAL: u8 = 0;
        let mut body = vec![address.family, address.prefix, 0, GLOBAL];
        body.extend(index.to_ne_bytes());
        address.attributes.iter().for_each(|(kind, data)| attribute(&mut body, *kind, data));
        attribute(&mut body, IFA_FLAGS, &address.flags.to_ne_bytes());
        self.ask(NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, &body).map(drop)
    }

    pub(super) fn bring_up(&self, index: u32) -> Result<(), Errno> {
        self.ask(NEW_LINK, ACK, &link(index, IFF_UP, IFF_UP)).map(drop)
    }

    /// Sends one request; the bodies of the answers.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&self.socket, &message, SendFlags::empty())?;
        let (mut answers, mut buffer) = (vec![], vec![0; 64 * 1024]);
        loop {
            let (read, _) = rustix::io::retry_on_intr(|| recv(&self.socket, &mut buffer[..], RecvFlags::empty()))?;
            let mut rest = &buffer[..read];
            while let Some((kind, body, next)) = split(rest) {
                rest = next;
                match kind {
                    ERROR => match number(body, 0).unwrap_or(0) {
                        0 => return Ok(answers),
                        errno => return Err(Errno::from_raw_os_error(errno.wrapping_neg() as i32)),
                    },
                    DONE => return Ok(answers),
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

/// A `struct ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), change.to_ne_bytes()].concat()
}

fn attribute(message: &mut Vec<u8>, kind: u16, data: &[u8]) {
    message.extend(((4 + data.len()) as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(data);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The first message: its kind, its body, and what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = number(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    Some((kind, bytes.get(HEADER..len)?, bytes.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = vec![];
    while let Some(head) = bytes.get(..4) {
        let len = u16::from_ne_bytes([head[0], head[1]]) as usize;
        let Some(data) = bytes.get(4..len) else { break };
        all.push((u16::from_ne_bytes([head[2], head[3]]), data));
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn read_link(body: &[u8]) -> Option<Link> {
    let name = attributes(body.get(16..)?).into_iter().find(|(kind, _)| *kind == IFLA_IFNAME)?.1;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    Some(Link { index: number(body, 4)?, up: number(body, 8)? & IFF_UP != 0, name })
}

fn read_address(body: &[u8], index: u32) -> Option<Address> {
    let (family, prefix, short, scope) = (*body.first()?, *body.get(1)?, *body.get(2)?, *body.get(3)?);
    let all = attributes(body.get(8..)?);
    let long = all.iter().find(|(kind, _)| *kind == IFA_FLAGS).and_then(|(_, data)| number(data, 0));
    let flags = long.unwrap_or(short.into());
    if number(body, 4)? != index || scope != 0 || flags & FLAG_PERMANENT == 0 {
        return None;
    }
    let kept = all.into_iter().filter(|(kind, _)| matches!(*kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST));
    let attributes = kept.map(|(kind, data)| (kind, data.to_vec())).collect();
    Some(Address { family, prefix, flags: flags & FLAGS_KEPT, attributes })
}
