//! A mount in words: for the trace, and for the error of one that failed.

use super::mounts::{MountPlan, What};
use super::options::attr;
use crate::protocol::event::About;

impl MountPlan {
    /// What, and where.
    pub fn describe(&self) -> String {
        let destination = self.destination.display();
        match &self.what {
            What::Bind(bind) => format!("`{}` on `{destination}`", bind.source.display()),
            What::Filesystem(fs) => format!("`{}` on `{destination}`", fs.fstype),
            What::CgroupV1(_) => format!("`cgroup` on `{destination}`"),
        }
    }

    /// What was asked of a mount that failed.
    pub fn options(&self) -> String {
        let words = self.words().0;
        if words.is_empty() { words } else { format!(" with `{words}`") }
    }

    /// A mount that was made, for the trace: `how` is the mechanism.
    pub fn about(&self, how: &'static str) -> About<'static> {
        let mut words = self.words();
        let (propagation, all) = self.propagation;
        words.add(&[if all { "r" } else { "" }, propagation.name()]);
        let (idmapped, recursive) = match &self.what {
            What::Bind(bind) => (bind.idmapped, bind.recursive),
            What::Filesystem(fs) => (fs.idmapped, false),
            What::CgroupV1(_) => (false, false),
        };
        if recursive {
            words.add(&["with the mounts below it"]);
        }
        if idmapped {
            words.add(&["its IDs mapped"]);
        }
        About::object(self.describe()).by(how).with(words.0)
    }

    fn words(&self) -> Words {
        // The child makes it while all wait for it: one buffer, that need not grow.
        let mut words = Words(String::with_capacity(128));
        attr::words(self.attrs.set).for_each(|word| words.add(&[word]));
        attr::words(self.recursive_attrs.set).for_each(|word| words.add(&["r", word]));
        if let What::Filesystem(fs) = &self.what {
            // A read-only file system is so in its superblock too; once is enough to read.
            let is_new = |word: &&String| attr::words(self.attrs.set).all(|other| other != *word);
            fs.superblock.iter().filter(is_new).for_each(|word| words.add(&[word]));
            for (key, value) in &fs.data {
                match value {
                    Some(value) => words.add(&[key, "=", shown(key, value)]),
                    None if is_new(&key) => words.add(&[key]),
                    None => {}
                }
            }
        }
        words
    }
}

/// Words with commas between them.
struct Words(String);

impl Words {
    /// Adds a word, in pieces.
    fn add(&mut self, pieces: &[&str]) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        pieces.iter().for_each(|piece| self.0.push_str(piece));
    }
}

/// The value of a file system's option, unless it may be a password (mount.cifs(8), ceph's `secret`).
fn shown<'a>(key: &str, value: &'a str) -> &'a str {
    let has = |word: &str| key.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
    if ["pass", "secret", "cred", "key"].into_iter().any(has) { "(left out)" } else { value }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_password_is_left_out() {
        let secrets = ["password", "pass", "PASSWORD2", "secretfile", "credentials", "key"];
        assert!(secrets.into_iter().all(|key| shown(key, "abc") == "(left out)"));
        assert!(["size", "ro", "pas", ""].into_iter().all(|key| shown(key, "abc") == "abc"));
    }
}
