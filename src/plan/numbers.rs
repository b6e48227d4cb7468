//! Lists of CPUs and of memory nodes: `0-3,7`.

use crate::error::{Error, Result};

/// The numbers of a list, ascending, each once. `cap` is the first number that is too big. Empty for an empty text.
///
/// # Errors
/// What is no such list, with `at`, its property.
pub(super) fn parse(text: &str, cap: u32, at: &str) -> Result<Vec<u32>> {
    let bad = |why: &str| Error::at(at, format!("`{text}` is no list of numbers and ranges: {why}"));
    let mut numbers = vec![];
    for part in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |digits: &str| match digits.trim().parse::<u32>() {
            Ok(number) if number < cap => Ok(number),
            Ok(number) => Err(bad(&format!("{number} is over {}", cap - 1))),
            Err(_) => Err(bad(&format!("`{digits}` is no number"))),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(bad(&format!("{first} is after {last}")));
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Numbers with commas between them, for errors.
pub(crate) fn listed(numbers: &[u32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_counted_out() {
        assert_eq!(parse("0-2, 7,1", 8, "x").unwrap(), [0, 1, 2, 7]);
        assert!(parse("", 8, "x").unwrap().is_empty());
        for bad in ["8", "3-1", "a", "1,", "-1", "1-2-3"] {
            assert!(parse(bad, 8, "x").is_err(), "{bad}");
        }
    }
}
