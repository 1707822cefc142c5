//! `auth = { oauth2 = { … } }`: access tokens by OAuth 2.0 client credentials.

use http::Uri;

use super::source::{CredentialSource, SOURCES};
use crate::config_file::{OneOrMany, Section};

/// What a token is asked for with anyhow, or has a key of its own.
const OF_THE_AGENT: [&str; 5] = [
    "audience",
    "client_id",
    "client_secret",
    "grant_type",
    "scope",
];

/// Where access tokens come from, and who asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2Config {
    /// The token endpoint: `http` or `https`, without user information or fragment.
    pub token_url: Uri,
    /// Who the agent is to it.
    pub client_id: String,
    /// By what it knows the agent.
    pub client_secret: CredentialSource,
    /// What the token is to be good for, as the endpoint names it.
    pub scope: Option<String>,
    /// For which service it is to be good; not part of RFC 6749, but many endpoints ask for it.
    pub audience: Option<String>,
    /// What else the endpoint wants to be told, such as `resource` (RFC 8707): names, each with its values.
    pub parameters: Vec<(String, Vec<String>)>,
    /// How the client's secret is sent.
    pub style: ClientStyle,
}

/// How client id and secret are sent (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientStyle {
    /// In `Authorization: Basic`, which every endpoint must take.
    Basic,
    /// In the body, for endpoints that take nothing else.
    Body,
}

impl OAuth2Config {
    pub(super) fn check(mut section: Section<'_>) -> Option<Self> {
        let token_url = check_url(&mut section);
        let client_id = section.string("client_id");
        if !section.has("client_secret") {
            section.mistake("client_secret", "is missing", SOURCES);
        }
        let mut client_secret = section.section("client_secret");
        let client_secret = section
            .has("client_secret")
            .then(|| CredentialSource::check(&mut client_secret, &section, "client_secret"))
            .flatten();
        let scope = section.optional_string("scope");
        let audience = section.optional_string("audience");
        let parameters = check_parameters(&mut section);
        let styles = [("basic", ClientStyle::Basic), ("body", ClientStyle::Body)];
        let style = section.choice("style", &styles, ClientStyle::Basic);
        Some(Self {
            token_url: token_url?,
            client_id: client_id?,
            client_secret: client_secret?,
            scope,
            audience,
            parameters,
            style,
        })
    }
}

fn check_url(section: &mut Section<'_>) -> Option<Uri> {
    let text = section.string("token_url")?;
    let url = text.parse::<Uri>().ok().filter(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
            && !text.contains(['@', '#'])
    });
    if url.is_none() {
        section.mistake(
            "token_url",
            "is not the address of a token endpoint",
            "write for instance \"https://login.corp.local/oauth2/token\"",
        );
    }
    url
}

fn check_parameters(section: &mut Section<'_>) -> Vec<(String, Vec<String>)> {
    let mut parameters = Vec::new();
    for (name, values) in section.keyed_texts("parameters") {
        if OF_THE_AGENT.contains(&name.as_str()) {
            section.mistake(
                "parameters",
                format!("has {name}, which is set otherwise"),
                "leave it out",
            );
        }
        let values = match values {
            OneOrMany::One(value) => vec![value],
            OneOrMany::Many(values) => values,
        };
        parameters.push((name, values));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::AuthConfig;
    use crate::agent::config::tests::read;

    fn oauth2(text: &str) -> Result<OAuth2Config, String> {
        let text = format!(
            "[[upstream]]\nname = 'jira'\nurl = 'http://localhost'\nauth = {{ oauth2 = {{ {text} }} }}\n"
        );
        let mut config = read(&text)?;
        match config.upstreams.remove(0).credentials.auth {
            Some(AuthConfig::OAuth2(config)) => Ok(*config),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_client_has_an_id_a_secret_and_an_endpoint() {
        let least = "token_url = 'https://login/token?t=1', client_id = 'me', client_secret = { env = 'S' }";
        let config = oauth2(least).unwrap();
        assert_eq!(config.style, ClientStyle::Basic);
        assert_eq!((config.scope, config.audience), (None, None));
        let more = format!("{least}, scope = 'read write', audience = 'jira', style = 'body'");
        let config = oauth2(&more).unwrap();
        assert_eq!(config.style, ClientStyle::Body);
        assert_eq!(config.scope.as_deref(), Some("read write"));
        let more = format!("{least}, parameters = {{ resource = ['a', 'b'], tenant = 'c' }}");
        let parameters = oauth2(&more).unwrap().parameters;
        let [resource, tenant] = parameters.try_into().unwrap();
        assert_eq!(resource.1, ["a", "b"]);
        assert_eq!(tenant, ("tenant".to_owned(), vec!["c".to_owned()]));
        let text = oauth2(&format!(
            "{least}, parameters = {{ grant_type = 'password' }}"
        ));
        assert!(
            text.unwrap_err()
                .contains("oauth2.parameters: has grant_type")
        );
        let text = oauth2("token_url = 'ldap://x', style = 'post'").unwrap_err();
        for key in ["token_url", "client_id", "client_secret", "style"] {
            assert!(text.contains(&format!("oauth2.{key}")), "{key}: {text}");
        }
    }
}
