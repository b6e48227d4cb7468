//! Warnings about mount options: what the kernel will refuse, and what does nothing.

use oci_spec::runtime::Mount;

use super::Finding;
use super::rootfs::is_bind;
use crate::nearest::nearest;
use crate::plan::options::{LABELS, Options, is_idle_for_bind, known};

/// File systems of the kernel, and the options of each; tmpfs(5), proc(5), Documentation/filesystems of Linux.
const FILESYSTEMS: [(&str, &[&str]); 5] = [
    ("devpts", &["gid", "max", "mode", "newinstance", "ptmxmode", "uid"]),
    ("mqueue", &[]),
    ("proc", &["gid", "hidepid", "pidns", "subset"]),
    ("sysfs", &[]),
    (
        "tmpfs",
        &[
            "casefold",
            "gid",
            "grpquota",
            "grpquota_block_hardlimit",
            "grpquota_inode_hardlimit",
            "huge",
            "inode32",
            "inode64",
            "mode",
            "mpol",
            "noswap",
            "nr_blocks",
            "nr_inodes",
            "quota",
            "size",
            "strict_encoding",
            "uid",
            "usrquota",
            "usrquota_block_hardlimit",
            "usrquota_inode_hardlimit",
        ],
    ),
];

pub(super) fn warnings(i: usize, mount: &Mount) -> Vec<Finding> {
    let words = mount.options().as_deref().unwrap_or_default();
    let at = format!("mounts[{i}].options");
    if is_bind(mount) {
        let idle = words.iter().filter(|word| is_idle_for_bind(word));
        let finding = |word: &String| {
            let message = format!("`{word}` says nothing to who makes a bind mount, and is passed over");
            Finding::warning(&at, message, "leave it out: it is for an engine, or for fstab(5)")
        };
        return idle.map(finding).collect();
    }
    let kind = mount.typ().as_deref().unwrap_or_default();
    let Some((_, options)) = FILESYSTEMS.iter().find(|(name, _)| *name == kind) else { return vec![] };
    // What is wrong otherwise is an error.
    let data = Options::parse(words, &at).unwrap_or_default().data;
    let unknown = data.iter().filter_map(|(key, value)| {
        let message = match value.as_deref() {
            _ if LABELS.contains(&key.as_str()) => None,
            _ if !options.contains(&key.as_str()) => Some(format!("{kind} has no option `{key}`")),
            Some(value) if kind == "tmpfs" => not_a_number(key, value),
            _ => None,
        };
        let words = known();
        let all = options.iter().copied().chain(words.iter().map(String::as_str));
        let advice = match nearest(key, all).filter(|_| !options.contains(&key.as_str())) {
            Some((_, near)) => format!("`{near}` is what comes nearest"),
            None => "the kernel refuses it".into(),
        };
        message.map(|message| Finding::warning(&at, message, advice))
    });
    unknown.collect()
}

/// Why the value of an option of tmpfs can't be read.
fn not_a_number(key: &str, value: &str) -> Option<String> {
    let digits =
        |text: &str, octal: bool| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() && !(octal && b > b'7'));
    let plain = value.strip_suffix(|c: char| "kmgtpe".contains(c.to_ascii_lowercase())).unwrap_or(value);
    let is_number = match key {
        "size" => digits(value.strip_suffix('%').unwrap_or(plain), false) || value.starts_with("0x"),
        "nr_blocks" | "nr_inodes" => digits(plain, false) || value.starts_with("0x"),
        "mode" => digits(value, true),
        _ => true,
    };
    let wanted = if key == "mode" { "an octal number" } else { "a number, which one of k, m, g, t may follow" };
    (!is_number).then(|| format!("`{key}={value}`: {wanted} is expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_as_the_kernel_reads_them() {
        for (key, value, fine) in [
            ("size", "64m", true),
            ("size", "50%", true),
            ("size", "0x1000", true),
            ("size", "65536", true),
            ("size", "64mb", false),
            ("size", "m", false),
            ("size", "", false),
            ("nr_inodes", "10k", true),
            ("nr_inodes", "5%", false),
            ("mode", "1777", true),
            ("mode", "0o755", false),
            ("mode", "8", false),
            ("mpol", "bind:0,1", true),
        ] {
            assert_eq!(not_a_number(key, value).is_none(), fine, "{key}={value}");
        }
    }
}
