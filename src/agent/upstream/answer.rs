//! An upstream's answer on its way out: when its body has been read to the end, the connection is kept.

use std::sync::Arc;

use http::Response;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::pool::{Connection, Pool};
use crate::body::watched::{Seen, Watched, Watcher};
use crate::body::{self, Body};

/// The answer with a body that gives connection and place back when it has ended, and that closes
/// the connection when it is dropped before.
pub(super) fn pass_on(
    response: Response<Incoming>,
    connection: Connection,
    pool: Arc<Pool>,
    place: OwnedSemaphorePermit,
) -> Response<Body> {
    response.map(|body| {
        if body.is_end_stream() {
            pool.put(connection);
            return body::empty();
        }
        let held = Held(Some((connection, pool, place)));
        body::streaming(Watched::new(body, held))
    })
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
