//! `exec --user`: who is meant, and who that is in the container's own `/etc/passwd` and `/etc/group`; passwd(5), group(5).

use crate::error::{Error, Kind, Result};

/// `USER` or `USER:GROUP`, each a number or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpec {
    text: String,
    user: Who,
    group: Option<Who>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Id(u32),
    Name(String),
}

/// Who was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Inside the container's user namespace.
    pub uid: u32,
    /// Inside the container's user namespace.
    pub gid: u32,
    /// The other groups of a user who was named.
    pub groups: Vec<u32>,
}

impl UserSpec {
    /// Reads what was typed. A number is taken as it stands or not at all: what is read in any other way could be another
    /// user, the root even.
    ///
    /// # Errors
    /// [`Kind::Usage`].
    pub fn parse(text: &str) -> Result<UserSpec> {
        let refuse = || {
            let message =
                format!("--user `{text}`: USER or USER:GROUP is expected, each a plain decimal number or a name");
            Error::new(Kind::Usage, message)
        };
        let who = |part: &str| Who::parse(part).ok_or_else(refuse);
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (who(user)?, Some(who(group)?)),
            None => (who(text)?, None),
        };
        Ok(UserSpec { text: text.to_owned(), user, group })
    }

    /// Whether `/etc/passwd` is needed, and whether `/etc/group` is.
    pub fn needs(&self) -> (bool, bool) {
        let named = matches!(self.user, Who::Name(_));
        (named, named || matches!(self.group, Some(Who::Name(_))))
    }

    /// Finds the numbers, given the two files, empty for one that is not there.
    ///
    /// # Errors
    /// A name that they do not have, or a line without numbers.
    pub fn resolve(&self, passwd: &str, group: &str) -> Result<Identity> {
        let (uid, own, groups) = match &self.user {
            // As crun has it: a number stands for itself, in group 0 unless another is given.
            Who::Id(uid) => (*uid, 0, vec![]),
            Who::Name(name) => {
                let (uid, gid) = self.user(name, passwd)?;
                (uid, gid, memberships(name, gid, group))
            }
        };
        let gid = match &self.group {
            None => own,
            Some(Who::Id(gid)) => *gid,
            Some(Who::Name(name)) => self.group(name, group)?,
        };
        Ok(Identity { uid, gid, groups })
    }

    fn user(&self, name: &str, passwd: &str) -> Result<(u32, u32)> {
        let fields = entry(passwd, name).ok_or_else(|| self.unknown("user", name, "/etc/passwd", passwd))?;
        let ids = fields.get(2).and_then(|uid| number(uid)).zip(fields.get(3).and_then(|gid| number(gid)));
        ids.ok_or_else(|| self.broken(name, "/etc/passwd"))
    }

    fn group(&self, name: &str, group: &str) -> Result<u32> {
        let fields = entry(group, name).ok_or_else(|| self.unknown("group", name, "/etc/group", group))?;
        fields.get(2).and_then(|gid| number(gid)).ok_or_else(|| self.broken(name, "/etc/group"))
    }

    fn unknown(&self, what: &str, name: &str, file: &str, text: &str) -> Error {
        let why = match text.is_empty() {
            true => format!("the container has no `{file}`, or an empty one, to find `{name}` in"),
            false => format!("the container's `{file}` has no {what} `{name}`"),
        };
        Error::new(Kind::Usage, format!("--user `{}`: {why}", self.text)).advise("a number needs no file")
    }

    fn broken(&self, name: &str, file: &str) -> Error {
        let message = format!("--user `{}`: the line of `{name}` in the container's `{file}` is broken", self.text);
        Error::config(message)
    }
}

impl Who {
    fn parse(part: &str) -> Option<Who> {
        // What looks like a number is one, or a mistake: `01` and `+1` are nobody's names.
        if part.starts_with(['+', '-']) || part.bytes().all(|b| b.is_ascii_digit()) {
            return number(part).map(Who::Id);
        }
        let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, ':' | '/' | ',');
        (!part.contains(odd)).then(|| Who::Name(part.to_owned()))
    }
}

/// A plain decimal number that is an ID; the greatest means "none" to the kernel.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse::<u32>().ok().filter(|id| plain && *id != u32::MAX)
}

/// The fields of the first line that begins with a name.
fn entry<'a>(file: &'a str, name: &str) -> Option<Vec<&'a str>> {
    file.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))
}

/// The name of a user in the text of a passwd(5) file.
pub fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let named = |line: &str| {
        let mut fields = line.split(':');
        fields.next().filter(|_| fields.nth(1).and_then(number) == Some(uid)).map(str::to_owned)
    };
    passwd.lines().find_map(named)
}

/// IDs that a user may map into a user namespace; subuid(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    #[allow(missing_docs)]
    pub first: u32,
    /// How many; never 0.
    pub size: u32,
}

/// The first range of a user in the text of a subuid(5) or subgid(5) file, by number or by name.
pub fn range_of(uid: u32, name: Option<&str>, text: &str) -> Option<IdRange> {
    let uid = uid.to_string();
    let line = |line: &str| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [who, first, size] = fields[..] else { return None };
        let first: u32 = first.parse().ok().filter(|_| who == uid || Some(who) == name)?;
        let size = size.parse().ok().filter(|size| *size > 0 && first.checked_add(*size).is_some())?;
        Some(IdRange { first, size })
    };
    text.lines().find_map(line)
}

/// The groups that list a user, but the one that is theirs anyway.
fn memberships(name: &str, own: u32, group: &str) -> Vec<u32> {
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let listed = fields.get(3)?.split(',').any(|member| member.trim() == name);
        fields.get(2).and_then(|gid| number(gid)).filter(|gid| listed && *gid != own)
    };
    group.lines().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\n\nweb:x:33:34::/:/x\nbad:x:-1:0::/:/x\nodd:x:01:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\ntty:x:5:other,web\nlog:x:7:web\nnone:x:4294967295:web\nbad:x::web\n";

    fn find(text: &str) -> Result<(u32, u32, Vec<u32>)> {
        let found = UserSpec::parse(text)?.resolve(PASSWD, GROUP)?;
        Ok((found.uid, found.gid, found.groups))
    }

    #[test]
    fn a_user_is_exactly_who_was_named() {
        assert_eq!(find("1").unwrap(), (1, 0, vec![]));
        assert_eq!(find("0:5").unwrap(), (0, 5, vec![]));
        assert_eq!(find("web").unwrap(), (33, 34, vec![5, 7]));
        assert_eq!(find("web:0").unwrap(), (33, 0, vec![5, 7]));
        assert_eq!(find("12:tty").unwrap(), (12, 5, vec![]));
        let nobody = [
            "",
            "1:",
            ":1",
            "01",
            "+1",
            "-1",
            "4294967295",
            "4294967296",
            "1:2:3",
            " 1",
            "0x0",
            "x",
            "bad",
            "odd",
            "1:none",
        ];
        for text in nobody {
            assert!(find(text).is_err(), "{text:?}: {:?}", find(text));
        }
    }

    #[test]
    fn a_range_is_the_users_by_name_or_number() {
        let text = "# comment\nother:1:2\nme:100000:65536\n1000:5:6\nbroken:x:1\nlong:4294967295:2\n";
        let found = |uid, name| range_of(uid, name, text).map(|range| (range.first, range.size));
        assert_eq!(found(7, Some("me")), Some((100_000, 65536)));
        assert_eq!(found(1000, None), Some((5, 6)));
        assert_eq!(found(8, Some("broken")), None);
        assert_eq!(found(8, Some("long")), None);
        assert_eq!(found(9, None), None);
    }

    #[test]
    fn numbers_need_no_file() {
        assert_eq!(UserSpec::parse("1:2").unwrap().needs(), (false, false));
        assert_eq!(UserSpec::parse("1:web").unwrap().needs(), (false, true));
        assert_eq!(UserSpec::parse("web").unwrap().needs(), (true, true));
    }
}
