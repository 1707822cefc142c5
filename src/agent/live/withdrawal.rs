//! What a new configuration takes away of the one in force: whole upstreams, or rules of those that stay. Pure.
//!
//! A file that is cut off, as while an editor or a copy writes it in place, is a configuration without mistakes that
//! has less in it.

use std::fmt;

use crate::agent::config::UpstreamConfig;

/// What would be gone; never nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// Upstreams that would be gone, by name.
    pub upstreams: Vec<String>,
    /// Upstreams that would have fewer rules, by name.
    pub fewer_rules: Vec<String>,
}

impl Withdrawal {
    /// What `after` has less than `before`, if anything.
    #[must_use]
    pub fn of(before: &[UpstreamConfig], after: &[UpstreamConfig]) -> Option<Self> {
        let (mut upstreams, mut fewer_rules) = (Vec::new(), Vec::new());
        for former in before {
            match after.iter().find(|next| next.name == former.name) {
                None => upstreams.push(former.name.to_string()),
                Some(next) if next.rules.len() < former.rules.len() => {
                    fewer_rules.push(former.name.to_string());
                }
                Some(_) => {}
            }
        }
        upstreams.sort_unstable();
        fewer_rules.sort_unstable();
        let is_something = !upstreams.is_empty() || !fewer_rules.is_empty();
        is_something.then_some(Self {
            upstreams,
            fewer_rules,
        })
    }
}

impl fmt::Display for Withdrawal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (upstreams, fewer) = (self.upstreams.join(", "), self.fewer_rules.join(", "));
        match self.upstreams.len() {
            0 => return write!(f, "fewer rules for {fewer}"),
            1 => write!(f, "1 upstream is gone ({upstreams})")?,
            number => write!(f, "{number} upstreams are gone ({upstreams})")?,
        }
        if fewer.is_empty() {
            Ok(())
        } else {
            write!(f, ", and fewer rules for {fewer}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::tests::read;

    fn upstreams(text: &str) -> Vec<UpstreamConfig> {
        read(text).unwrap().upstreams
    }

    #[test]
    fn what_is_gone_and_what_has_fewer_rules_is_told_and_what_is_added_is_not() {
        let rule = "[[upstream.allow]]\nmethods = ['GET']\npath = '/a'\n";
        let head = |name: &str| format!("[[upstream]]\nname = '{name}'\nurl = 'http://{name}'\n");
        let (jira, wiki, git) = (head("jira"), head("wiki"), head("git"));
        let before = upstreams(&format!("{jira}{rule}{rule}{wiki}{git}{rule}"));
        let told = |text: &str| {
            let withdrawal = Withdrawal::of(&before, &upstreams(text));
            withdrawal.map(|it| it.to_string())
        };
        assert_eq!(
            told(&format!("{git}{rule}{rule}{wiki}{jira}{rule}{rule}")),
            None
        );
        assert_eq!(
            told(&format!("{jira}{rule}{wiki}{git}{rule}")).as_deref(),
            Some("fewer rules for jira")
        );
        assert_eq!(
            told(&format!("{jira}{rule}{rule}")).as_deref(),
            Some("2 upstreams are gone (git, wiki)")
        );
        assert_eq!(
            told(&format!("{jira}{wiki}")).as_deref(),
            Some("1 upstream is gone (git), and fewer rules for jira")
        );
        assert_eq!(
            told("").as_deref(),
            Some("3 upstreams are gone (git, jira, wiki)")
        );
    }
}
