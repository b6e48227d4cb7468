//! Standard input, output and error.

use std::os::fd::BorrowedFd;

use rustix::fs::FileType;

/// Which of the three are the null device, whoever's. What can't be looked at is closed, and none.
pub fn null_devices() -> [bool; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()].map(is_null)
}

/// Whether an fd is on the null device.
pub fn is_null(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3)
    })
}
