//! How an upstream's credentials are: what is not to be had, what could not be renewed, how often something was fetched.
//!
//! Tells what calls have met; fetches nothing.

use std::sync::Arc;
use std::time::Duration;

use super::placement::{Placement, Trouble};
use super::{CredentialError, Credentials};

/// What is wrong with an upstream's credentials.
#[derive(Debug, Default)]
pub struct Troubles {
    /// Why some are not to be had.
    pub missing: Vec<Arc<CredentialError>>,
    /// Those that could not be renewed, and are used for as long as they are good.
    pub not_renewed: Vec<NotRenewed>,
}

/// A credential that could not be renewed. The one before is still used.
#[derive(Debug, Clone)]
pub struct NotRenewed {
    /// Why.
    pub error: Arc<CredentialError>,
    /// For how long the one before can be used.
    pub usable_for: Duration,
}

/// How often credentials were fetched since they are configured as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Renewals {
    /// With success.
    pub ok: u64,
    /// Without.
    pub failed: u64,
}

impl Credentials {
    /// What is wrong with an upstream's credentials, as far as is known. Each is looked at once: those in files are read.
    #[must_use]
    pub fn troubles(&self, upstream: &str) -> Troubles {
        let of_upstream = self.upstreams.get(upstream).into_iter();
        let placements = of_upstream.flat_map(|it| &it.placements);
        let mut troubles = Troubles::default();
        for trouble in placements.filter_map(Placement::trouble) {
            match trouble {
                Trouble::Missing(error) => troubles.missing.push(error),
                Trouble::NotRenewed(not_renewed) => troubles.not_renewed.push(not_renewed),
            }
        }
        troubles
    }

    /// How often credentials of an upstream were fetched; nothing where none has to be.
    #[must_use]
    pub fn renewals(&self, upstream: &str) -> Option<Renewals> {
        let all = self.kept.of(upstream).map(|values| values.renewals());
        all.reduce(|all, one| Renewals {
            ok: all.ok + one.ok,
            failed: all.failed + one.failed,
        })
    }
}
