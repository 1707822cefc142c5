//! How an upstream's credentials are: what is not to be had, what could not be renewed, how often something was fetched.
//!
//! Tells what calls have met; fetches nothing.

use std::sync::Arc;
use std::time::Duration;

use super::placement::{Placement, Trouble};
use super::{CredentialError, Credentials};

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
    /// Why credentials of an upstream are not to be had, as far as is known.
    #[must_use]
    pub fn troubles(&self, upstream: &str) -> Vec<Arc<CredentialError>> {
        let missing = self.known(upstream).filter_map(|trouble| match trouble {
            Trouble::Missing(error) => Some(error),
            Trouble::NotRenewed(_) => None,
        });
        missing.collect()
    }

    /// Credentials of an upstream that could not be renewed, and are used for as long as they are good.
    #[must_use]
    pub fn not_renewed(&self, upstream: &str) -> Vec<NotRenewed> {
        let old = self.known(upstream).filter_map(|trouble| match trouble {
            Trouble::NotRenewed(not_renewed) => Some(not_renewed),
            Trouble::Missing(_) => None,
        });
        old.collect()
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

    fn known(&self, upstream: &str) -> impl Iterator<Item = Trouble> {
        let of_upstream = self.upstreams.get(upstream).into_iter();
        let placements = of_upstream.flat_map(|it| &it.placements);
        placements.filter_map(Placement::trouble)
    }
}
