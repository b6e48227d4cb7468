//! Mount options: fstab-style words to attributes, propagation and file-system data. mount(8), mount_setattr(2).

use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::error::{Error, Result};

/// `MOUNT_ATTR_*` of mount_setattr(2).
pub mod attr {
    #![allow(missing_docs)]
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// The mask of the three exclusive access-time values.
    pub const ATIME: u64 = 0x70;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x20_0000;

    /// What goes for all mounts below one as for itself.
    pub const INHERITED: u64 = RDONLY | NOSUID | NODEV | NOEXEC;

    /// The words of mount(8) for attributes that are set.
    pub fn words(set: u64) -> impl Iterator<Item = &'static str> {
        let all = [
            (RDONLY, "ro"),
            (NOSUID, "nosuid"),
            (NODEV, "nodev"),
            (NOEXEC, "noexec"),
            (NOATIME, "noatime"),
            (STRICTATIME, "strictatime"),
            (NODIRATIME, "nodiratime"),
            (NOSYMFOLLOW, "nosymfollow"),
        ];
        all.into_iter().filter(move |(bit, _)| set & bit != 0).map(|(_, word)| word)
    }
}

/// Attributes to set and to clear, `MOUNT_ATTR_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attrs {
    /// To set.
    pub set: u64,
    /// To clear.
    pub clear: u64,
}

impl Attrs {
    fn apply(&mut self, change: Change) {
        let Change { mask, value } = change;
        self.set = (self.set & !mask) | value;
        // The kernel wants the whole access-time field cleared whenever it is set.
        self.clear = (self.clear & !mask) | if mask & attr::ATIME != 0 { mask } else { mask & !value };
    }

    /// Without what others decide too.
    pub(super) fn but(self, others: Attrs) -> Attrs {
        let decided = others.set | others.clear;
        Attrs { set: self.set & !decided, clear: self.clear & !decided }
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// How mount events travel; mount_namespaces(7). The value is the `MS_*` flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    #[allow(missing_docs)]
    Shared,
    #[allow(missing_docs)]
    Slave,
    #[allow(missing_docs)]
    Private,
    #[allow(missing_docs)]
    Unbindable,
}

impl Propagation {
    /// The `MS_*` flag, for mount(2) and mount_setattr(2).
    pub fn flag(self) -> u64 {
        match self {
            Propagation::Unbindable => 1 << 17,
            Propagation::Private => 1 << 18,
            Propagation::Slave => 1 << 19,
            Propagation::Shared => 1 << 20,
        }
    }

    /// The word of mount(8).
    pub fn name(self) -> &'static str {
        match self {
            Propagation::Shared => "shared",
            Propagation::Slave => "slave",
            Propagation::Private => "private",
            Propagation::Unbindable => "unbindable",
        }
    }

    /// Parses `shared`, `rslave` and so on, to the type and whether it is recursive.
    pub fn parse(word: &str) -> Option<(Propagation, bool)> {
        let (name, recursive) = match word.strip_prefix('r') {
            Some(rest) => (rest, true),
            None => (word, false),
        };
        let propagation = match name {
            "shared" => Propagation::Shared,
            "slave" => Propagation::Slave,
            "private" => Propagation::Private,
            "unbindable" => Propagation::Unbindable,
            _ => return None,
        };
        Some((propagation, recursive))
    }
}

/// What a list of options asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Of this mount.
    pub attrs: Attrs,
    /// Of this mount and all below it (`rro` and its like).
    pub recursive_attrs: Attrs,
    /// With whether it is recursive.
    pub propagation: Option<(Propagation, bool)>,
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    /// Superblock flags that fsconfig(2) takes by name: `sync`, `dirsync`, `lazytime`, `mand`, ...
    pub superblock: Vec<String>,
    /// File-system data, in order: a word, or a key with its value.
    pub data: Vec<(String, Option<String>)>,
    /// Copy what the destination holds into the new tmpfs.
    pub tmpcopyup: bool,
    /// Do not follow a symlink that is the last component of the source.
    pub source_nofollow: bool,
    /// Make the same symlink instead of mounting, if the source is one.
    pub copy_symlink: bool,
    /// Mount on a symlink that is the last component of the destination.
    pub destination_nofollow: bool,
    /// `idmap` or `ridmap`.
    pub mapped_by: Option<MappedBy>,
}

/// What the option says of a mount's id mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedBy {
    /// `ridmap`.
    pub recursive: bool,
    /// The text after `idmap=`.
    pub lines: Option<String>,
}

struct Change {
    mask: u64,
    value: u64,
}

/// The attribute words, without the `r` that makes them recursive.
fn attribute(word: &str) -> Option<Change> {
    let on = |bit| Some(Change { mask: bit, value: bit });
    let off = |bit| Some(Change { mask: bit, value: 0 });
    let atime = |value| Some(Change { mask: attr::ATIME, value });
    match word {
        "ro" => on(attr::RDONLY),
        "rw" => off(attr::RDONLY),
        "nosuid" => on(attr::NOSUID),
        "suid" => off(attr::NOSUID),
        "nodev" => on(attr::NODEV),
        "dev" => off(attr::NODEV),
        "noexec" => on(attr::NOEXEC),
        "exec" => off(attr::NOEXEC),
        "noatime" => atime(attr::NOATIME),
        "strictatime" => atime(attr::STRICTATIME),
        "atime" | "relatime" | "norelatime" | "nostrictatime" => atime(0),
        "nodiratime" => on(attr::NODIRATIME),
        "diratime" => off(attr::NODIRATIME),
        "nosymfollow" => on(attr::NOSYMFOLLOW),
        "symfollow" => off(attr::NOSYMFOLLOW),
        _ => None,
    }
}

/// Words that a superblock takes, and what undoes them.
const SUPERBLOCK: [(&str, &str); 6] = [
    ("sync", "async"),
    ("dirsync", "nodirsync"),
    ("lazytime", "nolazytime"),
    ("mand", "nomand"),
    ("iversion", "noiversion"),
    ("silent", "loud"),
];

/// The options of SELinux. mount(2) wants a value with commas in quotes; fsconfig(2), which takes one at a time, wants none.
pub const LABELS: [&str; 5] = ["context", "fscontext", "defcontext", "rootcontext", "seclabel"];

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

impl Options {
    /// Reads the options of one mount; `property` is its JSON path, for errors.
    ///
    /// # Errors
    /// An option that this version can't honour.
    pub fn parse(words: &[String], property: &str) -> Result<Options> {
        Findings::first(|findings| Options::read(words, property, findings))
    }

    /// The same, with all that is wrong.
    pub(super) fn read(words: &[String], property: &str, findings: &mut Findings) -> Options {
        let mut options = Options::default();
        for word in words {
            let refuse = |why| Error::at(format!("{property}.options"), format!("`{word}`: {why}"));
            findings.take(options.take(word).map_err(refuse));
        }
        options
    }

    fn take(&mut self, word: &str) -> Result<(), &'static str> {
        if let Some(change) = attribute(word) {
            self.attrs.apply(change);
        } else if let Some(change) = word.strip_prefix('r').and_then(attribute) {
            self.recursive_attrs.apply(change);
        } else if let Some(propagation) = Propagation::parse(word) {
            self.propagation = Some(propagation);
        } else if let Some((on, _)) = SUPERBLOCK.iter().find(|(on, off)| word == *on || word == *off) {
            self.superblock.retain(|s| s != on);
            if word == *on {
                self.superblock.push(word.into());
            }
        } else {
            match word {
                "defaults" | "" => {}
                "bind" => self.bind = Some(self.bind.unwrap_or(false)),
                "rbind" => self.bind = Some(true),
                "tmpcopyup" => self.tmpcopyup = true,
                "src-nofollow" => self.source_nofollow = true,
                "copy-symlink" => self.copy_symlink = true,
                "dest-nofollow" => self.destination_nofollow = true,
                "remount" => return Err("a container's mounts are new; there is nothing to remount"),
                _ if self.mapped_by.is_some() && matches!(word.split('=').next(), Some("idmap" | "ridmap")) => {
                    return Err("a second mapping; one option holds `uids=` and `gids=`");
                }
                "idmap" | "ridmap" => self.mapped_by = Some(MappedBy { recursive: word == "ridmap", lines: None }),
                _ => self.data.push(match word.split_once('=') {
                    Some(("idmap" | "ridmap", lines)) if lines.split(';').all(str::is_empty) => {
                        return Err("the mapping is empty");
                    }
                    Some((name @ ("idmap" | "ridmap"), lines)) => {
                        self.mapped_by = Some(MappedBy { recursive: name == "ridmap", lines: Some(lines.into()) });
                        return Ok(());
                    }
                    Some((key, value)) if LABELS.contains(&key) => (key.into(), Some(unquoted(value).into())),
                    Some((key, value)) => (key.into(), Some(value.into())),
                    None => (word.into(), None),
                }),
            }
        }
        Ok(())
    }
}

/// Whether an option says nothing to who makes a bind mount. Two of runc's are the file system's, which is mounted already;
/// others are for the engine, which has done by now what they ask for, or for mount(8) and systemd, which read them in fstab(5).
pub(crate) fn is_idle_for_bind(option: &str) -> bool {
    let known = [
        "acl",
        "noacl",
        "copy",
        "nocopy",
        "volume-nocopy",
        "U",
        "z",
        "Z",
        "_netdev",
        "nofail",
        "auto",
        "noauto",
        "nouser",
    ];
    known.contains(&option) || option.starts_with("x-") || option.starts_with("X-")
}

/// All words that [`Options::parse`] knows, sorted, for `features`.
pub fn known() -> Vec<String> {
    let attributes = [
        "ro",
        "rw",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "noatime",
        "strictatime",
        "atime",
        "relatime",
        "norelatime",
        "nostrictatime",
        "nodiratime",
        "diratime",
        "nosymfollow",
        "symfollow",
    ];
    let others =
        ["defaults", "bind", "rbind", "tmpcopyup", "src-nofollow", "copy-symlink", "dest-nofollow", "idmap", "ridmap"];
    let propagations = ["shared", "slave", "private", "unbindable"];
    let mut words: Vec<String> = others.iter().map(ToString::to_string).collect();
    words.extend(SUPERBLOCK.iter().flat_map(|(on, off)| [on.to_string(), off.to_string()]));
    words.extend(attributes.iter().chain(&propagations).flat_map(|w| [w.to_string(), format!("r{w}")]));
    words.sort();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>(), "mounts[0]").unwrap()
    }

    #[test]
    fn the_last_word_wins() {
        assert_eq!(parse(&["ro", "rw"]).attrs, Attrs { set: 0, clear: attr::RDONLY });
        assert_eq!(parse(&["rw", "ro"]).attrs, Attrs { set: attr::RDONLY, clear: 0 });
        assert_eq!(parse(&["rbind", "bind"]).bind, Some(true));
        assert!(parse(&["sync", "async"]).superblock.is_empty());
    }

    #[test]
    fn an_access_time_clears_the_whole_field() {
        assert_eq!(parse(&["noatime"]).attrs, Attrs { set: attr::NOATIME, clear: attr::ATIME });
        assert_eq!(parse(&["noatime", "relatime"]).attrs, Attrs { set: 0, clear: attr::ATIME });
        assert_eq!(parse(&["strictatime"]).attrs.set, attr::STRICTATIME);
    }

    #[test]
    fn recursive_words_stand_apart() {
        let options = parse(&["rro", "rprivate", "ro", "rnosuid"]);
        assert_eq!(options.recursive_attrs.set, attr::RDONLY | attr::NOSUID);
        assert_eq!(options.attrs.set, attr::RDONLY);
        assert_eq!(options.propagation, Some((Propagation::Private, true)));
    }

    #[test]
    fn what_is_no_option_is_data_whole() {
        let options = parse(&["mode=1777", "context=\"u:r:t:s0:c1,c2\"", "newinstance", "lowerdir=/a:/b,c"]);
        assert_eq!(options.data[1], ("context".into(), Some("u:r:t:s0:c1,c2".into())));
        assert_eq!(options.data[2], ("newinstance".into(), None));
        assert_eq!(options.data[3].1.as_deref(), Some("/a:/b,c"));
    }

    #[test]
    fn every_known_word_is_known() {
        for word in known() {
            assert!(parse(&[&word]).data.is_empty(), "{word}");
        }
        assert!(known().contains(&"rro".to_string()));
    }
}
