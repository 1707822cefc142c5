//! The rules of an upstream, `[[upstream.deny]]` and `[[upstream.allow]]`.

use crate::agent::policy::{Rule, RuleError};
use crate::config_file::Section;
use crate::error_chain::chain;
use crate::name::Name;

/// Checks the rules of an upstream: those that deny, then those that allow.
pub(super) fn check_all(upstream: &mut Section<'_>) -> Vec<Rule> {
    let denying = upstream.sections("deny").into_iter();
    let mut rules: Vec<_> = denying.filter_map(check_deny).collect();
    let allowing = upstream.sections("allow").into_iter();
    rules.extend(allowing.filter_map(check_allow));
    rules
}

/// One `[[upstream.allow]]`.
fn check_allow(mut section: Section<'_>) -> Option<Rule> {
    let path = section.string("path");
    let methods = section.strings("methods");
    let callers = check_callers(&mut section);
    let encoded_slash = section.boolean("encoded_slash", false);
    let audit_query = section.strings("audit_query");
    if methods.is_empty() {
        section.mistake(
            "methods",
            "names no method",
            "write for instance methods = [\"GET\"]",
        );
        return None;
    }
    let rule = check_rule(&section, Rule::parse(&methods, &path?))?;
    Some(
        rule.for_callers(callers)
            .taking_encoded_slash(encoded_slash)
            .showing_in_audit(audit_query),
    )
}

/// One `[[upstream.deny]]`.
fn check_deny(mut section: Section<'_>) -> Option<Rule> {
    let path = section.string("path");
    let methods = section.strings("methods");
    let callers = check_callers(&mut section);
    let rule = check_rule(&section, Rule::parse_deny(&methods, &path?))?;
    Some(rule.for_callers(callers))
}

fn check_rule(section: &Section<'_>, rule: Result<Rule, RuleError>) -> Option<Rule> {
    let mistake = |error: &RuleError| {
        let problem = format!("makes no rule: {}", chain(error));
        section.mistake("path", problem, "correct it");
    };
    rule.inspect_err(mistake).ok()
}

fn check_callers(section: &mut Section<'_>) -> Vec<Name> {
    let labels = section.strings("callers");
    if labels.is_empty() && section.has("callers") {
        section.mistake(
            "callers",
            "names no caller",
            "leave it out for every caller",
        );
    }
    let mut callers = Vec::with_capacity(labels.len());
    for label in labels {
        match label.parse() {
            Ok(name) => callers.push(name),
            Err(_) => section.mistake(
                "callers",
                format!("has {label:?}, which is not the label of a token"),
                "write labels as `relay token list` shows them",
            ),
        }
    }
    callers
}
