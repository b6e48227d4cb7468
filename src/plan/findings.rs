//! What is wrong with a configuration, all of it at once.
//!
//! Every part of the plan is made as well as it can be: what is wrong goes to the findings, and stands in the plan as its
//! default, so that it hides nothing else and is told only once. A plan with a finding is never carried out: `create` reports
//! the first one, `lint` all. There is one validation, and both do it.

use crate::error::{Error, Result};

/// The errors, in the order in which they are found.
#[derive(Debug, Default)]
pub struct Findings(Vec<Error>);

impl Findings {
    /// Takes what is wrong out of a result.
    pub fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// The same, with a default for what is wrong.
    pub fn or_default<T: Default>(&mut self, result: Result<T>) -> T {
        self.take(result).unwrap_or_default()
    }

    /// One more.
    pub fn add(&mut self, error: Error) {
        self.0.push(error);
    }

    /// All, in order.
    pub fn into_list(self) -> Vec<Error> {
        self.0
    }

    /// Makes a part of a plan that must be right.
    ///
    /// # Errors
    /// The first finding.
    pub fn first<T>(make: impl FnOnce(&mut Findings) -> T) -> Result<T> {
        let mut findings = Findings::default();
        let made = make(&mut findings);
        match findings.0.into_iter().next() {
            None => Ok(made),
            Some(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ends_it_and_all_are_kept() {
        let make = |findings: &mut Findings| {
            findings.or_default::<u8>(Err(Error::at("a", "one")));
            findings.take::<u8>(Err(Error::at("b", "two")));
            findings.take(Ok(7))
        };
        assert_eq!(Findings::first(make).unwrap_err().property(), Some("a"));
        let mut findings = Findings::default();
        assert_eq!(make(&mut findings), Some(7));
        assert_eq!(findings.into_list().iter().filter_map(Error::property).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(Findings::first(|_| 7).unwrap(), 7);
    }
}
