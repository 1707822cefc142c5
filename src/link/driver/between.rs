//! Between two WebSockets: leaving one for the next, or waiting without any until there is one.
//!
//! Reads and writes nothing. The session is kept as long as was granted, and no longer.

use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::{Driving, Halt, UNSENT};
use crate::link::LinkEnd;
use crate::link::path::{MOVING, Path};

/// Without a WebSocket.
pub(super) struct Away {
    since: Instant,
    /// How it was lost, for people.
    why: String,
}

impl Driving {
    /// Goes over to the WebSocket that was attached, if the one in use was left.
    pub(super) fn follow(&mut self) -> Result<(), LinkEnd> {
        let mut state = self.shared.lock();
        if let Some(why) = &state.abandoned {
            return Err(LinkEnd::Abandoned(why.clone()));
        }
        if self.paths_left == state.paths_left {
            return Ok(());
        }
        self.paths_left = state.paths_left;
        if let Some(left) = self.socket.take() {
            self.former = Some(left);
        }
        self.socket = state.next.take();
        (self.is_dirty, self.is_blocked, self.shows_doubt) = (false, false, false);
        self.away = None;
        if self.socket.is_none() {
            self.shared.show(&Path::Moving);
            let since = Instant::now();
            let why = MOVING.to_owned();
            self.away = Some(Away { since, why });
        }
        Ok(())
    }

    /// Keeps the session for another WebSocket when this one was lost and that is possible.
    pub(super) fn go_away(&mut self, end: LinkEnd) -> Result<(), LinkEnd> {
        let why = match &end {
            LinkEnd::Silent(silent) => silent.to_string(),
            LinkEnd::Lost(why) => why.clone(),
            LinkEnd::ClosedHere(_)
            | LinkEnd::ClosedByPeer { .. }
            | LinkEnd::Violation(_)
            | LinkEnd::NotResumed { .. }
            | LinkEnd::Abandoned(_) => return Err(end),
        };
        let state = self.shared.lock();
        if self.shared.grant.is_none() || !state.goes_on() {
            return Err(end);
        }
        if self.paths_left == state.paths_left {
            self.shared.show(&Path::Away { why: why.clone() });
        }
        drop(state);
        (self.socket, self.former) = (None, None);
        let since = Instant::now();
        self.away = Some(Away { since, why });
        Ok(())
    }

    /// Without a WebSocket there is nothing to do but to wait for the next, for as long as the session is kept.
    pub(super) fn wait_for_socket(&mut self, cx: &mut Context<'_>) -> Result<(), Halt> {
        let (Some(away), Some(grant)) = (&self.away, self.shared.grant) else {
            return Err(LinkEnd::Lost("no WebSocket is left".to_owned()).into());
        };
        let mut state = self.shared.lock();
        if self.paths_left != state.paths_left || state.abandoned.is_some() {
            return Err(Halt::Moved);
        }
        if let Some(code) = state.session.closing_with() {
            return Err(LinkEnd::ClosedHere(code).into());
        }
        state.driver = Some(cx.waker().clone());
        drop(state);
        let window = Duration::from_secs(grant.resume_window);
        let has_former = self.former.is_some();
        // A move that comes to nothing must not leave the agent on a WebSocket that nobody reads.
        let due = away.since
            + if has_former {
                UNSENT.min(window)
            } else {
                window
            };
        self.timer.as_mut().reset(due);
        if self.timer.as_mut().poll(cx).is_pending() {
            return Ok(());
        }
        if has_former {
            self.former = None;
            return Err(Halt::Moved);
        }
        let why = away.why.clone();
        Err(LinkEnd::NotResumed { why, window }.into())
    }
}
