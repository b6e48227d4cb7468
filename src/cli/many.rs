//! One container by its ID, or all whose IDs match a regular expression: `--regex` of crun's `delete` and `kill`.

use regex_lite::Regex;

use crate::error::{Error, Kind, Result};
use crate::state::StateRoot;

/// Calls `act` on the container, or on each that matches. Every one is tried; the first failure is the error, and tells how
/// many there were.
pub(super) fn each(state: &StateRoot, id: &str, regex: bool, act: impl Fn(&str) -> Result<()>) -> Result<()> {
    if !regex {
        return act(id);
    }
    let wrong = |e: regex_lite::Error| Error::new(Kind::Usage, format!("--regex `{id}`: {e}"));
    let regex = Regex::new(id).map_err(wrong)?;
    let matching: Vec<_> = state.ids()?.into_iter().filter(|id| regex.is_match(id.as_str())).collect();
    let mut failures = matching.iter().filter_map(|id| {
        // One that another command has deleted meanwhile is as it should be.
        let failure = act(id.as_str()).err().filter(|e| e.kind() != Kind::NotFound)?;
        Some(failure.context(format!("container `{id}`")))
    });
    let Some(first) = failures.next() else { return Ok(()) };
    Err(match failures.count() {
        0 => first,
        more => first.advise(format!("and {more} more of {} failed", matching.len())),
    })
}
