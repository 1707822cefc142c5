//! The agent's half: which key it proves, and what is left to do once a link is up.

use crate::identity::PublicKey;

/// The keys of one connection that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentKeys {
    /// The one that it proves first.
    pub current: PublicKey,
    /// One that is to take its place, as soon as the relay has it.
    pub next: Option<PublicKey>,
    /// The one before: for a relay whose store was restored from a backup.
    pub previous: Option<PublicKey>,
}

/// What is left to do after a link was made with one of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentStep {
    /// Nothing.
    Nothing,
    /// Make a next key, on the disk, and look again.
    MakeNext,
    /// Tell the relay that `by` is followed by `next`.
    Announce {
        /// The key that the relay knows.
        by: PublicKey,
        /// The one to be accepted beside it.
        next: PublicKey,
    },
    /// The relay has the next key: make it current.
    Promote,
}

impl AgentKeys {
    /// The key to prove, when the relay has refused these; `None` when it has refused all.
    #[must_use]
    pub fn to_prove(&self, refused: &[PublicKey]) -> Option<PublicKey> {
        [Some(self.current), self.next, self.previous]
            .into_iter()
            .flatten()
            .find(|key| !refused.contains(key))
    }

    /// What is left to do, on a link that was made with `proven`. `is_wanted`: a new key is due or asked for.
    #[must_use]
    pub fn after_link(&self, proven: PublicKey, is_wanted: bool) -> AgentStep {
        if Some(proven) == self.next {
            return AgentStep::Promote;
        }
        if proven != self.current {
            // The relay has lost what it knew of the current key, or has not seen it yet.
            return AgentStep::Announce {
                by: proven,
                next: self.current,
            };
        }
        match self.next {
            Some(next) => AgentStep::Announce { by: proven, next },
            None if is_wanted => AgentStep::MakeNext,
            None => AgentStep::Nothing,
        }
    }

    /// What is left to do once the relay has confirmed that it accepts `announced`.
    #[must_use]
    pub fn after_confirmation(&self, announced: PublicKey) -> AgentStep {
        if self.next == Some(announced) {
            AgentStep::Promote
        } else {
            AgentStep::Nothing
        }
    }
}
