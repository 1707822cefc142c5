//! Which known name someone probably meant. Pure.

/// The known name that differs from `given` by the fewest edits, if it is near enough to be a slip of
/// the finger: at most a third of its letters, and always at least one.
pub(super) fn nearest<'a>(
    given: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let given = given.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (edits(&given, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many letters must be put in, left out or changed to make `b` of `a` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (right, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(left != *right);
            diagonal = *cell;
            before = changed.min(*cell + 1).min(before + 1);
            *cell = before;
        }
    }
    // The first column is never read back; an empty `b` costs all the letters of `a`.
    row.last()
        .filter(|_| !b.is_empty())
        .copied()
        .unwrap_or_else(|| a.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted_as_people_make_them() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("proxy", "proxy", 0),
            ("proxxy", "proxy", 1),
            ("poxy", "proxy", 1),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["proxy", "ca_file", "url"];
        assert_eq!(nearest("Proxy", known), Some("proxy"));
        assert_eq!(nearest("ca-file", known), Some("ca_file"));
        assert_eq!(nearest("uri", known), Some("url"));
        assert_eq!(nearest("timeout", known), None);
    }
}
