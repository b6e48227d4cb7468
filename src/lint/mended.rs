//! A configuration without the values that are of a wrong type, so that these hide nothing of the rest.
//!
//! Each is told and taken out: a property from its object, an entry from its array. What then is missing is no finding of its
//! own, but gets a stand-in, or takes what it is missing from with it.

use oci_spec::runtime::Spec;
use serde_json::Value;

use super::Finding;
use crate::error::Error;
use crate::plan::{load, meant, required};

/// How many are told.
const MOST: usize = 100;

/// What could be read.
pub(crate) struct Mended {
    /// None for what is no configuration at all.
    pub(crate) spec: Option<Spec>,
    /// What is of a wrong type, then what nobody knows.
    pub(crate) findings: Vec<Finding>,
    gone: Gone,
}

/// What was taken out, in order: each path, and whether it was an entry of an array, as the document then was.
#[derive(Default)]
struct Gone(Vec<(String, Option<(String, usize)>)>);

impl Mended {
    pub(crate) fn read(text: &[u8]) -> Mended {
        let mut mended = Mended { spec: None, findings: vec![], gone: Gone::default() };
        let mut read = load::read_spec(text);
        let mut json = serde_json::from_slice::<Value>(text).unwrap_or_default();
        // As they are read: what is null is missing, and has no place to be taken out of.
        meant::leave_nulls_out(&mut json);
        for _ in 0..MOST {
            match read {
                Ok(read) => {
                    mended.spec = Some(read.value);
                    let unknown = read.unknown.iter().map(|unknown| {
                        let message = format!("the capability `{}` is unknown, and left out", unknown.name);
                        Finding::warning(&unknown.path, message, "capabilities(7) has those of this kernel")
                    });
                    let unknown = mended.of_the_rest(unknown.collect::<Vec<_>>());
                    mended.findings.extend(unknown);
                    break;
                }
                Err(error) => {
                    let told = mended.of_the_rest([Finding::error(&error)]);
                    mended.findings.extend(told);
                    if !mended.take_out(&mut json, &error) {
                        break;
                    }
                    read = load::spec_from_json(&json);
                }
            }
        }
        if mended.spec.is_none() && mended.findings.len() >= MOST {
            let message = format!("more than {MOST} values are wrong: the rest of the file was not looked at");
            mended.findings.push(Finding::warning("", message, "mend these, and look again"));
        }
        mended
    }

    /// Takes out what the error is about, or what it is missing from.
    fn take_out(&mut self, json: &mut Value, error: &Error) -> bool {
        let Some(mut steps) = error.property().and_then(steps) else { return false };
        if steps.first().is_some_and(|step| step.1 == Step::Name("ociVersion".into())) {
            return false;
        }
        while let Some((path, last)) = steps.pop() {
            let parent = steps.iter().try_fold(&mut *json, |here, (_, step)| step.of(here));
            let entry = match (parent, last) {
                (Some(Value::Object(members)), Step::Name(name)) if members.contains_key(&name) => {
                    members.remove(&name);
                    None
                }
                (Some(Value::Array(list)), Step::Index(i)) if i < list.len() => {
                    list.remove(i);
                    Some((steps.last().map(|(path, _)| path.clone()).unwrap_or_default(), i))
                }
                (Some(Value::Object(members)), Step::Name(name)) => match stand_in(&name) {
                    Some(value) => {
                        members.insert(name, value);
                        None
                    }
                    None => continue,
                },
                _ => continue,
            };
            let path = self.gone.as_it_was(&path);
            self.gone.0.push((path, entry));
            return true;
        }
        false
    }

    /// Findings about what was left, with the paths of the document as it is; without those that only tell that the rest is
    /// gone.
    pub(crate) fn of_the_rest(&self, findings: impl IntoIterator<Item = Finding>) -> Vec<Finding> {
        let told = |finding: Finding| {
            let path = self.gone.as_it_was(&finding.path);
            let message = finding.message.replace(&finding.path, &path);
            let advice = finding.advice.as_deref().unwrap_or_default();
            (!self.gone.explains(&path, &[&message, advice])).then_some(Finding { path, message, ..finding })
        };
        findings.into_iter().filter_map(told).collect()
    }
}

/// For what a process, a limit or a mapping can't do without: it would take all that is beside it along.
fn stand_in(name: &str) -> Option<Value> {
    match name {
        "cwd" => Some("/".into()),
        _ => required::is_number(name).then(|| 0.into()),
    }
}

impl Gone {
    /// A path of what is left, as it was before anything was taken out.
    fn as_it_was(&self, path: &str) -> String {
        let mut path = path.to_owned();
        for (array, gone) in self.0.iter().rev().filter_map(|(_, entry)| entry.as_ref()) {
            let rest = path.strip_prefix(array.as_str()).and_then(|rest| rest.strip_prefix('['));
            let Some((index, rest)) = rest.and_then(|rest| rest.split_once(']')) else { continue };
            if let Ok(index) = index.parse::<usize>()
                && index >= *gone
            {
                path = format!("{array}[{}]{rest}", index + 1);
            }
        }
        path
    }

    /// Whether a finding may be there only for what is gone: it is about that, about a part of it or about the very object or
    /// array that lacks it, or names what has lost a part: as the reason, or as where to mend it.
    fn explains(&self, path: &str, texts: &[&str]) -> bool {
        let below = |path: &str, above: &str| {
            path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.iter().any(|(gone, _)| {
            let names = texts.iter().flat_map(|text| text.split('`').skip(1).step_by(2));
            let mut named = names.filter(|name| !name.is_empty() && (below(gone, name) || below(name, gone)));
            let steps = steps(gone).unwrap_or_default();
            let of = steps.iter().nth_back(1).map_or("", |(of, _)| of);
            below(path, gone) || path == of || named.next().is_some()
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

impl Step {
    fn of<'a>(&self, json: &'a mut Value) -> Option<&'a mut Value> {
        match self {
            Step::Name(name) => json.get_mut(name.as_str()),
            Step::Index(i) => json.get_mut(*i),
        }
    }
}

/// The steps of a JSON path, each with the path that leads to there.
fn steps(path: &str) -> Option<Vec<(String, Step)>> {
    let mut steps = vec![];
    let mut rest = path;
    while !rest.is_empty() {
        let (step, left) = if let Some(quoted) = rest.strip_prefix("[\"") {
            let (name, left) = unquoted(quoted)?;
            (Step::Name(name), left.strip_prefix(']')?)
        } else if let Some(numbered) = rest.strip_prefix('[') {
            let (index, left) = numbered.split_once(']')?;
            (Step::Index(index.parse().ok()?), left)
        } else {
            let plain = rest.trim_start_matches('.');
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            (Step::Name(plain[..end].into()), &plain[end..])
        };
        rest = left;
        steps.push((path[..path.len() - rest.len()].to_owned(), step));
    }
    Some(steps)
}

/// A name up to its closing quote, as [`crate::error::member`] has written it, and what is behind that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text.chars();
    loop {
        name.push(match rest.next()? {
            '"' => return Some((name, rest.as_str())),
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let (hex, left) = rest.as_str().strip_prefix('{')?.split_once('}')?;
                    rest = left.chars();
                    char::from_u32(u32::from_str_radix(hex, 16).ok()?)?
                }
                itself => itself,
            },
            plain => plain,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: Value) -> (Vec<String>, Mended) {
        let mended = Mended::read(json.to_string().as_bytes());
        (mended.findings.iter().map(ToString::to_string).collect(), mended)
    }

    #[test]
    fn each_wrong_type_is_told_with_its_place_in_the_file() {
        let (told, mended) = read(serde_json::json!({
            "ociVersion": "1.0.2",
            "hostname": 7,
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": "x", "env": ["A=1", 2, "B=1", 4]},
            "mounts": [{"destination": 1}, {"destination": "/a", "options": "ro"}, {"destination": 3}],
            "linux": {"sysctl": {"net.a": 1}, "namespaces": [{"type": "pid"}, {"type": "x"}],
                      "resources": {"pids": {"limit": "many"}, "memory": {"limit": true}}},
        }));
        let mut begins: Vec<&str> = told.iter().filter_map(|line| line.split(": ").next()).collect();
        begins.sort_unstable();
        assert_eq!(
            begins,
            [
                "error hostname",
                "error linux.namespaces[1].type",
                "error linux.resources.memory.limit",
                "error linux.resources.pids.limit",
                "error linux.sysctl[\"net.a\"]",
                "error mounts[0].destination",
                "error mounts[1].options",
                "error mounts[2].destination",
                "error process.args",
                "error process.env[1]",
                "error process.env[3]",
            ],
            "{told:#?}"
        );
        assert!(
            told.iter().any(|line| line.contains("a whole number is expected, not the string \"many\"")),
            "{told:#?}"
        );
        let spec = mended.spec.as_ref().unwrap();
        assert_eq!(spec.mounts().as_ref().unwrap().len(), 1);
        // The one mount that is left is the second of the file.
        let finding = Finding::error(&Error::at("mounts[0].type", "bad"));
        assert_eq!(mended.of_the_rest([finding])[0].path, "mounts[1].type");
        let finding = Finding::error(&Error::config("`mounts[0].source` is missing").about("mounts[0].source"));
        assert_eq!(mended.of_the_rest([finding])[0].message, "`mounts[1].source` is missing");
        // What comes of what is gone is none.
        let finding = Finding::error(&Error::at("hostname", "it needs a uts namespace in `linux.namespaces`"));
        assert_eq!(mended.of_the_rest([finding]), []);
    }

    #[test]
    fn a_name_of_any_characters_is_found() {
        let name = "a\"]b\\.c\n\u{7f}\u{e9}";
        let json = serde_json::json!({"ociVersion": "1.0.2", "annotations": {name: 5, "b": 6}});
        let (told, mended) = read(json);
        assert!(told.len() == 2 && mended.spec.is_some(), "{told:#?}");
    }

    #[test]
    fn what_lacks_a_part_explains_who_names_it() {
        let (_, mended) = read(serde_json::json!({"ociVersion": "1.0.2", "mounts": [5], "linux": {"namespaces": 5}}));
        let told = |path, message, advice| mended.of_the_rest([Finding::warning(path, message, advice)]).len();
        assert_eq!(told("linux.maskedPaths[0]", "nothing is mounted on /proc", "mount /proc by `mounts`"), 0);
        assert_eq!(told("root.readonly", "it needs a mount namespace", "add one to `linux.namespaces`"), 0);
        assert_eq!(told("hostname", "it needs a uts namespace", "see `linux.namespaces[3].path`"), 0);
        assert_eq!(told("process.cwd", "`x` is not `absolute`", "begin with `/`"), 1);
    }

    #[test]
    fn a_number_that_is_missing_hides_nothing_beside_it() {
        for soft in [serde_json::json!(null), serde_json::json!("x")] {
            let (told, mended) = read(serde_json::json!({
                "ociVersion": "1.0.2", "process": {"cwd": "rel", "args": ["a"], "env": [1],
                    "rlimits": [{"type": "RLIMIT_CORE", "soft": soft, "hard": 1}]},
            }));
            assert_eq!(told.len(), 2, "{told:#?}");
            assert_eq!(mended.spec.unwrap().process().as_ref().unwrap().cwd().to_str(), Some("rel"));
        }
    }

    #[test]
    fn the_end_of_a_long_list_is_told() {
        let (told, mended) = read(serde_json::json!({
            "ociVersion": "1.0.2", "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "env": vec![1; 150]},
        }));
        assert!(mended.spec.is_none() && told.len() == MOST + 1, "{told:#?}");
        assert!(told[MOST].contains("the rest of the file was not looked at"), "{}", told[MOST]);
    }

    #[test]
    fn unknown_capabilities_are_warnings_and_hide_nothing() {
        let process = |sets: &str, rest: &str| {
            format!(
                r#"{{"ociVersion":"1.0.2","process":{{"cwd":"/","user":{{"uid":0,"gid":0}},"capabilities":{sets}{rest}}}}}"#
            )
        };
        let mended = Mended::read(process(r#"{"bounding":["CAP_KILL","CAP_X","CAP_Y"]}"#, "").as_bytes());
        let paths: Vec<&str> = mended.findings.iter().map(|finding| &*finding.path).collect();
        assert_eq!(paths, ["process.capabilities.bounding[1]", "process.capabilities.bounding[2]"]);
        assert!(mended.spec.is_some() && mended.findings.iter().all(|f| f.severity == super::super::Severity::Warning));
        let twice = process(r#"{"bounding":["CAP_X"]}"#, r#","cwd":"/tmp""#);
        assert!(load::spec_from_text(twice.as_bytes()).unwrap_err().to_string().contains("`cwd` is there twice"));
    }
}
