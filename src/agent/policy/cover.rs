//! What a deny rule covers: every path that a service could read as one of its template.
//!
//! An allow rule compares byte by byte, since what it misses is refused. With a deny rule it is the other
//! way round: what it misses may pass. So it looks at all readings of a path (decoded before or after
//! it is taken apart, cut at an encoded `?` or `#`), and does not tell capitals from small letters.

use super::path;
use super::pattern::fold;
use super::readings::Readings;
use super::template::{Segment, Template};

/// A template that is compared with every reading of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cover {
    /// Plain text without escapes, folded; nothing for a placeholder.
    segments: Vec<Option<String>>,
    takes_rest: bool,
}

impl Cover {
    pub(super) fn of(template: &Template) -> Self {
        let mut segments: Vec<_> = template
            .segments()
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => Some(fold(&path::decode_fully(text))),
                Segment::One => None,
            })
            .collect();
        // Many services make no difference between "/admin" and "/admin/".
        if segments
            .last()
            .is_some_and(|last| last.as_deref() == Some(""))
        {
            segments.pop();
        }
        Self {
            segments,
            takes_rest: template.takes_rest(),
        }
    }

    /// Whether some reading of the path lies under the template.
    pub(super) fn covers(&self, path: &Readings<'_>) -> bool {
        path.folded().iter().any(|it| self.covers_segments(it))
    }

    fn covers_segments(&self, asked: &[String]) -> bool {
        let is_long_enough = match self.takes_rest {
            true => asked.len() >= self.segments.len(),
            false => asked.len() == self.segments.len(),
        };
        let fits = |(expected, text): (&Option<String>, &String)| {
            expected.as_ref().is_none_or(|expected| expected == text)
        };
        is_long_enough && self.segments.iter().zip(asked).all(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_of_a_path_is_covered() {
        for (template, path, expected) in [
            ("/admin", "/admin", true),
            ("/admin", "/admin/", true),
            ("/admin/", "/admin", true),
            ("/admin", "/ADMIN", true),
            ("/admin", "/%61dmin", true),
            ("/admin", "/%2561dmin", true),
            ("/admin", "/admin%3Fx", true),
            ("/admin", "/admin%23", true),
            ("/admin", "/admin/x", false),
            ("/admin", "/administrator", false),
            ("/admin/{*rest}", "/admin", true),
            ("/admin/{*rest}", "/admin%2Fusers", true),
            ("/admin/{*rest}", "/a%2Fadmin/users", false),
            ("/p/{id}/secrets", "/p/a%2Fb/secrets", true),
            ("/p/{id}/secrets", "/p/a%2Fb/%73ecrets", true),
            ("/p/{id}/secrets", "/p/a%2Fsecrets", true),
            ("/p/{id}/secrets", "/p/a/secrets%3F/x", true),
            ("/p/{id}/secrets", "/p//secrets", false),
            ("/gr%C3%BC%C3%9Fe", "/GR%C3%9C%C3%9FE", true),
            ("/keys", "/%E2%84%AAeys", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/{*rest}", "/", true),
        ] {
            let cover = Cover::of(&Template::parse(template).unwrap());
            let asked = path.parse().unwrap();
            let covers = Readings::of(&asked).is_ok_and(|path| cover.covers(&path));
            assert_eq!(covers, expected, "{template} {path}");
        }
    }
}
