//! What an event says: what was done, to what, by which call, and why so. Texts may be borrowed of who does it.

use std::borrow::Cow;

use crate::error::Error;

/// The texts of an event. Made only when something records.
#[derive(Debug, Default)]
pub struct About<'a> {
    pub(super) object: Cow<'a, str>,
    pub(super) mechanism: Cow<'a, str>,
    pub(super) why: Cow<'a, str>,
    pub(super) detail: Cow<'a, str>,
}

impl<'a> About<'a> {
    /// About a path, a mount, a hook.
    pub fn object(object: impl Into<Cow<'a, str>>) -> About<'a> {
        About { object: object.into(), ..About::default() }
    }

    /// By this call or in this way.
    pub fn by(self, mechanism: impl Into<Cow<'a, str>>) -> About<'a> {
        About { mechanism: mechanism.into(), ..self }
    }

    /// For this reason.
    pub fn why(self, why: impl Into<Cow<'a, str>>) -> About<'a> {
        About { why: why.into(), ..self }
    }

    /// And what else there is to say.
    pub fn with(self, detail: impl Into<Cow<'a, str>>) -> About<'a> {
        About { detail: detail.into(), ..self }
    }

    /// It failed: what was said of it gives way to the error and to what the user can do.
    pub(super) fn failed(self, error: &Error) -> About<'a> {
        self.with(error.message()).why(error.advice().unwrap_or_default().to_owned())
    }
}

impl From<String> for About<'_> {
    fn from(detail: String) -> Self {
        About::default().with(detail)
    }
}

impl<'a> From<&'a str> for About<'a> {
    fn from(detail: &'a str) -> Self {
        About::default().with(detail)
    }
}
