//! One rule: what it matches, and whether it then allows or denies.

use std::fmt;

use http::{HeaderName, Method};

use super::Asked;
use super::condition::{Conditions, Reading};
use super::cover::Cover;
use super::limits::Limits;
use super::mismatch::{Mismatch, RuleError};
use super::readings::Readings;
use super::template::Template;
use crate::name::Name;

/// Of a rule that has none.
static NO_LIMITS: Limits = Limits::NONE;

/// Methods, a path template, and what else must hold for the rule to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Empty, in a rule that denies: every method.
    methods: Vec<Method>,
    template: Template,
    /// Of a rule that denies; one that allows has none.
    cover: Option<Cover>,
    /// Labels of callers. Empty: every caller.
    callers: Vec<Name>,
    encoded_slash: bool,
    /// Apart, since most rules have none.
    conditions: Option<Box<Conditions>>,
    /// Apart, for the same reason.
    limits: Option<Box<Limits>>,
    /// Query parameters whose values may stand in the audit log.
    audit_query: Vec<String>,
}

impl Rule {
    /// A rule that allows these methods on the paths of a template.
    ///
    /// # Errors
    /// The first mistake, as [`RuleError`].
    pub fn parse<M: AsRef<str>>(methods: &[M], template: &str) -> Result<Self, RuleError> {
        if methods.is_empty() {
            return Err(RuleError::NoMethod);
        }
        Ok(Self {
            methods: parse_methods(methods)?,
            template: Template::parse(template)?,
            cover: None,
            callers: Vec::new(),
            encoded_slash: false,
            conditions: None,
            limits: None,
            audit_query: Vec::new(),
        })
    }

    /// A rule that denies these methods, or every method if there are none, on all that could be read
    /// as a path of a template.
    ///
    /// # Errors
    /// The first mistake, as [`RuleError`].
    pub fn parse_deny<M: AsRef<str>>(methods: &[M], template: &str) -> Result<Self, RuleError> {
        let template = Template::parse(template)?;
        Ok(Self {
            methods: parse_methods(methods)?,
            cover: Some(Cover::of(&template)),
            template,
            callers: Vec::new(),
            encoded_slash: false,
            conditions: None,
            limits: None,
            audit_query: Vec::new(),
        })
    }

    /// The rule for these callers only, by the labels of their tokens; for every caller if there are none.
    #[must_use]
    pub fn for_callers(mut self, callers: Vec<Name>) -> Self {
        self.callers = callers;
        self
    }

    /// The rule with `%2f` taken, or not, in segments that `{name}` stands for.
    #[must_use]
    pub const fn taking_encoded_slash(mut self, takes: bool) -> Self {
        self.encoded_slash = takes;
        self
    }

    /// The rule with these further conditions.
    #[must_use]
    pub fn requiring(mut self, conditions: Conditions) -> Self {
        let conditions = match self.denies() {
            true => conditions.folded(),
            false => conditions,
        };
        self.conditions = (conditions != Conditions::default()).then(|| Box::new(conditions));
        self
    }

    /// The rule with limits for the calls that it allows.
    #[must_use]
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = (limits != Limits::NONE).then(|| Box::new(limits));
        self
    }

    /// The rule with these query parameters shown in the audit log; of all others it has only the names.
    #[must_use]
    pub fn showing_in_audit(mut self, parameters: Vec<String>) -> Self {
        self.audit_query = parameters;
        self
    }

    /// The limits for the calls that it allows.
    pub(super) fn limits(&self) -> &Limits {
        self.limits.as_deref().unwrap_or(&NO_LIMITS)
    }

    /// The query parameters whose values may stand in the audit log.
    pub(super) fn audit_query(&self) -> &[String] {
        &self.audit_query
    }

    /// Whether the rule denies what it matches.
    #[must_use]
    pub const fn denies(&self) -> bool {
        self.cover.is_some()
    }

    /// The headers that the rule asks for.
    pub fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        let conditions = self.conditions.iter();
        conditions.flat_map(|conditions| conditions.header_names())
    }

    /// Whether the rule has conditions on the body.
    pub(super) fn looks_at_body(&self) -> bool {
        let conditions = self.conditions.as_ref();
        conditions.is_some_and(|conditions| conditions.look_at_body())
    }

    /// What it matches, whichever way it then decides.
    pub(super) const fn shown(&self) -> Shown<'_> {
        Shown(self)
    }

    /// Whether the rule decides about what is asked, and if not, the first condition that fails.
    pub(super) fn check(&self, asked: &Asked<'_>, path: &Readings<'_>) -> Result<(), Mismatch> {
        let any_method = self.denies() && self.methods.is_empty();
        if !any_method && !self.methods.contains(asked.method) {
            return Err(Mismatch::Method);
        }
        match &self.cover {
            Some(cover) if cover.covers(path) => {}
            Some(_) => return Err(Mismatch::NotCovered),
            None => self.check_path(path)?,
        }
        let is_named = match asked.caller {
            Some(caller) => self.callers.iter().any(|name| name.as_str() == caller),
            // One who is not known may be any of them.
            None => self.denies(),
        };
        if !self.callers.is_empty() && !is_named {
            return Err(Mismatch::Caller);
        }
        let reading = match self.denies() {
            true => Reading::Generous,
            false => Reading::Strict,
        };
        match &self.conditions {
            Some(conditions) => conditions.check(asked, path.path(), reading),
            None => Ok(()),
        }
    }

    /// The path must be one of the template, and stay one if a service decodes `%3f` or `%23` before it
    /// takes the path from its query (CVE-2024-38474).
    fn check_path(&self, path: &Readings<'_>) -> Result<(), Mismatch> {
        let takes_all = self.encoded_slash || !path.has_encoded_slash();
        let check = |segments| self.template.check(segments, takes_all);
        check(path.segments())?;
        match path.cuts().iter().all(|cut| check(cut).is_ok()) {
            true => Ok(()),
            false => Err(Mismatch::EncodedDelimiter),
        }
    }
}

/// A rule's conditions, to be shown.
pub(super) struct Shown<'a>(&'a Rule);

impl fmt::Display for Rule {
    /// `GET, PUT /issue/{key}`, or `deny /admin/{*rest} (callers reports, backup)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.denies() { "deny " } else { "" };
        write!(f, "{kind}{}", self.shown())
    }
}

impl fmt::Display for Shown<'_> {
    /// `GET, PUT /issue/{key} (callers reports, backup)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rule) = self;
        for (index, method) in rule.methods.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{method}")?;
        }
        let space = if rule.methods.is_empty() { "" } else { " " };
        write!(f, "{space}{}", rule.template)?;
        if rule.encoded_slash {
            f.write_str(" (with %2f)")?;
        }
        if let Some(conditions) = &rule.conditions {
            write!(f, "{conditions}")?;
        }
        for (index, caller) in rule.callers.iter().enumerate() {
            let before = if index == 0 { " (callers " } else { ", " };
            write!(f, "{before}{caller}")?;
        }
        f.write_str(if rule.callers.is_empty() { "" } else { ")" })
    }
}

fn parse_methods<M: AsRef<str>>(methods: &[M]) -> Result<Vec<Method>, RuleError> {
    let methods = methods.iter().map(|method| parse_method(method.as_ref()));
    methods.collect()
}

fn parse_method(text: &str) -> Result<Method, RuleError> {
    let method =
        Method::from_bytes(text.as_bytes()).map_err(|_| RuleError::Method(text.to_owned()))?;
    if text.chars().any(|c| c.is_ascii_lowercase()) {
        return Err(RuleError::LowerCaseMethod(text.to_owned()));
    }
    if matches!(method, Method::CONNECT | Method::TRACE) {
        return Err(RuleError::ForbiddenMethod(method));
    }
    Ok(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_has_its_own_error() {
        let mistake = |methods: &[&str], template| Rule::parse(methods, template).unwrap_err();
        let template = |template| mistake(&["GET"], template);
        assert_eq!(mistake(&[], "/"), RuleError::NoMethod);
        assert_eq!(mistake(&["G T"], "/"), RuleError::Method("G T".into()));
        assert_eq!(
            mistake(&["get"], "/").to_string(),
            "\"get\" is written in upper case: \"GET\""
        );
        assert_eq!(
            mistake(&["TRACE"], "/"),
            RuleError::ForbiddenMethod(Method::TRACE)
        );
        assert_eq!(template("a"), RuleError::NotFromRoot);
        assert_eq!(template("/a?b"), RuleError::BeyondPath('?'));
        assert_eq!(template("/a b"), RuleError::NotAPath);
        assert_eq!(template("/{*rest}/a"), RuleError::AfterRest);
        assert_eq!(
            template("/{key}.json").to_string(),
            "\"{key}.json\" is neither plain text, nor {name}, nor {*rest}"
        );
        for placeholder in ["/{}", "/{*}", "/{", "/a}", "/{a-b}", "/{{a}}"] {
            assert!(matches!(template(placeholder), RuleError::Placeholder(_)));
        }
        for ambiguous in ["/a//b", "/../a", "/a%2fb", "/%2e", "/C%23"] {
            assert!(matches!(template(ambiguous), RuleError::Ambiguous(_)));
        }
        assert_eq!(template(&"/a".repeat(65)), RuleError::TooManySegments);
    }

    #[test]
    fn a_rule_shows_itself_as_written() {
        let rule = Rule::parse(&["GET", "PUT"], "/issue/{key}").unwrap();
        assert_eq!(rule.to_string(), "GET, PUT /issue/{key}");
        let callers = vec!["reports".parse().unwrap(), "backup".parse().unwrap()];
        let rule = Rule::parse_deny::<&str>(&[], "/{*rest}").unwrap();
        let rule = rule.for_callers(callers);
        assert_eq!(rule.to_string(), "deny /{*rest} (callers reports, backup)");
    }

    #[test]
    fn an_encoded_question_mark_or_hash_passes_where_it_changes_nothing_for_the_rule() {
        for (template, path, expected) in [
            ("/tags/{tag}", "/tags/C%23", Ok(())),
            ("/{*rest}", "/wiki/Why%3F/edit", Ok(())),
            ("/tags/{tag}", "/tags/%23C", Err(Mismatch::EncodedDelimiter)),
            ("/i/{key}/w", "/i/A-1%3F/w", Err(Mismatch::EncodedDelimiter)),
            ("/i/{key}/w", "/i/A-1%23/w", Err(Mismatch::EncodedDelimiter)),
            (
                "/i/{key}/{id}",
                "/i/A%23/b%3f",
                Err(Mismatch::EncodedDelimiter),
            ),
        ] {
            let rule = Rule::parse(&["GET"], template).unwrap();
            assert_eq!(check(&rule, path, None), expected, "{template} {path}");
        }
    }

    #[test]
    fn a_caller_who_is_not_known_is_served_by_no_rule_and_denied_by_every_one() {
        let callers = || vec!["reports".parse().unwrap()];
        let allow = Rule::parse(&["GET"], "/").unwrap().for_callers(callers());
        let deny = Rule::parse_deny::<&str>(&[], "/").unwrap();
        let deny = deny.for_callers(callers());
        let missed = Err(Mismatch::Caller);
        for (caller, allowed, denied) in [
            (Some("reports"), Ok(()), Ok(())),
            (Some("Reports"), missed.clone(), missed.clone()),
            (None, missed, Ok(())),
        ] {
            assert_eq!(check(&allow, "/", caller), allowed);
            assert_eq!(check(&deny, "/", caller), denied);
        }
    }

    fn check(rule: &Rule, path: &str, caller: Option<&str>) -> Result<(), Mismatch> {
        let path = path.parse().unwrap();
        let asked = Asked {
            caller,
            ..Asked::get("", &path)
        };
        rule.check(&asked, &Readings::of(&path).unwrap())
    }
}
