//! The container ID.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// The longest ID, in bytes: it is the name of a directory (`NAME_MAX`).
pub const MAX_LEN: usize = 255;

/// A container ID that is safe as a directory's name and as part of a cgroup's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ContainerId(String);

impl ContainerId {
    /// Takes an ID of 1 to 255 characters of `A-Z a-z 0-9 _ + - .`, other than `.` and `..`.
    ///
    /// # Errors
    /// [`Kind::Usage`], with the reason.
    pub fn parse(id: &str) -> Result<ContainerId> {
        let refuse = |why: String| Err(Error::new(Kind::Usage, format!("invalid container ID: {why}")));
        if id.is_empty() {
            return refuse("it is empty".into());
        }
        if id.len() > MAX_LEN {
            return refuse(format!("it has {} characters, the limit is {MAX_LEN}", id.len()));
        }
        if id == "." || id == ".." {
            return refuse(format!("`{id}` is a directory of its own"));
        }
        match id.chars().find(|c| !(c.is_ascii_alphanumeric() || "_+-.".contains(*c))) {
            Some(c) => refuse(format!("`{id}` has the character {c:?}; letters, digits and `_+-.` are allowed")),
            None => Ok(ContainerId(id.to_owned())),
        }
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_engines_send() {
        for id in ["a", "0123abc", "pod_1+x-y.z", &"x".repeat(MAX_LEN)] {
            assert_eq!(ContainerId::parse(id).unwrap().as_str(), id);
        }
    }

    #[test]
    fn refuses_what_would_leave_the_state_directory() {
        for id in ["", ".", "..", "a/b", "/", "a b", "a\n", "é", &"x".repeat(MAX_LEN + 1)] {
            assert_eq!(ContainerId::parse(id).unwrap_err().kind(), Kind::Usage, "{id:?}");
        }
    }
}
