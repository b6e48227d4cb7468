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
            let data = fs.data.iter().filter(|(key, value)| value.is_some() || is_new(&key));
            data.for_each(|(key, value)| words.add_option(key, value.as_deref()));
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

    /// Adds an option of a file system, without the value of one that may be a password (mount.cifs(8), ceph's `secret`).
    fn add_option(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = value else { return self.add(&[key]) };
        let key_has =
            |word: &str| key.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
        let is_secret = ["pass", "secret", "cred", "key"].into_iter().any(key_has);
        self.add(&[key, "=", if is_secret { "(left out)" } else { value }]);
    }
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn a_password_is_left_out() {
        for (option, shown) in [
            ("password=abc", "password=(left out)"),
            ("pass=a=b", "pass=(left out)"),
            ("PASSWORD2=abc", "PASSWORD2=(left out)"),
            ("secretfile=/x", "secretfile=(left out)"),
            ("credentials=/x", "credentials=(left out)"),
            ("key=abc", "key=(left out)"),
            ("size=4m", "size=4m"),
            ("ro", "ro"),
        ] {
            let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
            let mut words = Words(String::new());
            words.add_option(key, value);
            assert_eq!(words.0, shown);
        }
    }
}
