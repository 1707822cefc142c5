//! An upstream's answer on its way out: when its body has been read to the end, the connection is kept.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::pool::{Connection, Pool};
use crate::body::watched::{Seen, Watched, Watcher};
use crate::body::{self, Body};
use crate::forwarding::is_plain_number;

/// More than an exabyte: HTTP/2 libraries take no longer number for a length.
const MAX_DIGITS: usize = 19;

/// The answer with a body that gives connection and place back when it has ended, and that closes
/// the connection when it is dropped before.
pub(super) fn pass_on(
    mut response: Response<Incoming>,
    connection: Connection,
    pool: Arc<Pool>,
    place: OwnedSemaphorePermit,
) -> Response<Body> {
    say_length_once(response.headers_mut());
    response.map(|body| {
        if body.is_end_stream() {
            pool.put(connection);
            return body::empty();
        }
        let held = Held(Some((connection, pool, place)));
        body::streaming(Watched::new(body, held))
    })
}

/// Leaves one length, in digits. A service may say it twice, or as a list (RFC 9110, section 8.6), which HTTP/2 has no room for:
/// the answer would not arrive. Lengths of a body were compared before it was begun; those of an answer to HEAD, or of one
/// that has no body, were not, and say nothing where they differ.
fn say_length_once(headers: &mut HeaderMap) {
    let mut said = headers.get_all(CONTENT_LENGTH).iter();
    let (first, more) = (said.next(), said.next());
    let is_settled = |first: &[u8]| is_plain_number(first) && length(first).is_some();
    if more.is_none() && first.is_none_or(|first| is_settled(first.as_bytes())) {
        return;
    }
    let said = headers.get_all(CONTENT_LENGTH).iter();
    let items = said.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut lengths = items.map(length);
    let first = lengths.next().flatten();
    let agreed = first.filter(|first| lengths.all(|length| length == Some(*first)));
    match agreed {
        Some(length) => drop(headers.insert(CONTENT_LENGTH, length.into())),
        None => drop(headers.remove(CONTENT_LENGTH)),
    }
}

fn length(item: &[u8]) -> Option<u64> {
    let digits = item.trim_ascii();
    let is_number = digits.len() <= MAX_DIGITS && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    text.parse().ok()
}

/// What the answer holds until it has ended.
struct Held(Option<(Connection, Arc<Pool>, OwnedSemaphorePermit)>);

impl Watcher for Held {
    fn saw(&mut self, seen: Seen) {
        match seen {
            Seen::Nothing | Seen::Frame => {}
            Seen::End => {
                if let Some((connection, pool, _place)) = self.0.take() {
                    pool.put(connection);
                }
            }
            Seen::Failure => self.0 = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_once_or_not_at_all() {
        for (said, expected) in [
            (&[][..], &[][..]),
            (&["2"], &["2"]),
            (&["2", "2"], &["2"]),
            (&["2, 2"], &["2"]),
            (&["2,02", " 2 "], &["2"]),
            (&["02"], &["2"]),
            (&["2", "3"], &[]),
            (&["2, 3"], &[]),
            (&["2,"], &[]),
            (&["+2"], &[]),
            (&["2", "two"], &[]),
            (&["99999999999999999999"], &[]),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(CONTENT_LENGTH, value.parse().unwrap());
            }
            say_length_once(&mut headers);
            let left: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(left, expected, "{said:?}");
        }
    }
}
