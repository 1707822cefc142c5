//! What was fetched and outlives a reload: vaults and token endpoints are not asked again because a rule changed.
//!
//! Kept where upstream and configuration of the credential are equal; a changed one starts anew, and one that is
//! no longer configured is dropped with the former configuration.

use std::sync::Arc;

use super::renewed::{Fetch, Renewed, Values};
use crate::agent::config::{CommandConfig, OAuth2Config};

/// What stands in the configuration for something that is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recipe {
    /// What a command prints.
    Command(CommandConfig),
    /// What a token endpoint gives.
    Token(Box<OAuth2Config>),
}

/// The values of one configuration, each with the upstream and the recipe that it belongs to.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(Box<str>, Recipe, Values)>);

/// The credentials of one upstream while they are being opened.
pub(super) struct Opening<'a> {
    /// The upstream.
    pub(super) upstream: &'a str,
    /// The values of the configuration that was in force before.
    pub(super) former: &'a Kept,
    /// The values of this one.
    pub(super) kept: &'a mut Kept,
}

impl Kept {
    /// The values of one upstream, each once.
    pub(super) fn of(&self, upstream: &str) -> impl Iterator<Item = &Values> {
        let all = self.0.iter();
        let of_upstream = all.filter(move |(of, _, _)| **of == *upstream);
        of_upstream.map(|(_, _, values)| values)
    }
}

impl Opening<'_> {
    /// What `fetch` gets by this recipe, beginning with what is there already. Of an upstream that uses one recipe
    /// twice, both are one. `what` names it for people.
    pub(super) fn renewed(
        &mut self,
        what: String,
        recipe: Recipe,
        fetch: Arc<dyn Fetch>,
    ) -> Arc<Renewed> {
        let is_same = |(upstream, other, _): &&(Box<str>, Recipe, Values)| {
            **upstream == *self.upstream && *other == recipe
        };
        if let Some((_, _, values)) = self.kept.0.iter().find(is_same) {
            return Renewed::going_on(what, fetch, values.clone());
        }
        let former = self.former.0.iter().find(is_same);
        let values = former.map_or_else(Values::default, |(_, _, values)| values.taken_over());
        let entry = (self.upstream.into(), recipe, values.clone());
        self.kept.0.push(entry);
        Renewed::going_on(what, fetch, values)
    }
}
