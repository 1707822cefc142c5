//! Kept connections to one upstream: the one that was used last is used first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::body::Body;

/// How long a connection is kept unused. Common servers close theirs after 5 to 75 seconds.
const KEEP_IDLE: Duration = Duration::from_secs(60);
/// How long the rest of a request may take that was answered before its end, until its connection is given up.
const WAIT_FOR_REST: Duration = Duration::from_secs(5);

/// The sending half of an HTTP/1.1 connection; dropped, the connection closes.
pub(super) type Connection = SendRequest<Body>;

/// Connections that wait for their next call.
#[derive(Debug)]
pub(super) struct Pool {
    capacity: usize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    connections: VecDeque<(Connection, Instant)>,
    has_sweeper: bool,
}

impl Pool {
    /// A pool that keeps at most `capacity` connections.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            idle: Mutex::default(),
        }
    }

    /// A connection that is ready for a call, if one is kept.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle();
        while let Some((connection, _)) = idle.connections.pop_back() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer has been read to the end.
    pub(super) fn put(self: Arc<Self>, mut connection: Connection) {
        if connection.is_ready() {
            self.keep(connection);
        } else if !connection.is_closed() {
            tokio::spawn(async move {
                let ready = tokio::time::timeout(WAIT_FOR_REST, connection.ready()).await;
                if matches!(ready, Ok(Ok(()))) {
                    self.keep(connection);
                }
            });
        }
    }

    fn keep(self: Arc<Self>, connection: Connection) {
        let mut idle = self.idle();
        if idle.connections.len() == self.capacity {
            return;
        }
        idle.connections.push_back((connection, Instant::now()));
        let needs_sweeper = !std::mem::replace(&mut idle.has_sweeper, true);
        drop(idle);
        if needs_sweeper {
            tokio::spawn(self.sweep());
        }
    }

    /// Closes connections that nobody used, until there are none.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(KEEP_IDLE).await;
            let mut idle = self.idle();
            idle.connections.retain(|(connection, since)| {
                since.elapsed() < KEEP_IDLE && !connection.is_closed()
            });
            if idle.connections.is_empty() {
                idle.has_sweeper = false;
                return;
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Pool {
    /// Whether every connection that is kept has been closed by the upstream.
    pub(super) fn has_only_closed(&self) -> bool {
        let idle = self.idle();
        idle.connections
            .iter()
            .all(|(connection, _)| connection.is_closed())
    }
}
