//! What goes on on a caller's socket: how many requests came, and on whom the open ones wait.
//!
//! Counts only; the listener judges. A body of an answer tells by itself whose turn it is: one that
//! was asked and has nothing yet waits for its source, one that is not asked waits for its reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::body::Body;
use crate::body::watched::{Seen, Watched, Watcher};
use crate::link::tls::Writes;

/// What goes on on one socket.
#[derive(Debug, Default)]
pub struct Activity {
    requests: AtomicU64,
    /// Requests and tunnels that have not come to their end.
    open: AtomicUsize,
    /// Those of them that wait for something other than the caller.
    at_work: AtomicUsize,
    writes: Arc<Writes>,
}

/// Who is to act next on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The relay, or someone it waits for: an answer is being made.
    Relay,
    /// The caller: what there is for it is not being read.
    Caller,
    /// Nobody: nothing is open.
    Nobody,
}

/// A request or a tunnel that is open until this is dropped.
#[derive(Debug)]
pub struct Open {
    activity: Arc<Activity>,
    is_at_work: bool,
}

/// An answer's body that keeps its request open.
pub type Answer = Watched<Body, Open>;

impl Activity {
    /// Of a socket whose writes are watched.
    #[must_use]
    pub fn new(writes: Arc<Writes>) -> Arc<Self> {
        Arc::new(Self {
            writes,
            ..Self::default()
        })
    }

    /// A request has come.
    #[must_use]
    pub fn request(self: &Arc<Self>) -> Open {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.tunnel()
    }

    /// A request becomes a tunnel, which has no answer that would keep it open.
    #[must_use]
    pub fn tunnel(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
        Open {
            activity: Arc::clone(self),
            is_at_work: true,
        }
    }

    /// How many requests came.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many bytes were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.writes.bytes()
    }

    /// Who is to act next.
    #[must_use]
    pub fn turn(&self) -> Turn {
        if self.at_work.load(Ordering::Relaxed) > 0 {
            Turn::Relay
        } else if self.open.load(Ordering::Relaxed) > 0 || self.writes.is_blocked() {
            Turn::Caller
        } else {
            Turn::Nobody
        }
    }
}

impl Open {
    /// The answer to this request, which is open until its body has ended or is dropped.
    #[must_use]
    pub fn answered(mut self, body: Body) -> Answer {
        self.set_at_work(false);
        Watched::new(body, self)
    }

    fn set_at_work(&mut self, is_at_work: bool) {
        if self.is_at_work != is_at_work {
            self.is_at_work = is_at_work;
            let at_work = &self.activity.at_work;
            if is_at_work {
                at_work.fetch_add(1, Ordering::Relaxed);
            } else {
                at_work.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.set_at_work(false);
        self.activity.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watcher for Open {
    fn saw(&mut self, seen: Seen) {
        self.set_at_work(seen == Seen::Nothing);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use tokio::sync::mpsc;

    use super::*;
    use crate::body;
    use crate::body::watched::tests::sent;

    #[tokio::test]
    async fn it_is_the_relays_turn_until_there_is_an_answer_and_then_that_of_who_does_not_go_on() {
        let activity = Activity::new(Arc::default());
        assert_eq!(activity.turn(), Turn::Nobody);
        let open = activity.request();
        assert_eq!(activity.turn(), Turn::Relay);

        let (source, answer) = mpsc::channel(1);
        let mut answer = open.answered(body::streaming(sent(answer)));
        assert_eq!(activity.turn(), Turn::Caller, "nobody asks for the body");
        assert!(answer.frame().now_or_never().is_none());
        assert_eq!(activity.turn(), Turn::Relay, "the source has nothing yet");
        source.send(Ok("x")).await.unwrap();
        assert!(answer.frame().await.is_some());
        assert_eq!(
            activity.turn(),
            Turn::Caller,
            "it was given and no more is asked"
        );
        drop(answer);
        assert_eq!(activity.turn(), Turn::Nobody);
        assert_eq!(activity.requests(), 1);
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_while_its_source_is_waited_for_leaves_nothing_behind() {
        let activity = Activity::new(Arc::default());
        let (_source, answer) = mpsc::channel(1);
        let mut answer = activity.request().answered(body::streaming(sent(answer)));
        assert!(answer.frame().now_or_never().is_none());
        drop(answer);
        assert_eq!(activity.turn(), Turn::Nobody);
    }

    #[test]
    fn a_tunnel_is_open_until_it_ends() {
        let activity = Activity::new(Arc::default());
        let request = activity.request();
        let tunnel = activity.tunnel();
        drop(request.answered(body::empty()));
        assert_eq!(activity.turn(), Turn::Relay);
        drop(tunnel);
        assert_eq!(activity.turn(), Turn::Nobody);
        assert_eq!(activity.requests(), 1);
    }
}
