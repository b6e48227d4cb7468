//! The kernel as the child calls it, and what the child runs: the crates themselves. All of `src/child`, and what it shares
//! with the parent (`src/procfs.rs`, `src/filesystem.rs`, `src/node.rs`, `src/stdio.rs`), names them through here.
//!
//! Under test and fuzzing a double stands in between. It passes everything on until a thread plays a child in it
//! ([`played`]); then it notes what would be done, and does none of it. What it does not know does not compile: no call can
//! be forgotten. A build for use has no part of this but these two lines.

#[cfg(not(any(test, fuzzing)))]
pub(crate) use {crate::hooks, crate::sys, ::nix, ::rustix, std::thread};

#[cfg(any(test, fuzzing))]
mod calls;
#[cfg(any(test, fuzzing))]
mod order;
#[cfg(any(test, fuzzing))]
pub(crate) mod played;
#[cfg(any(test, fuzzing))]
mod world;

#[cfg(any(test, fuzzing))]
pub(crate) use calls::{hooks, nix, rustix, sys, thread};
#[cfg(any(test, fuzzing))]
pub(crate) use world::note;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// One that named a crate by itself would go past the double.
    #[test]
    fn the_childs_files_name_the_kernel_through_here() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let child = std::fs::read_dir(src.join("child")).unwrap().map(|file| file.unwrap().path());
        for file in child.chain(["procfs.rs", "filesystem.rs", "node.rs", "stdio.rs"].map(|file| src.join(file))) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for past in
                ["use rustix", "use nix", " ::rustix", "crate::sys", "crate::hooks::run", "std::thread", "libc::sys"]
            {
                assert!(!code.contains(past), "{}: {past}", file.display());
            }
            let uses =
                |name: &str| code.lines().any(|line| !line.trim_start().starts_with("use ") && line.contains(name));
            let has = |all: [&str; 2]| all.iter().any(|way| code.contains(way));
            let both = "use crate::kernel::{nix, rustix};";
            assert!(!uses("rustix::") || has(["use crate::kernel::rustix;", both]), "{}: rustix", file.display());
            assert!(!uses("nix::") || has(["use crate::kernel::nix;", both]), "{}: nix", file.display());
        }
    }
}
