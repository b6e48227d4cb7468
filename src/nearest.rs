//! Which known name was meant by one that is mistyped.

/// How many letters may be wrong for a name to be meant.
const TYPOS: usize = 2;

/// The known name that comes nearest to one, and how far it is, if it is near enough to be meant. Case does not matter.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<(usize, &'a str)> {
    let far = |known: &'a str| (distance(&name.to_lowercase(), &known.to_lowercase()), known);
    known.into_iter().map(far).min().filter(|(distance, known)| *distance <= TYPOS.min(known.len() / 2))
}

/// Letters to add, take out, change, or swap with the next: Levenshtein's distance, and Damerau's swap.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![];
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut next = vec![i + 1];
        for j in 0..b.len() {
            let changed = row[j] + usize::from(a[i] != b[j]);
            let mut least = changed.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                let swapped: &Vec<usize> = &before;
                least = least.min(swapped[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted() {
        for (a, b, letters) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("ab", "abc", 1),
            ("kitten", "sitting", 3),
            ("memroy", "memory", 1),
            ("ab", "ba", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (letters, letters), "{a} {b}");
        }
    }

    #[test]
    fn a_swap_is_nearer_than_two_other_letters() {
        assert_eq!(nearest("memroy", ["memcpy", "memory"]), Some((1, "memory")));
        assert_eq!(nearest("Action", ["names", "action"]), Some((0, "action")));
        assert_eq!(nearest("other", ["names", "action"]), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
