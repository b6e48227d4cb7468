//! The names of units: from `linux.cgroupsPath` to a slice and a unit in it (systemd.unit(5), systemd.slice(5)).

use std::path::Path;

use serde::Serialize;

use super::other_manager;
use crate::error::{Error, Result};

/// UNIT_NAME_MAX of systemd: 256 with the closing nul.
const LONGEST: usize = 255;

/// A unit, and the slice it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Names {
    /// As `machine.slice`; `-.slice` is the root.
    pub slice: String,
    /// As `libpod-ID.scope`, or a slice of its own.
    pub unit: String,
}

impl Names {
    /// Reads `SLICE:PREFIX:NAME`; also crun's `SLICE:NAME` and a bare `NAME`, which have no prefix. An empty slice, and an
    /// absent one, stand for `default_slice`.
    ///
    /// # Errors
    /// Another form, or what is no name of a unit.
    pub fn parse(path: Option<&Path>, id: &str, default_slice: &str) -> Result<Names> {
        let Some(path) = path else {
            let unit = format!("tandem-{id}.scope");
            check_unit(&unit, id)?;
            return Ok(Names { slice: default_slice.to_owned(), unit });
        };
        let shown = path.display().to_string();
        let text = path.to_str().ok_or_else(|| invalid(&shown, "holds unprintable bytes"))?;
        let parts: Vec<&str> = text.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [slice, prefix, name] => (slice, Some(prefix), name),
            [slice, name] => (slice, None, name),
            [name] if !name.contains('/') => ("", None, name),
            _ => {
                let error = invalid(&shown, "is not of the form `SLICE:PREFIX:NAME`, as systemd's cgroups need it");
                return Err(error.advise(other_manager("takes a path")));
            }
        };
        if name.is_empty() {
            return Err(invalid(&shown, "has no name after the last colon"));
        }
        let slice = if slice.is_empty() { default_slice } else { slice };
        expand(slice).ok_or_else(|| invalid(&shown, &format!("`{slice}` is no slice such as `a-b.slice`")))?;
        let unit = match name.ends_with(".slice") {
            true => {
                expand(name).ok_or_else(|| invalid(&shown, &format!("`{name}` is no slice such as `a-b.slice`")))?;
                name.to_owned()
            }
            false => prefix.map_or_else(|| format!("{name}.scope"), |prefix| format!("{prefix}-{name}.scope")),
        };
        check_unit(slice, &shown)?;
        check_unit(&unit, &shown)?;
        Ok(Names { slice: slice.to_owned(), unit })
    }

    /// Whether the unit is itself a slice, which holds no process of systemd's own accord.
    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// The unit's cgroup below the one of its systemd: a dash in a slice's name leads a level down.
    pub fn path(&self) -> String {
        match self.is_slice() {
            true => expand(&self.unit).unwrap_or_default(),
            false => format!("{}/{}", expand(&self.slice).unwrap_or_default(), self.unit),
        }
    }
}

/// `a-b.slice` is `/a.slice/a-b.slice`, and `-.slice` the root: empty.
fn expand(slice: &str) -> Option<String> {
    let name = slice.strip_suffix(".slice")?;
    if name == "-" {
        return Some(String::new());
    }
    if name.contains('/') || name.split('-').any(str::is_empty) {
        return None;
    }
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    Some(ends.map(|end| format!("/{}.slice", &name[..end])).collect())
}

fn check_unit(unit: &str, shown: &str) -> Result<()> {
    if unit.len() > LONGEST {
        return Err(invalid(shown, &format!("`{unit}` is longer than the {LONGEST} bytes of a unit's name")));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    match unit.chars().find(|c| !fine(*c)) {
        None => Ok(()),
        Some(c) => Err(invalid(shown, &format!("`{}` can't be in the name of a unit", c.escape_default()))),
    }
}

fn invalid(shown: &str, why: &str) -> Error {
    Error::config(format!("linux.cgroupsPath: `{shown}` {why}")).about("linux.cgroupsPath")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Names> {
        Names::parse(Some(Path::new(path)), "id", "system.slice")
    }

    #[test]
    fn scopes_and_slices() {
        for (path, slice, unit, below) in [
            ("machine.slice:libpod:1", "machine.slice", "libpod-1.scope", "/machine.slice/libpod-1.scope"),
            (":docker:1", "system.slice", "docker-1.scope", "/system.slice/docker-1.scope"),
            ("-.slice:a:b", "-.slice", "a-b.scope", "/a-b.scope"),
            ("a-b-c.slice:x:y", "a-b-c.slice", "x-y.scope", "/a.slice/a-b.slice/a-b-c.slice/x-y.scope"),
            ("a.slice:x:p-q.slice", "a.slice", "p-q.slice", "/p.slice/p-q.slice"),
            ("a.slice:b", "a.slice", "b.scope", "/a.slice/b.scope"),
            (":b", "system.slice", "b.scope", "/system.slice/b.scope"),
            ("b", "system.slice", "b.scope", "/system.slice/b.scope"),
        ] {
            let names = parse(path).unwrap();
            assert_eq!((names.slice.as_str(), names.unit.as_str()), (slice, unit));
            assert_eq!(names.path(), below);
        }
        let names = Names::parse(None, "c1", "user.slice").unwrap();
        assert_eq!((names.slice.as_str(), names.unit.as_str()), ("user.slice", "tandem-c1.scope"));
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for (path, why) in [
            ("/a/b", "is not of the form `SLICE:PREFIX:NAME`"),
            ("a.slice:", "has no name"),
            ("a:b", "`a` is no slice"),
            ("a.slice:b:c:d", "is not of the form"),
            ("a.slice:b:", "has no name"),
            ("a:b:c", "`a` is no slice"),
            ("a--b.slice:x:y", "`a--b.slice` is no slice"),
            (".slice:x:y", "is no slice"),
            ("a.slice:x:p--q.slice", "is no slice"),
            ("../a.slice:x:y", "is no slice"),
            ("a.slice:x:y/z", "`/` can't be in the name of a unit"),
            ("a.slice:x:y z", "` ` can't be in the name"),
        ] {
            let error = parse(path).unwrap_err().to_string();
            assert!(error.starts_with("linux.cgroupsPath: `") && error.contains(why), "{path}: {error}");
        }
        assert!(parse(&format!("a.slice:x:{}", "y".repeat(250))).unwrap_err().to_string().contains("longer"));
    }
}
