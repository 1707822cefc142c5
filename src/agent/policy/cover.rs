//! What a deny rule covers: every path that a service could read as one of its template.
//!
//! An allow rule compares byte by byte, since what it misses is refused. With a deny rule it is the other
//! way round: what it misses may pass. So it looks at all readings of a path (decoded before or after
//! it is taken apart, cut at an encoded `?` or `#`), and does not tell capitals from small letters.

use std::borrow::Cow;

use super::path::{self, PlainPath};
use super::template::{Segment, Template};

/// A template that is compared with every reading of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cover {
    /// Plain text in small letters without escapes; nothing for a placeholder.
    segments: Vec<Option<String>>,
    takes_rest: bool,
}

impl Cover {
    pub(super) fn of(template: &Template) -> Self {
        let mut segments: Vec<_> = template
            .segments()
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => Some(path::decode_fully(text).to_lowercase()),
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
    pub(super) fn covers(&self, path: PlainPath<'_>) -> bool {
        if !path.has_escapes() {
            return self.covers_segments(path.as_str().split('/').map(Cow::Borrowed));
        }
        path.cuts().chain([path.as_str()]).any(|reading| {
            let apart_first = reading.split('/').map(path::decode_fully);
            let decoded = path::decode_fully(reading);
            self.covers_segments(apart_first)
                || self.covers_segments(decoded.split('/').map(Cow::Borrowed))
        })
    }

    /// Whether these segments, the first being what stands before the first slash, are covered.
    fn covers_segments<'a>(&self, segments: impl Iterator<Item = Cow<'a, str>>) -> bool {
        // Only the last one can be empty, after a slash at the end.
        let mut asked = segments.skip(1).filter(|segment| !segment.is_empty());
        for expected in &self.segments {
            let Some(text) = asked.next() else {
                return false;
            };
            if let Some(expected) = expected
                && !text
                    .chars()
                    .flat_map(char::to_lowercase)
                    .eq(expected.chars())
            {
                return false;
            }
        }
        self.takes_rest || asked.next().is_none()
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
            ("/", "/", true),
            ("/", "/a", false),
            ("/{*rest}", "/", true),
        ] {
            let cover = Cover::of(&Template::parse(template).unwrap());
            let asked = path.parse().unwrap();
            let covers = PlainPath::read(&asked).is_ok_and(|path| cover.covers(path));
            assert_eq!(covers, expected, "{template} {path}");
        }
    }
}
