//! The fields of `/proc/PID/mountinfo`; proc_pid_mountinfo(5).

/// A path as it is: the kernel writes blanks, tabs, newlines and backslashes as octal numbers.
pub(crate) fn unescape(field: &str) -> String {
    let pairs = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    pairs.iter().fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}
