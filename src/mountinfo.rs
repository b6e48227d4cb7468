//! The lines of `/proc/PID/mountinfo`; proc_pid_mountinfo(5).

/// One mount.
pub(crate) struct Mount<'a> {
    pub(crate) id: u64,
    pub(crate) parent: u64,
    /// What of the file system is mounted.
    pub(crate) root: &'a str,
    /// Below the root of the process that reads it.
    pub(crate) point: String,
    pub(crate) fstype: &'a str,
    /// Options of the super block, separated by commas.
    pub(crate) super_options: &'a str,
}

impl Mount<'_> {
    /// Reads a line; None for one that has another form.
    pub(crate) fn parse(line: &str) -> Option<Mount<'_>> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let (id, parent, _device) = (fields.next()?, fields.next()?, fields.next()?);
        let (root, point) = (fields.next()?, unescape(fields.next()?));
        let mut filesystem = filesystem.split(' ');
        let (fstype, _source) = (filesystem.next()?, filesystem.next());
        Some(Mount {
            id: id.parse().ok()?,
            parent: parent.parse().ok()?,
            root,
            point,
            fstype,
            super_options: filesystem.next().unwrap_or_default(),
        })
    }

    /// Reads all lines.
    pub(crate) fn all(text: &str) -> impl DoubleEndedIterator<Item = Mount<'_>> {
        text.lines().filter_map(Mount::parse)
    }
}

/// A path as it is: the kernel writes blanks, tabs, newlines and backslashes as octal numbers.
pub(crate) fn unescape(field: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_a_blank_in_its_path() {
        let line = "36 35 98:0 /a /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.root, mount.fstype), (36, 35, "/a", "ext3"));
        assert_eq!((mount.point.as_str(), mount.super_options), ("/mnt 2", "rw"));
        assert!(Mount::parse("nonsense").is_none());
    }
}
