//! A path taken apart once for all rules: as it came, and in every way in which a service could read it.

use std::cell::OnceCell;

use super::path::{self, Ambiguity, PlainPath};
use super::pattern::fold;
use http::uri::PathAndQuery;

/// A path as rules look at it. What only some rules ask for is made when the first of them does.
#[derive(Debug)]
pub(super) struct Readings<'a> {
    path: PlainPath<'a>,
    has_encoded_slash: bool,
    segments: Vec<&'a str>,
    cuts: OnceCell<Vec<Vec<&'a str>>>,
    folded: OnceCell<Vec<Vec<String>>>,
}

impl<'a> Readings<'a> {
    /// Of a path that is plain.
    ///
    /// # Errors
    /// Why it is not.
    pub(super) fn of(path_and_query: &'a PathAndQuery) -> Result<Self, Ambiguity> {
        let path = PlainPath::read(path_and_query)?;
        Ok(Self {
            path,
            has_encoded_slash: path.has_encoded_slash(),
            segments: segments(path.as_str()),
            cuts: OnceCell::new(),
            folded: OnceCell::new(),
        })
    }

    /// The path itself.
    pub(super) const fn path(&self) -> PlainPath<'a> {
        self.path
    }

    /// Whether there is a `%2f` in it.
    pub(super) const fn has_encoded_slash(&self) -> bool {
        self.has_encoded_slash
    }

    /// What stands between its slashes.
    pub(super) fn segments(&self) -> &[&'a str] {
        &self.segments
    }

    /// The same of what is left where a service takes an encoded `?` or `#` for the real one.
    pub(super) fn cuts(&self) -> &[Vec<&'a str>] {
        self.cuts
            .get_or_init(|| self.path.cuts().map(segments).collect())
    }

    /// Every reading's segments that are not empty, decoded fully, without the difference between capitals and small
    /// letters.
    pub(super) fn folded(&self) -> &[Vec<String>] {
        self.folded.get_or_init(|| self.fold())
    }

    fn fold(&self) -> Vec<Vec<String>> {
        if !self.path.has_escapes() {
            return vec![named(self.segments.iter().map(|text| fold(text)))];
        }
        let mut readings = Vec::new();
        for reading in self.path.cuts().chain([self.path.as_str()]) {
            let apart_first = segments(reading).into_iter();
            readings.push(named(
                apart_first.map(|text| fold(&path::decode_fully(text))),
            ));
            let decoded = path::decode_fully(reading);
            readings.push(named(segments(&decoded).into_iter().map(fold)));
        }
        readings
    }
}

/// What stands between the slashes of a path, from the first slash on.
fn segments(path: &str) -> Vec<&str> {
    path.strip_prefix('/').unwrap_or(path).split('/').collect()
}

/// Without what is empty: mostly what follows a slash at the end.
fn named(segments: impl Iterator<Item = String>) -> Vec<String> {
    segments.filter(|segment| !segment.is_empty()).collect()
}
