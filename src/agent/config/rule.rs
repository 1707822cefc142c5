//! The rules of an upstream, `[[upstream.deny]]` and `[[upstream.allow]]`.

use http::HeaderName;

use super::limits;
use crate::agent::policy::{Conditions, Expected, Literal, Predicate, Rule, RuleError, Values};
use crate::config_file::{OneOrMany, Scalar, Section};
use crate::error_chain::chain;
use crate::name::Name;

/// The second path of WebDAV's COPY and MOVE (RFC 4918, section 10.3).
const DESTINATION: HeaderName = HeaderName::from_static("destination");

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
    let conditions = check_conditions(&mut section);
    let limits = limits::check(&mut section);
    let audit_query = section.strings("audit_query");
    if methods.is_empty() {
        let problem = if section.is_list("methods") {
            "names no method"
        } else if section.has("methods") {
            // That it is no list is told already.
            return None;
        } else {
            "is missing"
        };
        section.mistake("methods", problem, "write for instance methods = [\"GET\"]");
        return None;
    }
    let goes_elsewhere = methods.iter().any(|it| ["COPY", "MOVE"].contains(&&**it));
    if goes_elsewhere && !conditions.asks_for(&DESTINATION) {
        section.mistake(
            "methods",
            "has COPY or MOVE, which write where the header Destination says",
            "say where to: headers = { Destination = \"/…\" }, or \"*\" for anywhere",
        );
    }
    let rule = check_rule(&section, Rule::parse(&methods, &path?))?;
    Some(
        rule.for_callers(callers)
            .taking_encoded_slash(encoded_slash)
            .requiring(conditions)
            .limited(limits)
            .showing_in_audit(audit_query),
    )
}

/// One `[[upstream.deny]]`.
fn check_deny(mut section: Section<'_>) -> Option<Rule> {
    let path = section.string("path");
    let methods = section.strings("methods");
    let callers = check_callers(&mut section);
    let conditions = check_conditions(&mut section);
    let rule = check_rule(&section, Rule::parse_deny(&methods, &path?))?;
    Some(rule.for_callers(callers).requiring(conditions))
}

fn check_rule(section: &Section<'_>, rule: Result<Rule, RuleError>) -> Option<Rule> {
    let mistake = |error: &RuleError| {
        let problem = format!("makes no rule: {}", chain(error));
        let key = match error {
            RuleError::NoMethod
            | RuleError::Method(_)
            | RuleError::LowerCaseMethod(_)
            | RuleError::ForbiddenMethod(_) => "methods",
            RuleError::NotFromRoot
            | RuleError::BeyondPath(_)
            | RuleError::Ambiguous(_)
            | RuleError::Placeholder(_)
            | RuleError::AfterRest
            | RuleError::NotAPath
            | RuleError::Parameter(_)
            | RuleError::Header(_)
            | RuleError::HeaderNotPassedOn(_)
            | RuleError::ContentType(_)
            | RuleError::Pointer(_)
            | RuleError::TooManyNamed
            | RuleError::TooManySegments => "path",
        };
        section.mistake(key, problem, "correct it");
    };
    rule.inspect_err(mistake).ok()
}

/// What a rule asks for beyond method, path and caller; without what is mistaken.
fn check_conditions(section: &mut Section<'_>) -> Conditions {
    let mut conditions = Conditions::default();
    if section.has("query") {
        let query = check_values(section, "query");
        let with = conditions.clone().with_query(query);
        conditions = check_condition(section, "query", with).unwrap_or(conditions);
    }
    let headers = check_values(section, "headers");
    let with = conditions.clone().with_headers(headers);
    conditions = check_condition(section, "headers", with).unwrap_or(conditions);
    let types = section.strings("content_type");
    if types.is_empty() && section.has("content_type") {
        let remedy = "leave it out for any type";
        section.mistake("content_type", "names no type", remedy);
    }
    let with = conditions.clone().with_content_types(&types);
    conditions = check_condition(section, "content_type", with).unwrap_or(conditions);
    let body = section.sections("body").into_iter();
    let with = conditions
        .clone()
        .with_body(body.filter_map(check_predicate).collect());
    check_condition(section, "body", with).unwrap_or(conditions)
}

/// One `[[upstream.allow.body]]`.
fn check_predicate(mut section: Section<'_>) -> Option<Predicate> {
    let literal = |scalar| match scalar {
        Scalar::Text(text) => Literal::Text(text),
        Scalar::Integer(number) => Literal::Integer(number),
        Scalar::Boolean(truth) => Literal::Boolean(truth),
    };
    let pointer = section.string("pointer");
    let equals = section.optional_scalar("equals");
    let one_of = section.optional_scalars("one_of");
    let matches = section.optional_string("matches");
    let keys = ["equals", "one_of", "matches"];
    if keys.into_iter().filter(|key| section.has(key)).count() != 1 {
        let remedy = "write one of equals = \"A\", one_of = [\"A\", \"B\"], matches = \"A*\"";
        section.mistake("pointer", "has not exactly one comparison", remedy);
        return None;
    }
    let exactly = equals.map(|it| vec![it]).or(one_of);
    let exactly = exactly.map(|them| Expected::OneOf(them.into_iter().map(literal).collect()));
    let like = matches.map(|pattern| Expected::Like(Values::like(&pattern)));
    let mistake = |error: &RuleError| {
        let problem = format!("makes no rule: {}", chain(error));
        section.mistake("pointer", problem, "correct it");
    };
    let predicate = Predicate::new(&pointer?, exactly.or(like)?);
    predicate.inspect_err(mistake).ok()
}

fn check_condition(
    section: &Section<'_>,
    key: &'static str,
    with: Result<Conditions, RuleError>,
) -> Option<Conditions> {
    let mistake = |error: &RuleError| {
        section.mistake(
            key,
            format!("makes no rule: {}", chain(error)),
            "correct it",
        );
    };
    with.inspect_err(mistake).ok()
}

/// A table of names, each with a pattern or a list of exact texts.
fn check_values(section: &mut Section<'_>, key: &'static str) -> Vec<(String, Values)> {
    let named = section.keyed_texts(key).into_iter();
    let values = named.filter_map(|(name, value)| match value {
        OneOrMany::One(pattern) => Some((name, Values::like(&pattern))),
        OneOrMany::Many(texts) if texts.is_empty() => {
            let problem = format!("has an empty list for {name:?}, so the rule never matches");
            section.mistake(key, problem, "write a text, or leave the rule out");
            None
        }
        OneOrMany::Many(texts) => Some((name, Values::OneOf(texts))),
    });
    values.collect()
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

#[cfg(test)]
mod tests {
    use crate::agent::config::tests::read;

    #[test]
    fn copy_and_move_are_allowed_only_with_a_word_about_where_they_write() {
        let text = |methods: &str, more: &str| {
            format!(
                "[[upstream]]\nname = 'dav'\nurl = 'http://localhost'\n[[upstream.allow]]\n\
                 methods = [{methods}]\npath = '/open/{{*rest}}'\n{more}\n"
            )
        };
        let to = "headers = { Destination = '/open/*' }";
        for (methods, more, is_rule) in [
            ("'PROPFIND', 'PUT'", "", true),
            ("'PUT', 'MOVE'", "", false),
            ("'COPY'", "", false),
            ("'COPY'", "headers = { Depth = '0' }", false),
            ("'COPY', 'MOVE'", to, true),
        ] {
            match read(&text(methods, more)) {
                Ok(_) => assert!(is_rule, "{methods} {more}"),
                Err(mistakes) => assert!(
                    !is_rule && mistakes.contains("allow[#1].methods: has COPY or MOVE"),
                    "{mistakes}"
                ),
            }
        }
    }
}
