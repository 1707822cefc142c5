//! Parameters that the agent adds to the query of a call.
//!
//! They come after what was matched, which stays byte for byte. A caller who sets one of them himself is
//! refused: some services take the first of two, some the last, some both.

use std::sync::Arc;

use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};

use super::CredentialError;
use super::placement::{Made, Piece};

/// All but the unreserved characters of RFC 3986, section 2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// A name that is escaped more often is escaped to hide something: no service decodes so many times.
const MAX_DECODINGS: usize = 4;

/// A value as it is written in a query.
pub(super) fn escape(value: &[u8]) -> String {
    percent_encode(value, ESCAPED).to_string()
}

/// Refuses a query that has the parameter `name`, in any way that a service could read it.
///
/// # Errors
/// [`CredentialError::OwnParameter`].
pub(super) fn refuse(query: Option<&str>, name: &str) -> Result<(), CredentialError> {
    let set_here = folded(name.as_bytes());
    // Some services part parameters at semicolons, too.
    let parameters = query.unwrap_or_default().split(['&', ';']);
    for parameter in parameters {
        let sent = parameter.split('=').next().unwrap_or_default();
        if spellings(sent).any(|spelling| folded(&spelling) == set_here) {
            return Err(CredentialError::OwnParameter(name.to_owned()));
        }
    }
    Ok(())
}

/// Path and query with these parameters after them; nothing when there are none.
///
/// # Errors
/// [`CredentialError::TooLong`].
pub(super) fn with(
    permitted: &PathAndQuery,
    parameters: &[Arc<Made>],
) -> Result<Option<PathAndQuery>, CredentialError> {
    let mut text = String::new();
    for made in parameters {
        let Piece::Parameter(escaped) = &made.piece else {
            continue;
        };
        if text.is_empty() {
            text.push_str(permitted.as_str());
        }
        match (permitted.query(), text.ends_with(['?', '&'])) {
            (_, true) => {}
            (None, _) if !text.contains('?') => text.push('?'),
            (_, false) => text.push('&'),
        }
        text.push_str(escaped.expose());
    }
    if text.is_empty() {
        return Ok(None);
    }
    let target = PathAndQuery::try_from(text).map_err(|_| CredentialError::TooLong)?;
    Ok(Some(target))
}

/// A name as it was sent, and as it reads after each decoding.
fn spellings(sent: &str) -> impl Iterator<Item = Vec<u8>> {
    let decode = |name: &Vec<u8>| {
        let decoded: Vec<u8> = percent_decode(name).collect();
        (decoded != *name).then_some(decoded)
    };
    std::iter::successors(Some(sent.as_bytes().to_vec()), decode).take(MAX_DECODINGS + 1)
}

/// What services fold together: upper and lower case; a dot or a blank and an underscore, and what stands
/// in brackets, as PHP does.
fn folded(name: &[u8]) -> Vec<u8> {
    let name = name.trim_ascii();
    let bare = name.split(|byte| matches!(byte, b'[' | b'\0')).next();
    bare.unwrap_or_default()
        .iter()
        .skip_while(|byte| matches!(byte, b' ' | b'+'))
        .map(|byte| match byte {
            b'.' | b' ' | b'+' | b'-' => b'_',
            byte => byte.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_own_parameter_is_found_however_it_is_spelled() {
        for query in [
            "api_key=x",
            "a=b&api_key",
            "API_KEY=x",
            "a=b;api_key=x",
            "api%5Fkey=x",
            "api%255fkey=x",
            "%61pi_key=x",
            "api.key=x",
            "api+key=x",
            "+api_key=x",
            "api_key[]=x",
            "api_key%5B0%5D=x",
            "api_key%00=x",
        ] {
            let refused = refuse(Some(query), "api_key");
            assert!(
                matches!(refused, Err(CredentialError::OwnParameter(_))),
                "{query}"
            );
        }
    }

    #[test]
    fn other_parameters_pass() {
        for query in [
            "",
            "api_keys=x",
            "a=api_key",
            "my_api_key=1&&=",
            "key=api_key",
        ] {
            assert!(refuse(Some(query), "api_key").is_ok(), "{query}");
        }
        assert!(refuse(None, "api_key").is_ok());
    }

    #[test]
    fn a_value_is_escaped_whole() {
        assert_eq!(
            escape(b"a&b=c d+%\xff/-._~"),
            "a%26b%3Dc%20d%2B%25%FF%2F-._~"
        );
    }
}
