//! Moves network devices of the host to the container, and back if it does not come about.
//! runtime-spec, config-linux.md, "Network Devices"; rtnetlink(7).

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sched::CloneFlags;
use rustix::io::Errno;

use super::netlink::{Address, Link, Netlink};
use crate::error::{Context, Error, Result};
use crate::plan::net_devices::NetDevicePlan;
use crate::procfs::Proc;

/// Devices that are in the container's network namespace. When dropped they go back, unless they are let go.
pub(super) struct Moved {
    host: OwnedFd,
    container: OwnedFd,
    devices: Vec<Device>,
}

struct Device {
    was: Link,
    /// Its name and its number there; the number once it is known.
    name: String,
    index: Option<u32>,
    addresses: Vec<Address>,
}

impl Moved {
    /// Moves all of them to the network namespace of process `pid`.
    ///
    /// # Errors
    /// The device, and what was refused of it. Those that were moved before are back.
    pub(super) fn to(plans: &[NetDevicePlan], pid: i32, proc: &Proc) -> Result<Moved> {
        let host = proc.open_namespace("self", "net")?;
        let container = proc.open_namespace(&pid.to_string(), "net")?;
        let number = |fd: &OwnedFd| crate::sys::identity(fd.as_fd()).context(|| "fstat");
        if number(&host)? == number(&container)? {
            return Err(Error::config("`linux.netDevices`: the container's network namespace is the host's own"));
        }
        let mut moved = Moved { host, container, devices: vec![] };
        for plan in plans {
            moved.one(plan).context(|| format!("`linux.netDevices.{}`", plan.host))?;
        }
        Ok(moved)
    }

    /// The container has them for good: what becomes of them when its namespace ends is the kernel's to decide.
    pub(super) fn let_go(mut self) {
        self.devices.clear();
    }

    fn one(&mut self, plan: &NetDevicePlan) -> Result<()> {
        let here = Netlink::open().context(|| "open a netlink socket")?;
        let there = netlink_in(&self.container)?;
        let found = here.links().context(|| "list the host's devices")?.into_iter().find(|link| link.name == plan.host);
        let was = found.ok_or_else(|| Error::call("look for the device", Errno::NODEV))?;
        let addresses = here.addresses(was.index).context(|| "list its addresses")?;
        let before = there.links().context(|| "list the container's devices")?;
        if before.iter().any(|link| link.name == plan.name) {
            return Err(Error::call(format!("the container has a device `{}` already", plan.name), Errno::EXIST));
        }
        here.move_link(was.index, self.container.as_raw_fd(), &plan.name)
            .context(|| "move it to the container's network namespace")
            .map_err(|e| match e.errno() {
                Some(Errno::INVAL) => e.advise("a device of its kind stays where it is"),
                Some(Errno::PERM) => e.advise("it needs CAP_NET_ADMIN over both network namespaces"),
                _ => e,
            })?;
        // From here on it goes back if anything fails.
        self.devices.push(Device { was, name: plan.name.clone(), index: None, addresses });
        let after = there.links().context(|| "list the container's devices")?;
        let new = after.into_iter().find(|link| before.iter().all(|old| old.index != link.index));
        let new = new.ok_or_else(|| Error::system("it was moved, and is not in the container"))?;
        let at = self.devices.len() - 1;
        let device = &mut self.devices[at];
        device.index = Some(new.index);
        settle(&there, new.index, &device.addresses, true)
    }

    fn back(&self, device: &Device) -> Result<()> {
        let there = netlink_in(&self.container)?;
        let index = match device.index {
            Some(index) => index,
            None => {
                let links = there.links().context(|| "list the container's devices")?;
                let link = links.into_iter().find(|link| link.name == device.name);
                link.ok_or_else(|| Error::call(format!("find the network device `{}`", device.name), Errno::NODEV))?
                    .index
            }
        };
        there
            .move_link(index, self.host.as_raw_fd(), &device.was.name)
            .context(|| format!("move the network device `{}` back to the host", device.was.name))?;
        let here = Netlink::open().context(|| "open a netlink socket")?;
        let links = here.links().context(|| "list the host's devices")?;
        let link = links.into_iter().find(|link| link.name == device.was.name);
        link.map_or(Ok(()), |link| settle(&here, link.index, &device.addresses, device.was.up))
    }
}

/// Gives a device what a move has taken.
fn settle(netlink: &Netlink, index: u32, addresses: &[Address], up: bool) -> Result<()> {
    for address in addresses {
        netlink.add_address(index, address).context(|| "give it its address again")?;
    }
    if up { netlink.bring_up(index).context(|| "bring it up") } else { Ok(()) }
}

/// A socket in another network namespace, opened by a thread that enters it.
fn netlink_in(namespace: &OwnedFd) -> Result<Netlink> {
    let open = || -> Result<Netlink> {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).context(|| "setns to the network namespace")?;
        Netlink::open().context(|| "open a netlink socket")
    };
    std::thread::scope(|scope| scope.spawn(open).join())
        .map_err(|_| Error::system("the thread in the container's network namespace panicked"))?
}

impl Drop for Moved {
    fn drop(&mut self) {
        for device in self.devices.iter().rev() {
            if let Err(e) = self.back(device) {
                log::warn!("{e}");
            }
        }
    }
}
