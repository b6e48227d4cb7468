//! Invariants of places, for the fuzz targets; see [`crate::fuzzing`].

use std::path::Path;

use super::CgroupRecord;
use super::layout::steps;

/// A path of a configuration that is taken has only steps downwards.
pub(crate) fn stays_below(path: &Path) {
    let Ok(steps) = steps(path) else { return };
    for step in steps {
        assert!(!matches!(step, "" | "." | ".."), "`{}` has the step `{step}`", path.display());
        assert!(!step.contains(['/', '\0']), "`{}` has the step `{step}`", path.display());
    }
}

/// A stored place that passes its check leads below its mount point.
pub(crate) fn checked_places_stay_below(record: &CgroupRecord) {
    for dir in record.dirs.iter().filter(|dir| dir.check().is_ok()) {
        assert!(dir.path.len() > 1 && !dir.path.split('/').any(|step| step == ".."), "{dir:?}");
        // What is removed is counted by these.
        assert!(dir.steps().iter().all(|step| dir.path.starts_with(step)), "{dir:?}");
    }
}
