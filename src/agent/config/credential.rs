//! How calls to an upstream are authenticated: what the agent adds to them, and what else may pass.
//!
//! Names where secrets are; holds none, and never looks whether they are there.

use http::{HeaderName, header};

use super::oauth2::OAuth2Config;
use super::source::{CredentialSource, SOURCES};
use crate::config_file::Section;

/// Headers that belong to a connection or to the message's framing, never to a credential.
const UNSETTABLE: [HeaderName; 9] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];
/// The credentials of one upstream. By default nothing is added, and nothing of the caller's passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialsConfig {
    /// Who the agent is to the upstream: makes the `Authorization` header.
    pub auth: Option<AuthConfig>,
    /// Headers that the agent sets on every call, replacing the caller's of the same name.
    pub set_headers: Vec<(HeaderName, CredentialSource)>,
    /// Parameters that the agent adds to the query of every call.
    pub set_query: Vec<(String, CredentialSource)>,
    /// Whether the caller's own `Authorization` reaches the upstream.
    pub pass_authorization: bool,
    /// Whether the caller's `Cookie` reaches the upstream, and the upstream's `Set-Cookie` the caller.
    pub pass_cookies: bool,
}

/// What the `Authorization` header is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthConfig {
    /// `Bearer`, and the secret as it is (RFC 6750).
    Bearer(CredentialSource),
    /// `Basic`, and user name and password in base64 (RFC 7617).
    Basic {
        /// Without a colon, which ends it on the wire.
        username: String,
        /// Where the password is.
        password: CredentialSource,
    },
    /// `Bearer`, and an access token that the agent asks for (RFC 6749, section 4.4).
    OAuth2(Box<OAuth2Config>),
}

impl CredentialsConfig {
    /// Reads the keys about credentials from an `[[upstream]]`. What is wrong is written down, and left out.
    pub(super) fn check(section: &mut Section<'_>) -> Self {
        let config = Self {
            auth: AuthConfig::check(section),
            set_headers: check_headers(section),
            set_query: check_query(section),
            pass_authorization: section.boolean("pass_authorization", false),
            pass_cookies: section.boolean("pass_cookies", false),
        };
        config.check_authorization(section);
        config
    }

    /// Only one may have a say about `Authorization`.
    fn check_authorization(&self, section: &Section<'_>) {
        let in_headers = self
            .set_headers
            .iter()
            .any(|(name, _)| *name == header::AUTHORIZATION);
        if self.auth.is_some() && in_headers {
            section.mistake(
                "auth",
                "makes the Authorization that set_headers sets, too",
                "leave one of them out",
            );
        }
        if self.pass_authorization && (self.auth.is_some() || in_headers) {
            section.mistake(
                "pass_authorization",
                "lets the caller's Authorization pass, which the agent replaces",
                "leave it out, or what sets Authorization",
            );
        }
    }
}

impl AuthConfig {
    fn check(upstream: &mut Section<'_>) -> Option<Self> {
        if !upstream.has("auth") {
            return None;
        }
        let mut auth = upstream.section("auth");
        let kinds = ["bearer", "basic", "oauth2"];
        let given: Vec<_> = kinds.into_iter().filter(|kind| auth.has(kind)).collect();
        match given.as_slice() {
            ["bearer"] => {
                let mut source = auth.section("bearer");
                CredentialSource::check(&mut source, &auth, "bearer").map(Self::Bearer)
            }
            ["basic"] => Self::check_basic(auth.section("basic")),
            ["oauth2"] => {
                let oauth2 = OAuth2Config::check(auth.section("oauth2"));
                oauth2.map(|config| Self::OAuth2(Box::new(config)))
            }
            _ => {
                upstream.mistake(
                    "auth",
                    "is not exactly one kind",
                    "write { bearer = { … } }, { basic = { username = \"…\", password = { … } } } or { oauth2 = { … } }",
                );
                None
            }
        }
    }

    fn check_basic(mut basic: Section<'_>) -> Option<Self> {
        let username = basic.string("username");
        if !basic.has("password") {
            basic.mistake("password", "is missing", SOURCES);
        }
        let mut password = basic.section("password");
        let password = CredentialSource::check(&mut password, &basic, "password");
        let username = username?;
        if username.contains(':') || username.chars().any(char::is_control) {
            basic.mistake(
                "username",
                "has a colon or a control character, which Basic cannot carry",
                "write another one",
            );
        }
        let password = password?;
        Some(Self::Basic { username, password })
    }
}

fn check_headers(section: &mut Section<'_>) -> Vec<(HeaderName, CredentialSource)> {
    let mut headers = Vec::new();
    for (key, mut value) in section.keyed_sections("set_headers") {
        let source = CredentialSource::check(&mut value, section, "set_headers");
        match HeaderName::from_bytes(key.as_bytes()) {
            Ok(name) if UNSETTABLE.contains(&name) || name.as_str().starts_with("relay-") => {
                section.mistake(
                    "set_headers",
                    format!("sets {name}, which belongs to the connection"),
                    "leave it out",
                );
            }
            Ok(name) => headers.extend(source.map(|source| (name, source))),
            Err(_) => section.mistake(
                "set_headers",
                format!("has {key:?}, which is not the name of a header"),
                "write for instance Authorization",
            ),
        }
    }
    headers
}

fn check_query(section: &mut Section<'_>) -> Vec<(String, CredentialSource)> {
    let mut parameters = Vec::new();
    for (name, mut value) in section.keyed_sections("set_query") {
        let source = CredentialSource::check(&mut value, section, "set_query");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            section.mistake(
                "set_query",
                format!("has {name:?}, which services could spell in more than one way"),
                "write a name of A-Z a-z 0-9 - . _ ~",
            );
        } else {
            parameters.extend(source.map(|source| (name, source)));
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::tests::read;

    fn credentials(lines: &str) -> Result<CredentialsConfig, String> {
        let text = format!("[[upstream]]\nname = 'jira'\nurl = 'http://localhost'\n{lines}\n");
        let mut config = read(&text)?;
        Ok(config.upstreams.remove(0).credentials)
    }

    #[test]
    fn nothing_is_added_and_nothing_passes_by_default() {
        assert_eq!(credentials("").unwrap(), CredentialsConfig::default());
        assert!(!CredentialsConfig::default().pass_authorization);
        assert!(!CredentialsConfig::default().pass_cookies);
    }

    #[test]
    fn who_the_agent_is_has_one_form() {
        let bearer = credentials("auth = { bearer = { env = 'TOKEN' } }").unwrap();
        let token = CredentialSource::Environment("TOKEN".to_owned());
        assert_eq!(bearer.auth, Some(AuthConfig::Bearer(token)));
        let basic = "auth = { basic = { username = 'svc', password = { credential = 'jira' } } }";
        let basic = credentials(basic).unwrap();
        let expected = AuthConfig::Basic {
            username: "svc".to_owned(),
            password: CredentialSource::Credential("jira".to_owned()),
        };
        assert_eq!(basic.auth, Some(expected));
        for (lines, mistake) in [
            ("auth = { }", "is not exactly one kind"),
            (
                "auth = { bearer = { env = 'A' }, basic = { username = 'a', password = { env = 'A' } } }",
                "is not exactly one kind",
            ),
            ("auth = { bearer = { } }", "without exactly one source"),
            (
                "auth = { bearer = { env = 'A', file = '/a' } }",
                "without exactly one source",
            ),
            ("auth = { digest = { env = 'A' } }", "digest"),
            (
                "auth = { bearer = { env = 'A' } }\nset_headers = { authorization = { env = 'A' } }",
                "leave one of them out",
            ),
            (
                "auth = { bearer = { env = 'A' } }\npass_authorization = true",
                "which the agent replaces",
            ),
        ] {
            let text = credentials(lines).unwrap_err();
            assert!(text.contains(mistake), "{lines}: {text}");
        }
    }
}
