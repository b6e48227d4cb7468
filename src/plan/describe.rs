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
        let words = self.words();
        if words.is_empty() { String::new() } else { format!(" with `{}`", words.join(",")) }
    }

    /// A mount that was made, for the trace: `how` is the mechanism.
    pub fn about(&self, how: &'static str) -> About {
        let mut words = self.words();
        words.push(match self.propagation {
            (propagation, false) => propagation.name().to_owned(),
            (propagation, true) => format!("r{}", propagation.name()),
        });
        let (idmapped, recursive) = match &self.what {
            What::Bind(bind) => (bind.idmapped, bind.recursive),
            What::Filesystem(fs) => (fs.idmapped, false),
            What::CgroupV1(_) => (false, false),
        };
        words.extend(recursive.then(|| "with the mounts below it".into()));
        words.extend(idmapped.then(|| "its IDs mapped".into()));
        About::object(self.describe()).by(how).with(words.join(","))
    }

    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = attr::words(self.attrs.set).map(str::to_owned).collect();
        words.extend(attr::words(self.recursive_attrs.set).map(|word| format!("r{word}")));
        if let What::Filesystem(fs) = &self.what {
            // A read-only file system is so in its superblock too; once is enough to read.
            let more: Vec<String> = fs.options().into_iter().filter(|word| !words.contains(word)).collect();
            words.extend(more.iter().map(|word| without_secret(word)));
        }
        words
    }
}

/// An option of a file system, without the value of one that may be a password (mount.cifs(8), ceph's `secret`).
fn without_secret(option: &str) -> String {
    let Some((key, _)) = option.split_once('=') else { return option.to_owned() };
    let lower = key.to_ascii_lowercase();
    let secret = ["pass", "secret", "cred", "key"].iter().any(|word| lower.contains(word));
    if secret { format!("{key}=(left out)") } else { option.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::without_secret;

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
            assert_eq!(without_secret(option), shown);
        }
    }
}
