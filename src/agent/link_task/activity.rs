//! What a link task is doing to get a WebSocket: a dial, or the wait for the next one.
//!
//! Holds the futures so that the task's `select!` may drop its own borrow of them at any time.

use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Sleep;

use super::Event;
use crate::agent::conditions::{Code, Trouble};
use crate::agent::config::TlsInspection;
use crate::agent::live::Live;
use crate::agent::state::{self, ConnectionRecord, HeldKey, StateDirectory, StateError};
use crate::error_chain::chain;
use crate::identity::PublicKey;
use crate::link::LinkHandle;
use crate::link::client::{self, ConnectError, Connected, LinkTarget};
use crate::protocol::handshake::{RefusalCode, Ticket};

/// A dial under way.
type Dial = Pin<Box<dyn Future<Output = Result<(Connected, HeldKey), DialFailure>> + Send>>;

/// What is under way.
pub(super) enum Activity {
    /// Nothing: only orders can change that.
    Idle,
    /// A dial.
    Dialling(Dial),
    /// The wait before the next dial.
    Waiting(Pin<Box<Sleep>>),
}

/// Why a dial led to no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialFailure {
    /// The identity key cannot be used.
    #[error(transparent)]
    State(StateError),
    /// The relay has refused every key that there is.
    #[error("the relay has refused every identity key of the connection")]
    NoKeyLeft,
    /// The way to the relay, or the relay, did not allow it.
    #[error("{}", chain(error))]
    Connect {
        /// Why.
        error: ConnectError,
        /// The key that was to be proved.
        key: PublicKey,
    },
}

impl Activity {
    /// A dial with a key that is none of `refused`; `resume` is the link to go on with, `succeeds` what a former
    /// process announced this one under.
    pub(super) fn dial(
        record: &ConnectionRecord,
        state: &Arc<StateDirectory>,
        live: &Live,
        refused: &[PublicKey],
        resume: Option<LinkHandle>,
        succeeds: Option<Ticket>,
    ) -> Self {
        let refused = refused.to_vec();
        let (record, state, parts) = (record.clone(), Arc::clone(state), live.parts());
        Self::Dialling(Box::pin(async move {
            let connection = record.connection;
            let to_prove = move |state: &StateDirectory| state.key_to_prove(connection, &refused);
            let held = state::off_thread(&state, to_prove)
                .await
                .map_err(DialFailure::State)?
                .ok_or(DialFailure::NoKeyLeft)?;
            let target = LinkTarget {
                relay_url: &record.relay_url,
                tls_pin: record.tls_pin,
                relay_identity: record.relay_identity,
                connection,
                key: &held.key,
                allow_tls_inspection: parts.tls_inspection == TlsInspection::Allow,
                deactivated: record.deactivated,
                resume,
                succeeds,
            };
            match client::connect(&parts.dialer, &target).await {
                Ok(connected) => Ok((connected, held)),
                Err(error) => {
                    let key = held.key.public_key();
                    Err(DialFailure::Connect { error, key })
                }
            }
        }))
    }

    pub(super) fn wait(delay: Duration) -> Self {
        Self::Waiting(Box::pin(tokio::time::sleep(delay)))
    }

    /// Cancel-safe: the futures are kept, not moved into this one.
    pub(super) async fn next_event(&mut self) -> Event {
        match self {
            Self::Idle => pending().await,
            Self::Dialling(dial) => Event::Dialled(dial.await),
            Self::Waiting(sleep) => {
                sleep.await;
                Event::WaitOver
            }
        }
    }
}

impl DialFailure {
    /// Whether trying again can never succeed.
    pub(super) fn is_final(&self) -> bool {
        match self {
            // A key can be restored from a backup while the daemon runs.
            Self::State(_) | Self::NoKeyLeft => false,
            Self::Connect { error, .. } => error.is_final().is_some(),
        }
    }

    /// The key that was refused as such: with another one a dial may succeed.
    pub(super) fn refused_key(&self) -> Option<PublicKey> {
        match self {
            Self::State(_) | Self::NoKeyLeft => None,
            Self::Connect { error, key } => error.is_of_key().then_some(*key),
        }
    }

    /// Whether another agent with the same identity holds the link: then this one is a copy of it.
    pub(super) fn is_copy(&self) -> bool {
        match self {
            Self::State(_) | Self::NoKeyLeft => false,
            Self::Connect { error, .. } => error
                .refusal()
                .is_some_and(|refusal| refusal.code == RefusalCode::AlreadyLinked),
        }
    }

    /// Why, for people: in the relay's own words where it refused.
    pub(super) fn why(&self) -> String {
        let refusal = match self {
            Self::State(_) | Self::NoKeyLeft => None,
            Self::Connect { error, .. } => error.refusal(),
        };
        refusal.map_or_else(|| chain(self).to_string(), |refusal| refusal.text.clone())
    }

    /// What it means for people and monitors.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Self::State(_) | Self::NoKeyLeft => Trouble::new(Code::NoLinkKey, self.why()),
            Self::Connect { error, .. } => Trouble::of(error, self.why()),
        }
    }

    /// When the relay wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::State(_) | Self::NoKeyLeft => None,
            Self::Connect { error, .. } => error.retry_after(),
        }
    }
}

impl fmt::Debug for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "Idle",
            Self::Dialling(_) => "Dialling",
            Self::Waiting(_) => "Waiting",
        })
    }
}
