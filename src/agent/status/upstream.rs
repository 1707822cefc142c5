//! One upstream in the status: its calls, its credentials, whether it is reached.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::text_of;
use crate::agent::credentials::{NotRenewed, Renewals};
use crate::agent::metrics::upstream::Unreachable;
use crate::agent::serve::Counts;
use crate::error_chain::chain;

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// How many rules allow something of it.
    pub rules: usize,
    /// Calls under way.
    #[serde(default)]
    pub calls_under_way: usize,
    /// Answers by class of status (`2xx`), since the daemon started.
    pub calls: BTreeMap<String, u64>,
    /// Why credentials of it are not to be had, as far as is known.
    #[serde(default)]
    pub credential_troubles: Vec<String>,
    /// Credentials that could not be renewed, and are used for as long as they are good.
    #[serde(default)]
    pub credentials_not_renewed: Vec<NotRenewedStatus>,
    /// How often credentials were fetched; nothing where none has to be.
    #[serde(default)]
    pub credential_renewals: Option<RenewalStatus>,
    /// That the last calls did not reach it.
    #[serde(default)]
    pub unreachable: Option<UnreachableStatus>,
    /// What rules that are tried have said of its calls; nothing where none are.
    #[serde(default)]
    pub candidate: Option<CandidateStatus>,
}

/// A credential that could not be renewed. The one before is still used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRenewedStatus {
    /// Why.
    pub why: String,
    /// Until when the one before can be used.
    pub usable_until: String,
}

/// How often credentials were fetched since they are configured as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewalStatus {
    /// With success.
    pub ok: u64,
    /// Without.
    pub failed: u64,
}

impl NotRenewedStatus {
    /// The snapshot of what fetches found, at `now`.
    #[must_use]
    pub fn of(not_renewed: &NotRenewed, now: SystemTime) -> Self {
        let until = now.checked_add(not_renewed.usable_for).unwrap_or(now);
        Self {
            why: chain(&*not_renewed.error).to_string(),
            usable_until: text_of(until),
        }
    }
}

impl From<Renewals> for RenewalStatus {
    fn from(renewals: Renewals) -> Self {
        let Renewals { ok, failed } = renewals;
        Self { ok, failed }
    }
}

/// What candidate rules have said, since they or the rules in force were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// Calls that they allow, too.
    pub allowed: u64,
    /// Calls that they would deny, and which passed.
    pub denied: u64,
    /// Calls of which they did not see the body that they look at.
    pub undecided: u64,
}

impl From<Counts> for CandidateStatus {
    fn from(counts: Counts) -> Self {
        let Counts {
            allowed,
            denied,
            undecided,
        } = counts;
        Self {
            allowed,
            denied,
            undecided,
        }
    }
}

/// That the last calls did not reach an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachableStatus {
    /// When the first of them failed.
    pub since: String,
    /// When the last one did.
    pub last_at: String,
    /// How many did.
    pub calls: u64,
    /// How the last one was answered: a code of `docs/errors.md`.
    pub code: String,
}

impl UnreachableStatus {
    /// The snapshot of what calls found.
    #[must_use]
    pub fn of(unreachable: &Unreachable) -> Self {
        Self {
            since: text_of(unreachable.since),
            last_at: text_of(unreachable.last_at),
            calls: unreachable.calls,
            code: unreachable.code.to_owned(),
        }
    }
}
