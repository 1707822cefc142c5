//! Redeems an invitation: makes the connection's key, proves both to the relay, checks the answer, writes the record.
//!
//! The key is on disk before anything is sent, so that a lost answer is cured by accepting again.
//! Nothing is believed unless the identity pinned in the code signed it. Whether the code has expired,
//! only the relay's clock judges.

mod error;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::StatusCode;

pub use error::{AcceptCode, AcceptError};

use crate::agent::state::{self, ConnectionRecord, Standing, StateDirectory};
use crate::identity::ConnectionId;
use crate::invitation::Invitation;
use crate::link::dial::Dialer;
use crate::link::request::post_json;
use crate::problem;
use crate::protocol::redeem::{RedeemAnswer, RedeemRefusal, RedeemRequest};
use crate::protocol::{REDEEM_PATH, SOFTWARE};

/// What accepting an invitation led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The record, as it stands on disk.
    pub record: ConnectionRecord,
    /// Whether this agent had accepted the same connection before.
    pub again: bool,
    /// Connections of the same name that had ended, and are now forgotten.
    pub replaced: Vec<ConnectionId>,
}

/// With which key an invitation is redeemed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    /// The connection's own; made where there is none.
    Own,
    /// A new one, for a connection that ended here: the public side may have revoked the key it had.
    Another,
}

/// What is at hand before the relay is asked.
struct Prepared {
    request: RedeemRequest,
    body: Vec<u8>,
    /// Connections of the same name that the relay refused for good: the new one takes their place.
    replaced: Vec<ConnectionId>,
    /// Whether the same connection was here before, and has ended.
    has_ended: bool,
}

/// Redeems `invitation`, through the same way out as the link, and writes the record.
///
/// Only one acceptance of one connection at a time: the caller sees to that.
///
/// # Errors
/// [`AcceptError`]; whatever it is, accepting the same code again does no harm.
pub async fn accept(
    state: &Arc<StateDirectory>,
    dialer: &Dialer,
    invitation: &Invitation,
    project: Option<String>,
) -> Result<Acceptance, AcceptError> {
    let mut key = Key::Own;
    loop {
        let prepared = prepare(state, invitation, project.clone(), key).await?;
        let url = &invitation.relay_url;
        let answer = post_json(dialer, url, invitation.tls_pin, REDEEM_PATH, &prepared.body);
        let (status, _, body) = answer.await.map_err(AcceptError::NotAsked)?;
        match check_answer(invitation, &prepared.request, status, &body) {
            Ok(()) => return conclude(state, invitation, project, prepared.replaced, key).await,
            Err(error) if key == Key::Own && prepared.has_ended && error.may_be_of_key() => {
                key = Key::Another;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Looks for obstacles on this side, makes or finds the key, and signs.
async fn prepare(
    state: &Arc<StateDirectory>,
    invitation: &Invitation,
    project: Option<String>,
    which: Key,
) -> Result<Prepared, AcceptError> {
    let connection = invitation.connection;
    let (loaded, key) = state::off_thread(state, move |state| {
        let loaded = state.load()?;
        // A record that cannot be read must not be written over: its reason is the answer.
        state.read(connection)?;
        let key = match which {
            Key::Own => state.key_for_accepting(connection)?,
            Key::Another => state.next_key_for_accepting(connection)?,
        };
        Ok((loaded, key))
    })
    .await
    .map_err(AcceptError::State)?;

    let (mut replaced, mut has_ended) = (Vec::new(), false);
    for record in loaded.records {
        let same_name = record.name == invitation.name;
        match (&record.standing, record.connection == connection) {
            (Standing::RemovedHere, true) => return Err(AcceptError::RemovedHere(record.name)),
            (Standing::Ended { .. }, true) => has_ended = true,
            (Standing::Kept, true) => {}
            (Standing::Kept, false) if same_name => {
                return Err(AcceptError::NameTaken(record.name));
            }
            (Standing::Ended { .. }, false) if same_name => replaced.push(record.connection),
            (Standing::Kept | Standing::RemovedHere | Standing::Ended { .. }, false) => {}
        }
    }
    let request = RedeemRequest::new(invitation, &key, project, SOFTWARE.to_owned())
        .map_err(AcceptError::Identity)?;
    let body = request.to_json();
    Ok(Prepared {
        request,
        body,
        replaced,
        has_ended,
    })
}

/// Believes an answer that the pinned identity signed, and nothing else.
fn check_answer(
    invitation: &Invitation,
    request: &RedeemRequest,
    status: StatusCode,
    body: &Bytes,
) -> Result<(), AcceptError> {
    let not_a_relay = || AcceptError::NotARelay {
        url: invitation.relay_url.to_string(),
        status,
    };
    if status.is_success() {
        let answer = RedeemAnswer::from_json(body).ok_or_else(not_a_relay)?;
        return answer
            .verify(request, &invitation.relay_identity)
            .map_err(|_| AcceptError::WrongRelay {
                url: invitation.relay_url.to_string(),
            });
    }
    let refusal = problem::parse(body)
        .and_then(|problem| RedeemRefusal::from_problem(&problem))
        .ok_or_else(not_a_relay)?;
    Err(AcceptError::Refused(refusal))
}

/// Writes the record, and forgets the ended connections whose name it takes.
async fn conclude(
    state: &Arc<StateDirectory>,
    invitation: &Invitation,
    project: Option<String>,
    replaced: Vec<ConnectionId>,
    key: Key,
) -> Result<Acceptance, AcceptError> {
    let fresh = ConnectionRecord {
        connection: invitation.connection,
        name: invitation.name.clone(),
        public_side: invitation.local.clone(),
        private_side: invitation.remote.clone(),
        mode: invitation.mode,
        relay_url: invitation.relay_url.clone(),
        relay_identity: invitation.relay_identity,
        tls_pin: invitation.tls_pin,
        project,
        accepted_at: state::unix_seconds(SystemTime::now()),
        deactivated: false,
        standing: Standing::Kept,
    };
    state::off_thread(state, move |state| {
        if key == Key::Another {
            // Before the record: accepting again then finds it as its own.
            state.promote_next_key(fresh.connection)?;
        }
        // Read again: it may have been deactivated while the relay was asked.
        let (record, again) = match state.read(fresh.connection)? {
            Some(earlier) => merge(earlier, fresh),
            None => (fresh, false),
        };
        state.save(&record)?;
        for ended in &replaced {
            state.forget(*ended)?;
        }
        Ok(Acceptance {
            record,
            again,
            replaced,
        })
    })
    .await
    .map_err(AcceptError::State)
}

/// What stays of an earlier acceptance of the same connection, and whether it was still kept.
fn merge(earlier: ConnectionRecord, fresh: ConnectionRecord) -> (ConnectionRecord, bool) {
    let again = earlier.standing == Standing::Kept;
    let record = ConnectionRecord {
        project: fresh.project.or(earlier.project),
        accepted_at: if again {
            earlier.accepted_at
        } else {
            fresh.accepted_at
        },
        deactivated: earlier.deactivated,
        ..fresh
    };
    (record, again)
}

#[cfg(test)]
mod tests;
