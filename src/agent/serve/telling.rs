//! What the private side's log says of calls: at *debug* each, at *warn* those for which someone may have to act.
//!
//! An upstream that is down fails every call: of each upstream and kind of failure one line is a warning, and then one
//! now and then, with the number since. Names each call as the audit log does; tells neither path nor query.

use std::time::Instant;

use http::StatusCode;
use tracing::{debug, warn};

use super::Answer;
use super::refusal::Refusal;
use crate::agent::audit::{Account, Named};
use crate::agent::credentials::CredentialError;
use crate::agent::upstream::UpstreamError;
use crate::error_chain::chain;
use crate::seldom::Seldoms;
use crate::spans::Told;

/// Tells of calls.
#[derive(Debug, Default)]
pub(super) struct Telling(Seldoms);

impl Telling {
    /// How a call ended, or what it ends with.
    pub(super) fn tell(&self, account: &Account, ended: &Result<Answer, Refusal>) {
        match ended {
            Ok(Answer::Passed(response) | Answer::Switched(response, _)) => {
                answered(account, response.status());
            }
            Err(refusal) => self.refused(&account.named(), refusal),
        }
    }

    fn refused(&self, call: &Named<'_>, refusal: &Refusal) {
        let code = refusal.code();
        let Named {
            connection,
            upstream,
            request_id,
        } = *call;
        let (what, error) = match refusal {
            Refusal::Denied(denial) => {
                let (reason, rule) = (denial.reason, denial.rule_name());
                debug!(connection, upstream, request_id, relay_error = code, %reason, rule, "a call was denied");
                return;
            }
            Refusal::Credential(error @ CredentialError::OwnParameter(_)) => {
                debug!(connection, upstream, request_id, relay_error = code, reason = %error, "a call was denied");
                return;
            }
            Refusal::Upstream(UpstreamError::Busy(_))
            | Refusal::BodyTooLong(..)
            | Refusal::Deactivated
            | Refusal::NotSupported
            | Refusal::Loop
            | Refusal::Gather(_)
            | Refusal::Quota(_)
            | Refusal::Unrecorded(_) => {
                debug!(
                    connection,
                    upstream,
                    request_id,
                    relay_error = code,
                    "a call was refused"
                );
                return;
            }
            Refusal::Upstream(error) => ("a call has no answer", chain(error).to_string()),
            Refusal::Credential(error) => {
                let error = chain(error).to_string();
                ("a credential is not to be had", error)
            }
            Refusal::AnswerTooLong(error) => ("an answer is not passed on", error.to_string()),
        };
        match self.0.happened(upstream, code, Instant::now()) {
            Some(number) => {
                warn!(
                    connection,
                    upstream,
                    request_id,
                    relay_error = code,
                    error,
                    number,
                    "{what}"
                );
            }
            None => debug!(
                connection,
                upstream,
                request_id,
                relay_error = code,
                error,
                "{what}"
            ),
        }
    }
}

/// What the span of a call tells.
pub(super) fn told<'a>(account: &'a Account, ended: &Result<Answer, Refusal>) -> Told<'a> {
    let Named {
        connection,
        upstream,
        request_id,
    } = account.named();
    let (status, relay_error) = match ended {
        Ok(Answer::Passed(response) | Answer::Switched(response, _)) => (response.status(), None),
        Err(refusal) => (refusal.status(), Some(refusal.code())),
    };
    Told {
        connection,
        upstream,
        request_id,
        status,
        relay_error,
    }
}

/// Of most calls nothing is said, so nothing is made for it.
fn answered(account: &Account, status: StatusCode) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let Named {
        connection,
        upstream,
        request_id,
    } = account.named();
    let status = status.as_u16();
    debug!(
        connection,
        upstream, request_id, status, "a call was answered"
    );
}
