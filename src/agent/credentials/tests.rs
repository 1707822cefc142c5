//! From the configuration of an upstream to the head that is sent, and what of an answer is kept back.

use std::fs;

use futures_util::FutureExt as _;
use http::header::{
    AUTHORIZATION, LOCATION, SET_COOKIE, TRANSFER_ENCODING, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::*;
use crate::agent::config::CredentialSource;
use crate::agent::config::tests::read;
use crate::agent::policy::{Asked, Policy, Rule, decide};
use crate::body::{self, BodyError};

const HEADER: HeaderName = HeaderName::from_static("x-key");

#[test]
fn a_header_that_is_set_here_replaces_the_callers() {
    let secrets = Secrets::new();
    secrets.write("Bearer secret-1\n");
    let credentials = secrets
        .open("set_headers = { Authorization = { file = 'FILE' } }")
        .unwrap();
    let mut headers = HeaderMap::new();
    headers.append(AUTHORIZATION, HeaderValue::from_static("Basic a"));
    headers.append(AUTHORIZATION, HeaderValue::from_static("Basic b"));
    let permitted = permitted("/");
    let (outgoing, _) = credentials
        .equip(&permitted, headers)
        .now_or_never()
        .unwrap()
        .unwrap();
    assert!(!format!("{outgoing:?} {credentials:?}").contains("secret-1"));
    let (_, _, headers) = outgoing.into_head();
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
    assert_eq!(values, ["Bearer secret-1"]);
}

#[test]
fn bearer_and_basic_are_made_here() {
    let secrets = Secrets::new();
    secrets.write("sésame, ouvre-toi");
    let value = |auth: &str| {
        let credentials = secrets.open(auth).unwrap();
        let (headers, _) = equip(&credentials, "/");
        headers[AUTHORIZATION].as_bytes().to_vec()
    };
    let bearer = value("auth = { bearer = { file = 'FILE' } }");
    assert_eq!(bearer, "Bearer sésame, ouvre-toi".as_bytes());
    let basic = value("auth = { basic = { username = 'svc', password = { file = 'FILE' } } }");
    assert_eq!(basic, b"Basic c3ZjOnPDqXNhbWUsIG91dnJlLXRvaQ==");
}

#[test]
fn a_parameter_is_added_to_what_was_matched() {
    let secrets = Secrets::new();
    secrets.write("a&b c");
    let credentials = secrets
        .open("set_query = { api_key = { file = 'FILE' }, v = { env = 'PATH' } }")
        .unwrap();
    let path = std::env::var("PATH").unwrap();
    let added = format!("api_key=a%26b%20c&v={}", query::escape(path.as_bytes()));
    for (asked, expected) in [
        ("/x", format!("/x?{added}")),
        ("/x?", format!("/x?{added}")),
        ("/x?y=%2F&", format!("/x?y=%2F&{added}")),
        ("/x?y=?", format!("/x?y=?{added}")),
        ("/x?y", format!("/x?y&{added}")),
    ] {
        let permitted = permitted(asked);
        let (outgoing, _) = credentials
            .equip(&permitted, HeaderMap::new())
            .now_or_never()
            .unwrap()
            .unwrap();
        assert!(!format!("{outgoing:?}").contains("a%26b"));
        assert_eq!(outgoing.into_head().1, expected.as_str(), "{asked}");
        assert_eq!(permitted.path_and_query(), asked);
    }
    let permitted = permitted("/x?API_KEY=mine");
    let refused = credentials
        .equip(&permitted, HeaderMap::new())
        .now_or_never()
        .unwrap()
        .unwrap_err();
    assert!(matches!(refused, CredentialError::OwnParameter(_)));
    assert!(!refused.to_string().contains("mine"), "{refused}");
}

#[test]
fn a_file_that_changed_is_read_again() {
    let secrets = Secrets::new();
    secrets.write("first");
    let credentials = secrets
        .open("auth = { bearer = { file = 'FILE' } }\nset_headers = { X-Key = { file = 'FILE' } }")
        .unwrap();
    assert_eq!(key(&credentials).unwrap(), "first");
    secrets.write("other");
    forget_the_last_look(&credentials);
    assert_eq!(key(&credentials).unwrap(), "other");
    // By another file in its place, as editors and rotations do.
    let beside = secrets.path("beside");
    fs::write(&beside, "third").unwrap();
    fs::rename(&beside, secrets.path("secret")).unwrap();
    forget_the_last_look(&credentials);
    assert_eq!(key(&credentials).unwrap(), "third");
    assert_eq!(equip(&credentials, "/").0[AUTHORIZATION], "Bearer third");
    fs::remove_file(secrets.path("secret")).unwrap();
    forget_the_last_look(&credentials);
    let gone = key(&credentials).unwrap_err();
    assert!(matches!(gone, CredentialError::Unreadable { .. }));
}

#[test]
fn what_cannot_be_sent_is_refused_without_being_shown() {
    let secrets = Secrets::new();
    for bytes in [&b""[..], b" \n", b"se\ncret", b"se\0cret", &[b'x'; 40_000]] {
        fs::write(secrets.path("secret"), bytes).unwrap();
        for form in [
            "set_headers = { X-Key = { file = 'FILE' } }",
            "set_query = { x-key = { file = 'FILE' } }",
            "auth = { basic = { username = 'u', password = { file = 'FILE' } } }",
        ] {
            let error = secrets.open(form).unwrap_err();
            assert!(matches!(error, CredentialError::Unusable(_)), "{form}");
            assert!(!error.to_string().contains("cret\0"), "{error}");
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    let named = |source| {
        let mut opening = Opening {
            upstream: "jira",
            former: &Kept::default(),
            kept: &mut Kept::default(),
        };
        let opened = Source::open(&source, &mut opening);
        opened.unwrap_err().to_string()
    };
    assert_eq!(
        named(CredentialSource::File("/nowhere/token".into())),
        "/nowhere/token cannot be read"
    );
    assert_eq!(
        named(CredentialSource::Environment("RELAY_TEST_UNSET".into())),
        "the environment variable \"RELAY_TEST_UNSET\" is not set"
    );
}

#[tokio::test]
async fn what_was_fetched_outlives_a_reload_until_it_is_configured_otherwise() {
    let secrets = Secrets::new();
    let count = secrets.path("count");
    let lines = |more: &str| {
        let script = format!("echo x >> {0}; wc -l < {0}", count.display());
        format!(
            "set_headers = {{ X-Key = {{ command = ['/bin/sh', '-c', 'printf value-; {script}']{more} }} }}"
        )
    };
    let key = async |credentials: &Credentials| {
        let (headers, _) = equip_with(credentials, "/", HeaderMap::new())
            .await
            .unwrap();
        headers[HEADER].to_str().unwrap().to_owned()
    };
    let first = secrets.open(&lines("")).unwrap();
    assert_eq!(key(&first).await, "value-1");
    // Something else of the upstream changed.
    let second = secrets.open_after(&format!("{}\npass_cookies = true", lines("")), &first);
    let second = second.unwrap();
    assert_eq!(key(&second).await, "value-1");
    // A configuration between them that was never in force changes nothing.
    secrets
        .open_after(&lines(", timeout = '9s'"), &second)
        .unwrap();
    let third = secrets.open_after(&lines(""), &second).unwrap();
    assert_eq!(key(&third).await, "value-1");
    let fourth = secrets.open_after(&lines(", cache = '1h'"), &third);
    assert_eq!(key(&fourth.unwrap()).await, "value-2");
}

#[test]
fn a_caller_cannot_spell_a_header_that_is_set_here_another_way() {
    let secrets = Secrets::new();
    secrets.write("rightful");
    let credentials = secrets
        .open("set_headers = { X-Key = { file = 'FILE' } }")
        .unwrap();
    let mut headers = HeaderMap::new();
    headers.insert("x_key", HeaderValue::from_static("the caller's"));
    headers.insert("x_other", HeaderValue::from_static("1"));
    headers.insert("trailer", HeaderValue::from_static("X-Key, x_key, x-sum"));
    let (headers, _) = at_once(&credentials, "/", headers).unwrap();
    let mut left: Vec<_> = headers.iter().collect();
    left.sort_by_key(|(name, _)| name.as_str());
    let left: Vec<_> = left
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        left,
        [
            ("trailer", "x-sum"),
            ("x-key", "rightful"),
            ("x_other", "1")
        ]
    );
}

#[tokio::test]
async fn secrets_that_come_back_are_masked_in_every_form() {
    let secrets = Secrets::new();
    secrets.write("swordfish?+");
    let masked = |auth: &str, echoes: &[&str]| {
        let (_, shield) = equip(&secrets.open(auth).unwrap(), "/");
        let mut answer = Response::new(body::empty());
        for echo in echoes {
            let echo = HeaderValue::from_str(echo).unwrap();
            answer.headers_mut().append("x-echo", echo);
        }
        let covered = shield.cover(answer);
        let values = covered.headers().get_all("x-echo").iter();
        let values: Vec<_> = values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        values.join(" | ")
    };
    let raw = [
        "x",
        "a swordfish?+, swordfish?+b",
        "swordfish",
        "c3dvcmRmaXNoPys=",
        "c3dvcmRmaXNoPys",
        "swordfish%3F%2B",
    ];
    let expected = "x | a ***, ***b | swordfish | *** | *** | ***";
    for form in [
        "auth = { bearer = { file = 'FILE' } }",
        "set_headers = { X-Key = { file = 'FILE' } }",
        "set_query = { key = { file = 'FILE' } }",
        "auth = { basic = { username = 'svc', password = { file = 'FILE' } } }",
    ] {
        assert_eq!(masked(form, &raw), expected, "{form}");
    }
    let whole = "Basic c3ZjOnN3b3JkZmlzaD8r";
    let basic = "auth = { basic = { username = 'svc', password = { file = 'FILE' } } }";
    assert_eq!(
        masked(basic, &[whole, "svc:swordfish?+"]),
        "Basic *** | ***"
    );
    secrets.write(whole);
    let set = "set_headers = { Authorization = { file = 'FILE' } }";
    assert_eq!(
        masked(set, &[whole, "user svc, password swordfish?+", "svc"]),
        "*** | user svc, password *** | svc"
    );
    secrets.write("short");
    assert_eq!(
        masked("auth = { bearer = { file = 'FILE' } }", &["short"]),
        "short"
    );
}

#[tokio::test]
async fn a_header_or_trailer_whose_name_holds_a_secret_stays_here() {
    let secrets = Secrets::new();
    secrets.write("Sword-Fish.1");
    let credentials = secrets.open("auth = { bearer = { file = 'FILE' } }");
    let (_, shield) = equip(&credentials.unwrap(), "/");
    let fields = || {
        let names = ["sword-fish.1", "x-sword%2dfish%2E1-y", "x-sword-fish"];
        let one = |name: &str| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_static("1"),
            )
        };
        names.map(one).into_iter().collect::<HeaderMap>()
    };
    let frames = [Ok::<_, BodyError>(Frame::trailers(fields()))];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut answer = Response::new(body::streaming(body));
    *answer.headers_mut() = fields();
    let headers = answer.headers_mut();
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    headers.insert(VARY, HeaderValue::from_static("sword-fish.1, accept"));
    let answer = shield.cover(answer);
    let mut left: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["transfer-encoding", "vary", "x-sword-fish"]);
    assert_eq!(answer.headers()[VARY], "***, accept");
    let whole = answer.into_body().collect().await.unwrap();
    let left: Vec<_> = whole.trailers().unwrap().keys().collect();
    assert_eq!(left, ["x-sword-fish"]);
}

#[tokio::test]
async fn cookies_stay_here_and_the_challenge_passes() {
    let secrets = Secrets::new();
    secrets.write("swordfish");
    for (more, cookies) in [("", 0), ("pass_cookies = true", 2)] {
        let credentials = secrets.open(&format!(
            "auth = {{ bearer = {{ file = 'FILE' }} }}\n{more}"
        ));
        let (_, shield) = equip(&credentials.unwrap(), "/");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-echo", HeaderValue::from_static("swordfish"));
        trailers.insert(SET_COOKIE, HeaderValue::from_static("c=d"));
        trailers.insert("set-cookie2", HeaderValue::from_static("e=f"));
        trailers.insert("connection", HeaderValue::from_static("close"));
        let frames = [
            Ok::<_, BodyError>(Frame::data("swordfish".into())),
            Ok(Frame::trailers(trailers)),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut answer = Response::new(body::streaming(body));
        let headers = answer.headers_mut();
        headers.append(SET_COOKIE, HeaderValue::from_static("a=b"));
        headers.append(SET_COOKIE, HeaderValue::from_static("c=swordfish"));
        headers.insert(
            WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer realm=\"x\""),
        );
        headers.insert(LOCATION, HeaderValue::from_static("/?token=swordfish"));
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        let answer = shield.cover(answer);
        assert_eq!(answer.headers().get_all(SET_COOKIE).iter().count(), cookies);
        assert_eq!(answer.headers()[WWW_AUTHENTICATE], "Bearer realm=\"x\"");
        assert_eq!(answer.headers()[LOCATION], "/?token=***");
        let whole = answer.into_body().collect().await.unwrap();
        let trailers = whole.trailers().unwrap();
        assert_eq!(trailers["x-echo"], "***");
        assert_eq!(trailers.contains_key(SET_COOKIE), cookies > 0);
        assert_eq!(trailers.contains_key("set-cookie2"), cookies > 0);
        assert!(!trailers.contains_key("connection"));
        assert_eq!(whole.to_bytes(), "swordfish", "bodies are not touched");
    }
}

/// A directory with one secret in it.
struct Secrets(tempfile::TempDir);

impl Secrets {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, value: &str) {
        fs::write(self.path("secret"), value).unwrap();
    }

    /// What an upstream with these lines has; `FILE` is where the secret is.
    fn open(&self, lines: &str) -> Result<Credentials, CredentialError> {
        self.open_after(lines, &Credentials::default())
    }

    /// The same, where there were others before.
    fn open_after(
        &self,
        lines: &str,
        former: &Credentials,
    ) -> Result<Credentials, CredentialError> {
        let lines = lines.replace("FILE", self.path("secret").to_str().unwrap());
        let text = format!("[[upstream]]\nname = 'jira'\nurl = 'http://localhost'\n{lines}\n");
        Credentials::open(&read(&text).unwrap().upstreams, None, former)
    }
}

fn permitted(path: &str) -> Permitted {
    let rule = Rule::parse(&["GET"], "/{*rest}").unwrap();
    let root = Rule::parse(&["GET"], "/").unwrap();
    let policy = Policy::new([("jira".parse().unwrap(), vec![rule, root])]);
    let path = path.parse().unwrap();
    decide(&policy, &Asked::get("jira", &path)).unwrap()
}

/// The headers that a call to this path with these goes out with, and what keeps its secrets back.
async fn equip_with(
    credentials: &Credentials,
    path: &str,
    headers: HeaderMap,
) -> Result<(HeaderMap, Shield), CredentialError> {
    let permitted = permitted(path);
    let (outgoing, shield) = credentials.equip(&permitted, headers).await?;
    Ok((outgoing.into_head().2, shield))
}

/// The same, where nothing has to be fetched.
fn at_once(
    credentials: &Credentials,
    path: &str,
    headers: HeaderMap,
) -> Result<(HeaderMap, Shield), CredentialError> {
    equip_with(credentials, path, headers)
        .now_or_never()
        .unwrap()
}

fn equip(credentials: &Credentials, path: &str) -> (HeaderMap, Shield) {
    at_once(credentials, path, HeaderMap::new()).unwrap()
}

fn key(credentials: &Credentials) -> Result<HeaderValue, CredentialError> {
    let (headers, _) = at_once(credentials, "/", HeaderMap::new())?;
    Ok(headers[HEADER].clone())
}

fn forget_the_last_look(credentials: &Credentials) {
    let all = credentials.upstreams.values();
    for placement in all.flat_map(|upstream| &upstream.placements) {
        placement.source().forget_the_last_look();
    }
}
