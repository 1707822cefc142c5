//! A condition on the query.
//!
//! Programs differ in how they take a query apart: at `;` as well or not, `+` as a blank or as itself, escapes
//! before or after. A rule that allows must like every reading, and one that denies looks for any that fits.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::super::mismatch::{Mismatch, RuleError};
use super::super::path::{self, MAX_DECODINGS, PlainPath};
use super::super::pattern::{Values, fold};
use super::{MAX_NAMED, optional, write_named};

/// More parameters than services read: PHP and Tomcat stop at a thousand. Each is looked at in dozens of readings.
const MAX_PARAMETERS: usize = 1000;

/// The parameters that a query may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parameter {
    name: Arc<str>,
    is_optional: bool,
    values: Values,
}

/// A query as one program could take it apart.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// Whether `;` separates parameters, as `&` does.
    splits_at_semicolon: bool,
    /// Whether `+` is a blank.
    takes_plus_for_blank: bool,
    /// Whether names and values are decoded after they were taken apart.
    decodes: bool,
}

/// A piece of a query that programs read differently, or not at all.
struct Unclear;

impl Query {
    pub(super) fn new(parameters: Vec<(String, Values)>) -> Result<Self, RuleError> {
        if parameters.len() > MAX_NAMED {
            return Err(RuleError::TooManyNamed);
        }
        let mut known: Vec<Parameter> = Vec::with_capacity(parameters.len());
        for (written, values) in parameters {
            let (name, is_optional) = optional(&written);
            if name.is_empty() || known.iter().any(|it| *it.name == *name) {
                return Err(RuleError::Parameter(written));
            }
            known.push(Parameter {
                name: name.into(),
                is_optional,
                values,
            });
        }
        Ok(Self { parameters: known })
    }

    /// For a rule that denies.
    pub(super) fn folded(self) -> Self {
        let folded = |it: Parameter| Parameter {
            name: fold_name(&it.name).into(),
            values: it.values.folded(),
            ..it
        };
        Self {
            parameters: self.parameters.into_iter().map(folded).collect(),
        }
    }

    /// Whether every reading of the query has all parameters that must be there, and no others.
    pub(super) fn check(&self, path: PlainPath<'_>, query: &str) -> Result<(), Mismatch> {
        if path.early_query().is_some() {
            return Err(Mismatch::UnclearQuery);
        }
        if !query.contains(['%', '+', ';']) {
            return self.check_reading(query, Way::PLAIN);
        }
        for (text, is_first) in decodings(query).map_err(|Unclear| Mismatch::UnclearQuery)? {
            for reading in readings(&text) {
                for way in Way::all(is_first) {
                    self.check_reading(reading, way)?;
                }
            }
        }
        Ok(())
    }

    fn check_reading(&self, query: &str, way: Way) -> Result<(), Mismatch> {
        let mut seen = [false; MAX_NAMED];
        for piece in way.pieces(query) {
            let Some((name, value)) = piece.split_once('=') else {
                // Also an empty piece, which some count as a parameter without a name.
                return Err(Mismatch::UnclearQuery);
            };
            let (name, value) = match (way.read(name), way.read(value)) {
                (Ok(name), Ok(value)) => (name, value),
                // What is decoded once too often and cannot be is an error there, and leads nowhere.
                (Err(Unclear), _) | (_, Err(Unclear)) => return Err(Mismatch::UnclearQuery),
            };
            let mut known = self.parameters.iter().zip(&mut seen);
            let Some((parameter, seen)) = known.find(|(known, _)| *known.name == *name) else {
                return Err(Mismatch::UnlistedParameter);
            };
            if std::mem::replace(seen, true) {
                return Err(Mismatch::RepeatedParameter(Arc::clone(&parameter.name)));
            }
            if !parameter.values.take(&value) {
                return Err(Mismatch::Parameter(Arc::clone(&parameter.name)));
            }
        }
        let mut known = self.parameters.iter().zip(seen);
        match known.find(|(parameter, seen)| !parameter.is_optional && !seen) {
            Some((missing, _)) => Err(Mismatch::Parameter(Arc::clone(&missing.name))),
            None => Ok(()),
        }
    }

    /// Whether some reading of the query has the parameters, whatever else it has.
    pub(super) fn check_generously(
        &self,
        path: PlainPath<'_>,
        query: &str,
    ) -> Result<(), Mismatch> {
        let early = path.early_query().map(|early| format!("{early}&{query}"));
        let query = early.as_deref().unwrap_or(query);
        let Ok(texts) = decodings(query) else {
            return Ok(());
        };
        let mut everywhere = Vec::new();
        for (text, is_first) in &texts {
            let ways = Way::all(*is_first);
            for (reading, way) in ways.flat_map(|way| readings(text).map(move |it| (it, way))) {
                if way.pieces(reading).nth(MAX_PARAMETERS).is_some() {
                    return Ok(());
                }
                let mut sent = Vec::new();
                for piece in way.pieces(reading) {
                    let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
                    let (Ok(name), Ok(value)) = (way.read(name), way.read(value)) else {
                        return Ok(());
                    };
                    sent.push((fold_name(&name), fold(&value)));
                }
                // What is optional may be missing in this one only.
                if self.could_be_met(&sent).is_ok() {
                    return Ok(());
                }
                everywhere.extend(sent);
            }
        }
        self.could_be_met(&everywhere)
    }

    /// Names and values, of which further ones free nobody.
    fn could_be_met(&self, sent: &[(String, String)]) -> Result<(), Mismatch> {
        for parameter in &self.parameters {
            let of_the_name = || sent.iter().filter(|(name, _)| **name == *parameter.name);
            let is_met = of_the_name().any(|(_, value)| parameter.values.take(value))
                || (parameter.is_optional && of_the_name().next().is_none());
            if !is_met {
                return Err(Mismatch::Parameter(Arc::clone(&parameter.name)));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.parameters.iter();
        let named = named.map(|it| (&*it.name, it.is_optional, &it.values));
        write_named(f, "query", named)
    }
}

impl Way {
    /// How every program reads a query in which nothing is special.
    const PLAIN: Self = Self {
        splits_at_semicolon: false,
        takes_plus_for_blank: false,
        decodes: false,
    };

    /// All of them. What came is always decoded; what was decoded before it was taken apart may be once more.
    fn all(is_as_it_came: bool) -> impl Iterator<Item = Self> {
        (0..8_u8).filter_map(move |bits| {
            let way = Self {
                splits_at_semicolon: bits & 1 != 0,
                takes_plus_for_blank: bits & 2 != 0,
                decodes: bits & 4 != 0,
            };
            (way.decodes || !is_as_it_came).then_some(way)
        })
    }

    fn pieces(self, query: &str) -> impl Iterator<Item = &str> {
        let is_separator = move |c| c == '&' || (self.splits_at_semicolon && c == ';');
        // A query without anything in it has no pieces, rather than an empty one.
        let pieces = (!query.is_empty()).then(|| query.split(is_separator));
        pieces.into_iter().flatten()
    }

    fn read(self, text: &str) -> Result<Cow<'_, str>, Unclear> {
        let text = match self.takes_plus_for_blank && text.contains('+') {
            true => Cow::Owned(text.replace('+', " ")),
            false => Cow::Borrowed(text),
        };
        match self.decodes && text.contains('%') {
            // A percent sign that begins no escape is itself to a program that decodes once too often.
            true => Ok(decode(&text)?.map_or(text, Cow::Owned)),
            false => Ok(text),
        }
    }
}

/// The query, and what is left of it to a program that decodes before it looks for its end.
fn readings(query: &str) -> impl Iterator<Item = &str> {
    let cut = query.split_once('#').map(|(cut, _)| cut);
    cut.into_iter().chain([query])
}

/// The query as it came and after each decoding that changes it, and whether it is the first.
fn decodings(query: &str) -> Result<Vec<(Cow<'_, str>, bool)>, Unclear> {
    let mut texts = vec![(Cow::Borrowed(query), true)];
    let mut last = decode(query)?.ok_or(Unclear)?;
    for _ in 1..MAX_DECODINGS {
        let next = decode(&last)?;
        let is_stable = next.as_ref().is_none_or(|next| *next == last);
        texts.push((Cow::Owned(last), false));
        match next {
            Some(next) if !is_stable => last = next,
            _ => return Ok(texts),
        }
    }
    Err(Unclear)
}

/// A text without its escapes; nothing where one of them is none.
fn decode(text: &str) -> Result<Option<String>, Unclear> {
    let Some(bytes) = path::decode(text.as_bytes()) else {
        return Ok(None);
    };
    // Control characters end lines, headers and texts in programs that were not written for them.
    match String::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => Ok(Some(text)),
        Ok(_) | Err(_) => Err(Unclear),
    }
}

/// A name as loosely as services read it: `A[0]` is `a`, and PHP's `a.b` is `a_b`.
fn fold_name(name: &str) -> String {
    let name = name.split('[').next().unwrap_or_default().trim();
    let folded = fold(name);
    folded.replace(['.', ' ', '+'], "_")
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;

    use super::*;

    #[test]
    fn a_rule_that_allows_takes_the_queries_that_it_lists_and_no_others() {
        let query = query(&[("fields", "*"), ("max?", "50"), ("jql?", "project = *")]);
        let unclear = Err(Mismatch::UnclearQuery);
        let unlisted = Err(Mismatch::UnlistedParameter);
        let repeated = Err(Mismatch::RepeatedParameter("fields".into()));
        let parameter = |name: &str| Err(Mismatch::Parameter(name.into()));
        for (path, expected) in [
            ("/?fields=a", Ok(())),
            ("/?fields=", Ok(())),
            ("/?max=50&fields=a,b", Ok(())),
            ("/?fields=%C3%BC", Ok(())),
            ("/?fields=100%25", Ok(())),
            ("/?fields=a+b", Ok(())),
            ("/?%66ields=a", Ok(())),
            ("/?fields=a&jql=project%20%3D%20A", Ok(())),
            ("/", parameter("fields")),
            ("/?", parameter("fields")),
            ("/?max=50", parameter("fields")),
            ("/?fields=a&max=51", parameter("max")),
            ("/?fields=a&max=%355", parameter("max")),
            ("/?fields=a&max=%2550", parameter("max")),
            // `+` is a blank to some, and itself to others.
            ("/?fields=a&jql=project+%3D+A", parameter("jql")),
            ("/?fields=a&other=1", unlisted.clone()),
            ("/?fields=a&Fields=b", unlisted.clone()),
            ("/?fields[]=a&fields=b", unlisted.clone()),
            ("/?fields=a&fields=a", repeated.clone()),
            ("/?fields=a&%66ields=b", repeated.clone()),
            ("/?fields=a&%2566ields=b", unlisted.clone()),
            ("/?fields=a;other=1", unlisted.clone()),
            ("/?fields=a;fields=1", repeated.clone()),
            ("/?fields=a;b", unclear.clone()),
            ("/?fields=a%3Bother=1", unlisted.clone()),
            ("/?fields=a%26other=1", unlisted.clone()),
            ("/?fields=a%26fields=1", repeated),
            ("/?fields=a%2526other=1", unlisted),
            ("/?fields=a&", unclear.clone()),
            ("/?&fields=a", unclear.clone()),
            ("/?fields", unclear.clone()),
            ("/?fields=%zz", unclear.clone()),
            ("/?fields=%", unclear.clone()),
            ("/?fields=%ff", unclear.clone()),
            ("/?fields=a%00", unclear.clone()),
            ("/?fields=a%0d%0aX:1", unclear.clone()),
            ("/?fields=a%2500", unclear.clone()),
            ("/?fields=%252525252541", unclear.clone()),
            // A service that decodes too early sees max=1 as well.
            ("/x%3Fmax=1?fields=a", unclear),
            ("/?max=50%23&fields=a", parameter("max")),
        ] {
            assert_eq!(check(&query, path), expected, "{path}");
        }
    }

    #[test]
    fn an_empty_list_takes_no_query_at_all() {
        let query = query(&[]);
        assert_eq!(check(&query, "/"), Ok(()));
        assert_eq!(check(&query, "/?"), Ok(()));
        assert!(check(&query, "/?a=1").is_err());
        assert!(check(&query, "/?%").is_err());
    }

    #[test]
    fn a_rule_that_denies_finds_its_parameters_in_any_reading() {
        let query = query(&[("expand", "*change log*"), ("x?", "1")]).folded();
        for (path, expected) in [
            ("/?expand=change%20log", true),
            ("/?expand=change+log", true),
            ("/?a=1&b&EXPAND=xChange+LOGx", true),
            ("/?expand[]=change+log", true),
            ("/?a=1;expand=change+log", true),
            ("/?a=1%26expand=change+log", true),
            ("/?%2565xpand=change%2520log", true),
            ("/?expand=a&expand=change+log", true),
            ("/?expand=change+log&x=1", true),
            ("/?expand=change+log&x=2&X=1", true),
            // A service that decodes too early sees nothing of what follows.
            ("/?expand=change+log&x=1%23b", true),
            ("/?expand=change+log%23&x=2", true),
            ("/?expand=change+log%2523&x=2", true),
            ("/?x=2%23&expand=change+log", false),
            ("/y%3Fexpand=change+log", true),
            // What nobody can read may be anything.
            ("/?%zz", true),
            ("/?a=%ff", true),
            ("/?expand=change+log&x=2", false),
            ("/?expand=changelog", false),
            ("/?a=change+log", false),
            ("/", false),
        ] {
            let asked: PathAndQuery = path.parse().unwrap();
            let path_part = PlainPath::read(&asked).unwrap();
            let met = query.check_generously(path_part, asked.query().unwrap_or_default());
            assert_eq!(met.is_ok(), expected, "{path}: {met:?}");
        }
    }

    #[test]
    fn more_parameters_than_services_read_are_not_looked_at_and_fit_what_denies() {
        let query = query(&[("expand", "all")]).folded();
        for (count, expected) in [(MAX_PARAMETERS, false), (MAX_PARAMETERS + 1, true)] {
            let many = vec!["a=b"; count].join("&");
            let asked: PathAndQuery = format!("/?{many}").parse().unwrap();
            let path = PlainPath::read(&asked).unwrap();
            let met = query.check_generously(path, asked.query().unwrap());
            assert_eq!(met.is_ok(), expected, "{count}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_is_refused() {
        let new = |names: &[&str]| {
            let named = names
                .iter()
                .map(|name| ((*name).to_owned(), Values::like("*")));
            Query::new(named.collect()).map(drop)
        };
        assert_eq!(new(&["?"]), Err(RuleError::Parameter("?".to_owned())));
        assert_eq!(
            new(&["a", "a?"]),
            Err(RuleError::Parameter("a?".to_owned()))
        );
        let many: Vec<_> = (0..=MAX_NAMED).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(new(&many), Err(RuleError::TooManyNamed));
    }

    fn query(parameters: &[(&str, &str)]) -> Query {
        let parameters = parameters.iter();
        let named = parameters.map(|(name, values)| ((*name).to_owned(), Values::like(values)));
        Query::new(named.collect()).unwrap()
    }

    fn check(query: &Query, path: &str) -> Result<(), Mismatch> {
        let asked: PathAndQuery = path.parse().unwrap();
        let path = PlainPath::read(&asked).unwrap();
        query.check(path, asked.query().unwrap_or_default())
    }
}
