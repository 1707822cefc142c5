//! The path of a call, taken apart without changing a byte of what is passed on.

use bytes::Bytes;
use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::PREFIX;
use crate::name::Name;

/// What a caller asks for: `/c/{connection}/{upstream}/{path…}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The connection's name.
    pub(super) connection: &'a str,
    /// The upstream's name.
    pub(super) upstream: &'a str,
    /// From the slash after the upstream on, query included; may be empty or begin with `?`.
    rest: &'a str,
}

impl<'a> Target<'a> {
    /// Nothing when the path names no upstream.
    pub(super) fn of(uri: &'a Uri) -> Option<Self> {
        let asked = uri.path_and_query()?.as_str().strip_prefix(PREFIX)?;
        let (connection, asked) = asked.split_once('/')?;
        let end = asked.find(['/', '?']).unwrap_or(asked.len());
        let (upstream, rest) = asked.split_at(end);
        let is_whole = !connection.is_empty() && !upstream.is_empty() && !connection.contains('?');
        is_whole.then_some(Self {
            connection,
            upstream,
            rest,
        })
    }

    /// The address on the lane. Nothing when no upstream can have this name.
    pub(super) fn lane_uri(&self) -> Option<Uri> {
        // Names have no '~', '@' or ':', so a caller can address upstreams and nothing else.
        let name: Name = self.upstream.parse().ok()?;
        let authority = Bytes::from(String::from(name));
        let path_and_query = match self.rest.as_bytes().first() {
            Some(b'/') => Bytes::copy_from_slice(self.rest.as_bytes()),
            Some(_) | None => Bytes::from(format!("/{}", self.rest)),
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(Authority::from_maybe_shared(authority).ok()?);
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path_and_query).ok()?);
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_after_the_upstream_passes_byte_for_byte() {
        for (asked, expected) in [
            (
                "/c/acme/jira/a%2Fb/../c;d?e=%20&&f",
                "http://jira/a%2Fb/../c;d?e=%20&&f",
            ),
            ("/c/acme/jira//x", "http://jira//x"),
            ("/c/acme/jira/", "http://jira/"),
            ("/c/acme/jira", "http://jira/"),
            ("/c/acme/jira?x", "http://jira/?x"),
            ("https://relay.example/c/acme/jira/x", "http://jira/x"),
        ] {
            let uri: Uri = asked.parse().unwrap();
            let target = Target::of(&uri).unwrap();
            assert_eq!((target.connection, target.upstream), ("acme", "jira"));
            assert_eq!(target.lane_uri().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_path_without_both_names_is_no_target() {
        for asked in [
            "/c/",
            "/c/acme",
            "/c/acme/",
            "/c//jira/x",
            "/c/?/x",
            "/d/acme/jira",
        ] {
            assert_eq!(Target::of(&asked.parse().unwrap()), None, "{asked}");
        }
    }

    #[test]
    fn nothing_but_an_upstream_can_be_addressed() {
        for asked in [
            "/c/a/~control/v1/state",
            "/c/a/u@h/x",
            "/c/a/h:80/x",
            "/c/a/%6a/x",
            "/c/a/../x",
        ] {
            let uri: Uri = asked.parse().unwrap();
            assert_eq!(Target::of(&uri).unwrap().lane_uri(), None, "{asked}");
        }
    }
}
