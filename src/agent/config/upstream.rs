//! One `[[upstream]]`: a service in the private network, what may be asked of it, and with which credentials.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri};

use super::credential::CredentialsConfig;
use super::rule;
use super::source::CredentialSource;
use crate::agent::addresses::{Addresses, Network};
use crate::agent::policy::{Policy, Rule};
use crate::config_file::Section;
use crate::name::Name;

/// Until a connection to an upstream is up, TLS included. A service in the same network answers in
/// milliseconds; ten seconds still outlast one lost packet and its retries.
pub(super) const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the first byte of the answer: issue trackers take tens of seconds for a large search.
pub(super) const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Calls to one upstream at once: enough for any tracker, and few enough not to overwhelm it.
pub(super) const DEFAULT_MAX_IN_FLIGHT: usize = 64;
/// The most that may be configured: beyond it the process would run out of file descriptors first.
pub(super) const MAX_IN_FLIGHT_CEILING: usize = 4096;

/// Time-outs are configured within these bounds: shorter is a slip, longer is for ever.
pub(super) const TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60 * 60);

/// A service in the private network that the agent may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// What callers write in their path: `/c/{connection}/{name}/…`.
    pub name: Name,
    /// `http` or `https`, a host, perhaps a port and a path prefix; checked to hold no user
    /// information and no query.
    pub url: Uri,
    /// Certificates to trust for this upstream beside the system's and the network's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The networks that the host's addresses are limited to.
    pub addresses: Addresses,
    /// What the agent adds to calls, and what of the caller's passes.
    pub credentials: CredentialsConfig,
    /// Until a connection to the upstream is up, TLS included.
    pub connect_timeout: Duration,
    /// From the end of the request's head until the first byte of the answer.
    pub response_timeout: Duration,
    /// Calls at once; more are refused with 429.
    pub max_in_flight: usize,
    /// What may be asked, and what not: rules that deny, then rules that allow. None that allows: nothing.
    pub rules: Vec<Rule>,
    /// Rules that are tried beside them, and decide nothing.
    pub candidate: Option<Vec<Rule>>,
}

/// The policy of all upstreams.
#[must_use]
pub fn policy_of(upstreams: &[UpstreamConfig]) -> Policy {
    let rules = |it: &UpstreamConfig| (it.name.clone(), it.rules.clone());
    let policy = Policy::new(upstreams.iter().map(rules));
    upstreams
        .iter()
        .fold(policy, |policy, it| match &it.candidate {
            Some(candidate) => policy.trying(&it.name, candidate.clone()),
            None => policy,
        })
}

/// Checks all `[[upstream]]` tables; `None` when one of them is not whole.
pub(super) fn check_all(sections: Vec<Section<'_>>) -> Option<Vec<UpstreamConfig>> {
    let count = sections.len();
    let mut names = BTreeSet::new();
    let mut upstreams = Vec::with_capacity(count);
    for mut section in sections {
        if !section
            .optional_string("name")
            .is_none_or(|name| names.insert(name))
        {
            section.mistake("name", "is used twice", "give each upstream its own name");
        }
        upstreams.extend(UpstreamConfig::check(&mut section));
    }
    (upstreams.len() == count).then_some(upstreams)
}

impl UpstreamConfig {
    fn check(section: &mut Section<'_>) -> Option<Self> {
        let name = section.parsed("name");
        let url = check_url(section);
        let ca_file = section.optional_path("ca_file");
        let addresses = check_addresses(section, url.as_ref());
        let credentials = CredentialsConfig::check(section);
        let connect_timeout =
            section.duration("connect_timeout", DEFAULT_CONNECT_TIMEOUT, TIMEOUT_RANGE);
        let response_timeout =
            section.duration("response_timeout", DEFAULT_RESPONSE_TIMEOUT, TIMEOUT_RANGE);
        let max_in_flight = section.number(
            "max_in_flight",
            DEFAULT_MAX_IN_FLIGHT,
            1..=MAX_IN_FLIGHT_CEILING,
        );
        let rules = rule::check_all(section);
        let candidate = check_candidate(section);
        let tried = candidate.iter().flatten();
        check_header_conditions(section, &credentials, rules.iter().chain(tried));
        Some(Self {
            name: name?,
            url: url?,
            ca_file,
            addresses,
            credentials,
            connect_timeout,
            response_timeout,
            max_in_flight,
            rules,
            candidate,
        })
    }
}

/// Rules are about what is sent: none can ask for a header of the caller's that ends at the agent.
fn check_header_conditions<'a>(
    section: &Section<'_>,
    credentials: &CredentialsConfig,
    rules: impl Iterator<Item = &'a Rule>,
) {
    for (rule, name) in rules.flat_map(|rule| rule.header_names().map(move |name| (rule, name))) {
        // As services behind CGI see it, and the agent does.
        let dashed = name.as_str().replace('_', "-");
        let is_set = |(set, _): &(HeaderName, CredentialSource)| set.as_str() == dashed;
        let remedy = match dashed.as_str() {
            _ if credentials.set_headers.iter().any(is_set) => {
                "take it out: the agent sets this header itself"
            }
            "authorization" if !credentials.pass_authorization => {
                "take it out, or add pass_authorization = true"
            }
            "cookie" if !credentials.pass_cookies => "take it out, or add pass_cookies = true",
            _ => continue,
        };
        let kind = if rule.denies() { "deny" } else { "allow" };
        let problem =
            format!("asks for the header {name} in {rule}, which callers' calls do not keep");
        section.mistake(kind, problem, remedy);
    }
}

/// `observe` and the rules to be tried. One without the other would be taken for something that it is not.
fn check_candidate(section: &mut Section<'_>) -> Option<Vec<Rule>> {
    let observes = section.boolean("observe", false);
    let is_there = section.has("candidate");
    let rules = rule::check_all(&mut section.section("candidate"));
    match (observes, is_there) {
        (false, false) => None,
        (true, true) if rules.iter().any(|rule| !rule.denies()) => Some(rules),
        (true, true) => {
            let problem = "allows nothing, so that every call would be denied";
            let remedy = "add all that is to be allowed under [[upstream.candidate.allow]]";
            section.mistake("candidate", problem, remedy);
            None
        }
        (true, false) => {
            let problem = "is true, and there are no rules to be tried";
            let remedy = "add them under [[upstream.candidate.allow]], or take it out";
            section.mistake("observe", problem, remedy);
            None
        }
        (false, true) => {
            let problem = "has rules, and they are not tried";
            let remedy = "add observe = true above the rules, or take them out";
            section.mistake("candidate", problem, remedy);
            None
        }
    }
}

/// The networks that the host's addresses are limited to; where the host is an address itself, it is to
/// be in them.
fn check_addresses(section: &mut Section<'_>, url: Option<&Uri>) -> Addresses {
    let mut networks = Vec::new();
    let texts = section.strings("addresses");
    if texts.is_empty() && section.has("addresses") {
        let remedy = "leave it out for every address but link-local ones";
        section.mistake("addresses", "names no network", remedy);
    }
    for text in texts {
        match text.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(error) => section.mistake(
                "addresses",
                format!("has {text:?}: {error}"),
                "write for instance [\"10.0.0.0/8\", \"192.168.1.5\", \"fd00::/8\"]",
            ),
        }
    }
    let addresses = Addresses::of(networks);
    let host = url.and_then(Uri::host).unwrap_or_default();
    if let Ok(address) = host.trim_matches(['[', ']']).parse()
        && let Err(why) = addresses.check(address)
    {
        let remedy = "correct the one or the other";
        section.mistake("url", format!("cannot be called: {why}"), remedy);
    }
    addresses
}

/// The address of an upstream: scheme, host, perhaps port and path prefix, and nothing else.
fn check_url(section: &mut Section<'_>) -> Option<Uri> {
    let text = section.string("url")?;
    let refuse = |problem: &str| {
        section.mistake(
            "url",
            problem,
            "write for instance \"https://jira.corp.local:8443\"",
        );
        None
    };
    // `Uri` drops fragments without a word.
    if text.contains('#') {
        return refuse("has a fragment, which means nothing here");
    }
    let Ok(url) = text.parse::<Uri>() else {
        return refuse("is not a URL");
    };
    if !matches!(url.scheme_str(), Some("http" | "https")) {
        return refuse("begins neither with http:// nor with https://");
    }
    let Some(authority) = url.authority().filter(|it| !it.host().is_empty()) else {
        return refuse("names no host");
    };
    if authority.as_str().contains('@') {
        return refuse("holds user information; use auth, which keeps secrets out of this file");
    }
    if url.query().is_some() {
        return refuse("has a query, which belongs to the calls");
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use crate::agent::config::tests::read;

    #[test]
    fn rules_are_tried_only_where_both_say_so() {
        let of_upstream = |lines: &str| {
            let config = read(&format!(
                "[[upstream]]\nname = 'jira'\nurl = 'http://jira.corp.local'\n{lines}"
            ))?;
            let candidate = config.upstreams.into_iter().next().unwrap().candidate;
            Ok::<_, String>(candidate.map(|rules| rules.len()))
        };
        let allow = "[[upstream.candidate.allow]]\nmethods = ['GET']\npath = '/'\n";
        let deny = "[[upstream.candidate.deny]]\npath = '/'\n";
        assert_eq!(of_upstream(""), Ok(None));
        assert_eq!(of_upstream("observe = false\n"), Ok(None));
        let both = format!("observe = true\n{deny}{allow}");
        assert_eq!(of_upstream(&both), Ok(Some(2)));
        for (lines, mistake) in [
            (
                "observe = true\n".to_owned(),
                "observe: is true, and there are no rules",
            ),
            (
                allow.to_owned(),
                "candidate: has rules, and they are not tried; add observe",
            ),
            (
                format!("observe = true\n{deny}"),
                "candidate: allows nothing",
            ),
            (
                format!("observe = true\n{allow}colour = 'red'\n"),
                "candidate.allow[#1].colour: is not a known key",
            ),
            (
                format!("observe = true\n{allow}[upstream.candidate.alow]\n"),
                "candidate.alow: is not a known key; did you mean allow?",
            ),
        ] {
            let told = of_upstream(&lines).unwrap_err();
            assert!(told.contains(mistake), "{mistake:?} is not in {told}");
        }
    }

    #[test]
    fn a_rule_cannot_ask_for_a_header_that_ends_at_the_agent() {
        let read = |lines: &str, kind: &str, name: &str| {
            read(&format!(
                "[[upstream]]\nname = 'jira'\nurl = 'http://jira.corp.local'\n\
                 set_headers = {{ X-Key = {{ env = 'KEY' }} }}\n{lines}\n\
                 [[upstream.{kind}]]\nmethods = ['GET']\npath = '/'\nheaders = {{ '{name}' = '*' }}\n"
            ))
        };
        for kind in ["allow", "deny"] {
            for (name, remedy) in [
                ("Authorization", "add pass_authorization = true"),
                ("cookie?", "add pass_cookies = true"),
                ("X_Key", "the agent sets this header itself"),
                ("Forwarded", "is not passed on as callers write it"),
            ] {
                let told = read("", kind, name).unwrap_err();
                assert!(told.contains(remedy), "{remedy:?} is not in {told}");
            }
            let passes = "pass_authorization = true\npass_cookies = true";
            for name in ["Authorization", "Cookie", "X-Trace"] {
                assert!(read(passes, kind, name).is_ok(), "{kind} {name}");
            }
        }
    }
}
