//! The relay's half: which keys it accepts, and what it remembers of those that it no longer does.

use crate::identity::PublicKey;

/// Former keys of one connection that are remembered, so that an agent with one of them is told what it
/// is: two years of monthly keys. A proof by none of the connection's keys costs one check for each.
pub const FORMER_KEPT: usize = 24;

/// The keys of one connection that a relay knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayKeys {
    /// The one that proved itself last.
    pub current: PublicKey,
    /// One that it named, accepted beside it until it proves itself.
    pub next: Option<PublicKey>,
    /// Those that are accepted no more, newest first; at most [`FORMER_KEPT`].
    pub former: Vec<PublicKey>,
}

/// What a key is to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Accepted.
    Current,
    /// Accepted; proving it ends the current one.
    Next,
    /// No longer accepted.
    Former,
    /// Never heard of, or too long ago.
    Unknown,
}

/// What became of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// The key is accepted from now on.
    Stored,
    /// It was accepted already.
    Known,
}

/// Why a key was not accepted beside the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotateRefusal {
    /// Who announces it is not who has the connection.
    #[error("the key that announces another is not this connection's current key")]
    NotCurrent,
    /// What was given up once does not come back.
    #[error("the key has been this connection's key before")]
    Former,
}

impl RelayKeys {
    /// What a key is to the connection.
    #[must_use]
    pub fn standing(&self, key: PublicKey) -> Standing {
        if key == self.current {
            Standing::Current
        } else if self.next == Some(key) {
            Standing::Next
        } else if self.former.contains(&key) {
            Standing::Former
        } else {
            Standing::Unknown
        }
    }

    /// `by` names `next`, and both have signed it.
    ///
    /// # Errors
    /// [`RotateRefusal`]; nothing has changed.
    pub fn announce(
        &mut self,
        by: PublicKey,
        next: PublicKey,
    ) -> Result<Announcement, RotateRefusal> {
        match self.standing(next) {
            // Also when `by` is former by now: the answer to an announcement may come late.
            Standing::Current | Standing::Next if self.standing(by) != Standing::Unknown => {
                return Ok(Announcement::Known);
            }
            Standing::Former => return Err(RotateRefusal::Former),
            Standing::Current | Standing::Next | Standing::Unknown => {}
        }
        if by != self.current {
            return Err(RotateRefusal::NotCurrent);
        }
        self.next = Some(next);
        Ok(Announcement::Stored)
    }

    /// A key was proved in a handshake; whether anything changed.
    pub fn proved(&mut self, key: PublicKey) -> bool {
        if self.next != Some(key) {
            return false;
        }
        self.former.insert(0, self.current);
        self.former.truncate(FORMER_KEPT);
        self.current = key;
        self.next = None;
        true
    }
}
