//! Whole products on loopback for the tests: relays, agents, private services, callers, and the real programs.
//!
//! Everything runs on free addresses in directories of its own and ends with the test that began it.
//! Waits are for conditions, with one deadline; nothing here sleeps for luck.

pub(crate) mod agent;
pub(crate) mod answers;
pub(crate) mod cable;
pub(crate) mod caller;
pub(crate) mod in_process;
pub(crate) mod journal;
pub(crate) mod program;
pub(crate) mod relay;
pub(crate) mod script;
pub(crate) mod upstream;
pub(crate) mod wire;

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt as _;
use relay_agent::problem::{self, ParsedProblem};

pub(crate) use self::agent::TestAgent;
pub(crate) use self::cable::Cable;
pub(crate) use self::caller::Caller;
pub(crate) use self::in_process::Home;
pub(crate) use self::relay::TestRelay;
pub(crate) use self::upstream::Upstream;
pub(crate) use self::wire::Wire;

/// How long anything may take before a test gives up: far longer than it takes on a machine whose cores twenty others
/// want. Who finds what it waits for does not wait any longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);
/// The pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits until a condition holds.
pub(crate) async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < DEADLINE, "in vain awaited: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Waits for a future, but not without end.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("in vain awaited: {what}"),
    }
}

/// A relay, an agent and a private service called `web`, joined by the active connection
/// `acme_to_widgets` whose link is up, and a token that opens every connection.
pub(crate) struct Scene {
    pub(crate) relay: TestRelay,
    pub(crate) agent: TestAgent,
    pub(crate) upstream: Upstream,
    pub(crate) token: String,
}

/// The connection of a [`Scene`].
pub(crate) const CONNECTION: &str = "acme_to_widgets";

impl Scene {
    /// All of it, with a relay and an agent as they are by default.
    pub(crate) async fn around(upstream: Upstream) -> Self {
        Self::with("", "", upstream).await
    }

    /// All of it, with more lines for the relay's configuration and for the agent's upstream.
    pub(crate) async fn with(relay: &str, of_upstream: &str, upstream: Upstream) -> Self {
        let relay = TestRelay::start_with(relay).await;
        let agent = TestAgent::start_with(&upstream.configuration("web", of_upstream)).await;
        let code = relay.initiate("acme", "widgets").await;
        agent.accept(&code).await;
        // Each side hears of the link at a time of its own.
        relay.until_online(CONNECTION).await;
        agent.until_online(CONNECTION).await;
        let token = relay.token(None).await;
        Self {
            relay,
            agent,
            upstream,
            token,
        }
    }

    /// A caller by HTTP/1.1 over TLS.
    pub(crate) async fn caller(&self) -> Caller {
        Caller::http1(self.relay.home(), &self.token).await
    }

    /// A caller by HTTP/2 over TLS.
    pub(crate) async fn caller2(&self) -> Caller {
        Caller::http2(self.relay.home(), &self.token).await
    }
}

/// What a caller got, whole.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Whole {
    /// Takes an answer to its end.
    pub(crate) async fn of<B>(answer: Response<B>) -> Self
    where
        B: http_body::Body + Unpin,
        B::Error: Debug,
    {
        let (parts, body) = answer.into_parts();
        let collected = soon("the end of an answer", body.collect()).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: collected.to_bytes().to_vec(),
        }
    }

    /// One header's value, or the empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The problem document that this is.
    pub(crate) fn problem(&self) -> ParsedProblem {
        assert_eq!(
            self.header("content-type"),
            problem::CONTENT_TYPE_PROBLEM,
            "{self:?}"
        );
        problem::parse(&self.body).unwrap()
    }
}
