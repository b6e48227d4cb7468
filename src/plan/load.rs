//! Reads config.json and process.json; every error names the file and the property.

use std::io;
use std::path::Path;

use oci_spec::runtime::{LinuxIntelRdt, LinuxResources, Mount, Process, Spec};
use rustix::io::Errno;
use serde::Deserializer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::json::{self, Unique};
use super::{meant, required};
use crate::error::{Context, Error, Result};

/// The name of a bundle's configuration; runtime-spec, bundle.md.
pub const CONFIG: &str = "config.json";

/// What was read, and what nobody knows of it.
#[derive(Debug)]
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) unknown: Vec<UnknownCapability>,
}

/// A capability of no kernel that this runtime knows: left out, and to be told; runtime-spec, config.md, "Linux Process".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownCapability {
    /// Its JSON path.
    pub(crate) path: String,
    pub(crate) name: String,
}

impl UnknownCapability {
    /// Warns of it: once it is sure that nothing is refused, or the refusal would not be the first thing to be read.
    pub(crate) fn tell(&self) {
        log::warn!("{}: `{}` is unknown, and left out", self.path, self.name);
    }
}

/// Reads a configuration and checks its version. Returns its text too, which the state directory keeps.
///
/// # Errors
/// [`crate::error::Kind::Config`] for what is wrong in the file; the system's for a file that can't be read.
pub(crate) fn spec(path: &Path) -> Result<(Read<Spec>, Vec<u8>)> {
    let text = text(path)?;
    let spec = read_spec(&text).context(|| format!("`{}`", path.display()))?;
    Ok((spec, text))
}

/// The text of a configuration.
///
/// # Errors
/// The file can't be read.
pub(crate) fn text(path: &Path) -> Result<Vec<u8>> {
    bounded(path).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => error.advise("a bundle needs a config.json; `tandem spec` makes one to begin with"),
        Some(Errno::ACCESS) => error.advise("`namei -l` shows whose the file and the directories above it are"),
        _ => error,
    })
}

/// The largest file that is read, in bytes: ten thousand mounts and the longest environment that execve(2) takes fit several
/// times. Its JSON, and all that is made of it, takes many times as much memory.
const LARGEST: u64 = 16 << 20;

/// The text of a file.
///
/// # Errors
/// It can't be read, or is too large.
pub(crate) fn bounded(path: &Path) -> Result<Vec<u8>> {
    let name = format!("`{}`", path.display());
    let file = std::fs::File::open(path).context(|| format!("read {name}"))?;
    limited(file, &name)
}

/// The same of what is open, by the name that it has for people.
///
/// # Errors
/// As [`bounded`].
pub(crate) fn limited(from: impl io::Read, name: &str) -> Result<Vec<u8>> {
    let mut text = vec![];
    io::Read::read_to_end(&mut io::Read::take(from, LARGEST + 1), &mut text).context(|| format!("read {name}"))?;
    match text.len() as u64 > LARGEST {
        true => Err(Error::config(format!("{name} is too large: over {} MiB", LARGEST >> 20))),
        false => Ok(text),
    }
}

/// A configuration from its text.
///
/// # Errors
/// [`crate::error::Kind::Config`].
pub fn spec_from_text(text: &[u8]) -> Result<Spec> {
    read_spec(text).map(|read| read.value)
}

/// The same, with what nobody knows of it.
///
/// # Errors
/// [`crate::error::Kind::Config`].
pub(crate) fn read_spec(text: &[u8]) -> Result<Read<Spec>> {
    if text.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(Error::config("it is no JSON object"));
    }
    // Looked at first: a config of another major version may not fit our types, and the version is the better error.
    let first: required::Config = parse(text)?;
    let version = first.version.as_ref().ok_or_else(|| Error::config("`ociVersion` is missing").about("ociVersion"))?;
    if !is_major_one(version) {
        return Err(Error::at("ociVersion", format!("version `{version}` is not supported; 1.0 to 1.3 are")));
    }
    let mut read: Read<Spec> = parse_known(text, PROCESS)?;
    required::of_config(&first)?;
    complete(&mut read.value, &first);
    Ok(read)
}

/// A configuration that is JSON already: its errors have no lines and columns.
///
/// # Errors
/// [`crate::error::Kind::Config`].
pub(crate) fn spec_from_json(json: &Value) -> Result<Read<Spec>> {
    let mut known = json.clone();
    let (unknown, _) = meant::mend(&mut known, PROCESS);
    let mut value: Spec = typed(known)?;
    let first: required::Config = typed(json)?;
    required::of_config(&first)?;
    complete(&mut value, &first);
    Ok(Read { value, unknown })
}

/// Where a configuration has its process: a JSON pointer.
const PROCESS: &str = "/process";

/// Adds what oci-spec does not see.
fn complete(spec: &mut Spec, first: &required::Config) {
    meant::part_options(spec.mounts_mut().as_deref_mut().unwrap_or_default());
    let Some(seen) = &first.linux else {
        spec.set_linux(Some(nothing()));
        return;
    };
    let linux = spec.linux_mut().as_mut();
    if let Some(rdt) = linux.and_then(|linux| linux.intel_rdt_mut().as_mut()) {
        old_monitoring(&seen.intel_rdt, rdt);
    }
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    if let Some(resources) = resources.filter(|r| r.pids().is_some_and(|pids| pids.limit() == 0)) {
        // No limit is asked for; oci-spec reads that as 0.
        if seen.resources["pids"]["limit"].is_null() {
            resources.set_pids(None);
        }
    }
}

/// One of our types in which nothing is set: the defaults of oci-spec have values.
fn nothing<T: DeserializeOwned>() -> T {
    typed(serde_json::json!({})).expect("all of it is optional")
}

/// The process of a container that has none: root's, without any right.
pub(crate) fn no_process() -> Process {
    typed(serde_json::json!({"cwd": "/", "user": {}})).expect("all the rest is optional")
}

/// SemVer 2.0.0, as far as it decides: `1.MINOR.PATCH`, and what may follow. One that is cut short says as much.
fn is_major_one(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = numbers.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.len() <= 3 && numbers[0] == "1" && numbers.iter().all(number)
}

/// Parses what has a process at `process` (a JSON pointer). What oci-spec takes as it is, is read only once.
fn parse_known<T: DeserializeOwned>(text: &[u8], process: &str) -> Result<Read<T>> {
    let error = match parse(text) {
        Ok(value) => return Ok(Read { value, unknown: vec![] }),
        Err(error) => error,
    };
    // A second property of the same name would be lost here, and the first with it.
    let Unique(mut json) = parse(text)?;
    match meant::mend(&mut json, process) {
        // Its line and column are those of the file.
        (_, false) => Err(error),
        (unknown, true) => match typed(json) {
            Ok(value) => Ok(Read { value, unknown }),
            // What is wrong all the same is told with its line and column. What was null is missing.
            Err(still) if still.property() == error.property() && !error.message().contains(", not null") => Err(error),
            Err(still) => Err(still),
        },
    }
}

/// Reads `enableCMT` and `enableMBM`, which 1.3 has as `enableMonitoring`: oci-spec looks for them as `enableCmt`.
fn old_monitoring(json: &Value, rdt: &mut LinuxIntelRdt) {
    let asked = |name| json[name] == true;
    if asked("enableCMT") || asked("enableMBM") {
        rdt.set_enable_monitoring(Some(true));
    }
}

/// Reads the process of `exec --process`.
///
/// # Errors
/// As [`spec`].
pub(crate) fn process(path: &Path) -> Result<Read<Process>> {
    let text = bounded(path)?;
    process_from_text(&text).context(|| format!("`{}`", path.display()))
}

fn process_from_text(text: &[u8]) -> Result<Read<Process>> {
    let process = parse_known(text, "")?;
    required::of_process(&parse(text)?, "process")?;
    Ok(process)
}

/// The limits of `update --resources`.
///
/// # Errors
/// [`crate::error::Kind::Config`].
pub fn resources(json: &Value) -> Result<LinuxResources> {
    let mut json = json.clone();
    meant::leave_nulls_out(&mut json);
    required::of_resources(&json)?;
    typed(json)
}

/// A list of mounts, of `mounts add` and `mounts remove`.
///
/// # Errors
/// [`crate::error::Kind::Config`].
pub(crate) fn mounts(mut json: Value) -> Result<Vec<Mount>> {
    meant::leave_nulls_out(&mut json);
    let mut mounts: Vec<Mount> = typed(json)?;
    meant::part_options(&mut mounts);
    Ok(mounts)
}

/// Any JSON in which no object has a property twice: which of the two counts is nobody's to guess.
///
/// # Errors
/// [`crate::error::Kind::Config`].
pub(crate) fn json(text: &[u8]) -> Result<Value> {
    parse(text).map(|Unique(json)| json)
}

/// JSON of any type we read; an error names the property by its path.
///
/// # Errors
/// [`crate::error::Kind::Config`].
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::config("the file is empty"));
    }
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = typed(&mut json).or_else(|error| match serde_json::from_slice::<Value>(text) {
        // Where a name of a set belongs, what is no string is the reader's mistake in the text; the text is right.
        Ok(whole) if error.message().contains("expected value") => typed(&whole),
        _ => Err(error),
    })?;
    json.end().map_err(|e| Error::config(e.to_string()))?;
    Ok(value)
}

/// Makes a value of our types of any JSON.
fn typed<'a, T: DeserializeOwned>(json: impl Deserializer<'a, Error = serde_json::Error>) -> Result<T> {
    serde_path_to_error::deserialize(json).map_err(|e| json::error(&json::path(e.path()), &e.inner().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn refusal(text: &str) -> String {
        let error = spec_from_text(text.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        error.to_string()
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(refusal(""), "the file is empty");
        assert!(refusal("{").contains("EOF"));
        assert_eq!(refusal("[]"), "it is no JSON object");
        assert!(!refusal(r#"{"ociVersion":"1.0.2",, }"#).contains('?'));
        assert!(refusal("{} x").contains("trailing characters"));
        assert_eq!(refusal("{}"), "`ociVersion` is missing");
        assert!(refusal(r#"{"ociVersion":"7.0"}"#).contains("version `7.0` is not supported"));
        assert!(refusal(r#"{"ociVersion":"1.0.2","process":{"cwd":7}}"#).starts_with("`process.cwd`: "));
        assert!(
            refusal(r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"x"}]}}"#).contains("linux.namespaces")
        );
    }

    #[test]
    fn monitoring_has_old_names_too() {
        for name in ["enableCMT", "enableMBM", "enableMonitoring"] {
            let text = format!(r#"{{"ociVersion":"1.2.0","linux":{{"intelRdt":{{"{name}":true}}}}}}"#);
            let spec = spec_from_text(text.as_bytes()).unwrap();
            let rdt = spec.linux().as_ref().unwrap().intel_rdt().as_ref().unwrap();
            assert_eq!(*rdt.enable_monitoring(), Some(true), "{name}");
        }
    }

    /// What is in the text and not in what was read would be accepted and ignored: it has happened, by a wrong name.
    #[test]
    fn no_property_of_the_specification_is_lost() {
        fn lost(text: &serde_json::Value, read: &serde_json::Value, at: &str, found: &mut Vec<String>) {
            use serde_json::Value::{Array, Object};
            match (text, read) {
                (Object(a), _) => a.iter().for_each(|(key, v)| lost(v, &read[key], &format!("{at}.{key}"), found)),
                (Array(a), _) => (0..a.len()).for_each(|i| lost(&a[i], &read[i], &format!("{at}[{i}]"), found)),
                (a, b) if a == b => {}
                (a, b) => found.push(format!("{at}: {a} became {b}")),
            }
        }
        let text = include_str!("../../tests/data/every-property.json");
        let spec = spec_from_text(text.as_bytes()).unwrap();
        let (text, read) = (serde_json::from_str(text).unwrap(), serde_json::to_value(&spec).unwrap());
        let mut found = vec![];
        lost(&text, &read, "", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn takes_every_version_of_major_one() {
        let read = |version| spec_from_text(format!(r#"{{"ociVersion":"{version}"}}"#).as_bytes());
        for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0", "1.4.0+x", "1.3", "1"] {
            assert!(read(version).is_ok(), "{version}");
        }
        for version in ["", "1.", "1.x.0", "1.0garbage", "1.0.0.0", "11.0.0"] {
            assert!(read(version).is_err(), "{version}");
        }
    }

    #[test]
    fn names_that_the_crate_does_not_know_are_the_specifications() {
        let text = r#"{"ociVersion":"1.3.0","process":{"cwd":"/","user":{"uid":0,"gid":0},"scheduler":{"policy":
            "SCHED_DEADLINE","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM","SCHED_FLAG_DL_OVERRUN",
            "SCHED_FLAG_KEEP_POLICY","SCHED_FLAG_KEEP_PARAMS","SCHED_FLAG_UTIL_CLAMP_MIN","SCHED_FLAG_UTIL_CLAMP_MAX"]},
            "capabilities":{"bounding":["CAP_NONE_SUCH","CAP_KILL"]}},"linux":{"resources":{"pids":{}}}}"#;
        let spec = spec_from_text(text.as_bytes()).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 7);
        let bounding = process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap();
        assert_eq!(bounding.iter().collect::<Vec<_>>(), [&oci_spec::runtime::Capability::Kill]);
        assert!(spec.linux().as_ref().unwrap().resources().as_ref().unwrap().pids().is_none());
    }
}
