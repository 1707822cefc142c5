//! `/c/{connection}/{upstream}/{path…}`: one caller's request, relayed live to the agent of that connection.
//!
//! Order: who calls, which connection, may it, is it there; only then is anything sent. Path and
//! query pass byte for byte, bodies stream, and dropping the answer cancels the call at the far end.
//! Never gathers a body, never repeats a call.

mod hold;
mod location;
mod refusal;
mod target;
mod telling;
mod websocket;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;

use self::hold::{Gate, check_expectation, held};
use self::refusal::Refusal;
use self::target::Target;
use self::telling::{CallName, Telling};
use super::activity::Activity;
use super::record::{Scope, State};
use super::registry::{CallPermit, Connection, LinkStatus, Live};
use super::shared::Shared;
use super::tokens::{self, Caller};
use crate::body::Body;
use crate::body::progress::{NoAnswer, answer_within, watched};
use crate::forwarding::request_id::X_REQUEST_ID;
use crate::forwarding::{
    self, RELAY_AUTHORIZATION, RELAY_CALLER, RELAY_ERROR, RELAY_REQUEST_ID, Via,
};
use crate::identity::{self, IdentityError};
use crate::metric::calls::MethodLabel;
use crate::spans::Tracer;

/// What the path of a call begins with.
pub const PREFIX: &str = "/c/";
/// The outermost wait for an answer, from the last byte that the caller sent. The agent's own
/// `response_timeout` of each upstream is shorter and says more; this one covers an agent that hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30 * 60);
const BEARER: &str = "Bearer ";

/// Relays calls. One for the whole relay.
pub struct Forward {
    shared: Arc<Shared>,
    via: Via,
    /// The number of the next call. Begins at random, so that numbers of two runs do not meet in a log.
    next_call: AtomicU64,
    telling: Telling,
    tracer: Tracer,
}

/// Goes with an answer that the agent made: the code of its problem document.
#[derive(Debug, Clone)]
struct OfAgent(HeaderValue);

/// What a call needs to know of the socket that it came on.
#[derive(Debug, Clone)]
pub struct CallerSocket {
    /// What upstreams are told in `Forwarded`.
    pub forwarded: HeaderValue,
    /// What goes on on it.
    pub activity: Arc<Activity>,
}

impl Forward {
    /// A forwarder of this relay.
    ///
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// When the machine gives no random bytes.
    pub fn new(shared: Arc<Shared>) -> Result<Self, IdentityError> {
        let fingerprint = shared.identity.public_key().fingerprint();
        Ok(Self {
            via: Via::new(&format!("relay-{fingerprint}")),
            next_call: AtomicU64::new(
                u64::from(u32::from_be_bytes(identity::random_bytes()?)) << 24,
            ),
            telling: Telling::default(),
            tracer: Tracer::from_environment("relay"),
            shared,
        })
    }

    /// Answers a request whose path begins with [`PREFIX`].
    pub async fn answer(
        &self,
        mut request: Request<Incoming>,
        socket: &CallerSocket,
    ) -> Response<Body> {
        let (method, began) = (MethodLabel::of(request.method()), Instant::now());
        let number = self.next_number();
        let name = CallName::take(&mut request, number);
        let span = self.tracer.begin(&mut request);
        let mut answer = match self.call(request, &name, socket).await {
            Ok(answer) => {
                let of_agent = answer.extensions().get::<OfAgent>();
                let of_agent = of_agent.and_then(|OfAgent(code)| code.to_str().ok());
                self.telling.answered(&name, answer.status(), of_agent);
                self.tracer
                    .end(span, || name.told(answer.status(), of_agent));
                answer
            }
            Err(refusal) => {
                let (code, failure, answer) = refusal.into_answer();
                self.telling.refused(&name, code, failure);
                self.tracer
                    .end(span, || name.told(answer.status(), Some(code)));
                answer
            }
        };
        name.show(answer.headers_mut());
        self.shared.metrics.answered(method, began, &answer);
        answer
    }

    /// The number of a call, by which it is found in the log.
    pub fn next_number(&self) -> u64 {
        self.next_call.fetch_add(1, Ordering::Relaxed)
    }

    async fn call(
        &self,
        mut request: Request<Incoming>,
        name: &CallName,
        socket: &CallerSocket,
    ) -> Result<Response<Body>, Refusal> {
        let caller = self.authenticate(request.headers_mut())?;
        let target = Target::of(request.uri()).ok_or(Refusal::NoTarget)?;
        let connection = self.connection(&caller, target.connection)?;
        let live = self.reachable(&connection).await?;
        if self.via.is_loop(request.headers()) {
            return Err(Refusal::Loop);
        }
        check_expectation(request.headers())?;
        let permit = connection.begin_call().ok_or(Refusal::TooManyCalls)?;
        let uri = target.lane_uri().ok_or(Refusal::UnknownUpstream)?;
        let asks_for_websocket = websocket::is_asked_for(&request)?;
        let caller_upgrade = asks_for_websocket.then(|| hyper::upgrade::on(&mut request));

        let upstream = uri.authority().cloned();
        let (mut parts, body) = request.into_parts();
        parts.uri = uri;
        self.prepare(&mut parts, name, &caller, socket);
        let mut answer = match caller_upgrade {
            Some(upgrade) => {
                let open = socket.activity.tunnel();
                // Apart, so that the rare and large one does not make every call's future larger.
                let opening = websocket::open(self, &live, parts, upgrade, (permit, open));
                Box::pin(opening).await?
            }
            None => self.send(&live, parts, body, &name.number, permit).await?,
        };
        location::write(&mut answer, connection.name(), upstream.as_ref());
        Ok(answer)
    }

    /// Who calls, by the token, which is taken out of the headers.
    fn authenticate(&self, headers: &mut HeaderMap) -> Result<Arc<Caller>, Refusal> {
        if headers.get_all(RELAY_AUTHORIZATION).iter().nth(1).is_some() {
            return Err(Refusal::SeveralTokens);
        }
        let token = match headers.remove(RELAY_AUTHORIZATION) {
            Some(value) => {
                if is_token(headers.get(AUTHORIZATION)) {
                    headers.remove(AUTHORIZATION);
                }
                value
            }
            None if is_token(headers.get(AUTHORIZATION)) => {
                headers.remove(AUTHORIZATION).ok_or(Refusal::NoToken)?
            }
            None => return Err(Refusal::NoToken),
        };
        let token = bearer(&token).ok_or(Refusal::NoToken)?;
        self.shared
            .tokens
            .authenticate(token)
            .ok_or(Refusal::UnknownToken)
    }

    /// The connection that is called, if the caller may know of it.
    fn connection(&self, caller: &Caller, name: &str) -> Result<Arc<Connection>, Refusal> {
        match (self.shared.registry.find(name), caller.scope) {
            (Some(connection), scope) if scope.opens(connection.id()) => Ok(connection),
            // Whether another connection exists is none of the business of one connection's token.
            (_, Scope::Connection(_)) => Err(Refusal::OtherConnection),
            (_, Scope::AllConnections | Scope::Admin) => Err(Refusal::UnknownConnection),
        }
    }

    /// The connection's live link, if calls may go down it; while the agent is on its way back, they wait.
    async fn reachable(&self, connection: &Connection) -> Result<Arc<Live>, Refusal> {
        if let Some(live) = reachable_now(connection, self.shared.shutdown.is_draining())? {
            return Ok(live);
        }
        let limit = self.shared.config.limits.waiting_calls_per_connection;
        let _place = connection
            .begin_waiting()
            .ok_or(Refusal::TooManyWaiting(limit))?;
        let mut changes = connection.link_changes();
        let wait = async {
            loop {
                if let Some(live) = reachable_now(connection, self.shared.shutdown.is_draining())? {
                    return Ok(live);
                }
                tokio::select! {
                    // Both only wait.
                    changed = changes.changed() => changed.map_err(|_| Refusal::Reconnecting)?,
                    () = self.shared.shutdown.draining() => return Err(Refusal::Draining),
                }
            }
        };
        let wait = tokio::time::timeout(self.shared.config.link.call_wait, wait);
        wait.await.unwrap_or(Err(Refusal::Reconnecting))
    }

    /// Turns the caller's headers into those of the lane.
    fn prepare(&self, parts: &mut Parts, name: &CallName, caller: &Caller, socket: &CallerSocket) {
        let headers = &mut parts.headers;
        forwarding::strip(headers);
        headers.remove(HOST);
        forwarding::set_forwarded(headers, &socket.forwarded);
        self.via.append(headers, parts.version);
        headers.insert(RELAY_REQUEST_ID, name.number.clone());
        if let Some(given) = &name.given {
            headers.insert(X_REQUEST_ID, given.clone());
        }
        if let Ok(label) = HeaderValue::from_str(caller.label.as_str()) {
            headers.insert(RELAY_CALLER, label);
        }
    }

    async fn send(
        &self,
        live: &Live,
        mut parts: Parts,
        body: Incoming,
        call: &HeaderValue,
        permit: CallPermit,
    ) -> Result<Response<Body>, Refusal> {
        let gate = Gate::of(&mut parts, live, call);
        parts.version = Version::HTTP_2;
        parts.extensions = http::Extensions::new();
        let (body, progress, opener) = match gate {
            None => {
                let (body, progress) = watched(body);
                (body, progress, None)
            }
            Some((gate, opener)) => {
                let (body, progress) = watched(gate.before(body));
                (body, progress, Some(opener))
            }
        };
        let answer = pin!(live.client.send(Request::from_parts(parts, body)));
        let answer = answer_within(ANSWER_TIMEOUT, progress.as_deref(), answer).await;
        let answer = answer
            .map_err(|NoAnswer| Refusal::AnswerTimeout(ANSWER_TIMEOUT))?
            .map_err(Refusal::Lane)?;
        if let Some(opener) = opener {
            opener.answered(answer.status());
        }
        Ok(self.pass_back(answer).map(|body| held(body, permit)))
    }

    /// An answer from the lane as the caller gets it.
    fn pass_back<B>(&self, mut answer: Response<B>) -> Response<B> {
        let version = answer.version();
        answer.extensions_mut().clear();
        location::keep(&mut answer);
        let headers = answer.headers_mut();
        let of_agent = headers.remove(RELAY_ERROR);
        forwarding::strip(headers);
        match of_agent {
            None => self.via.append(headers, version),
            Some(code) => {
                answer.extensions_mut().insert(OfAgent(code));
            }
        }
        answer
    }
}

/// The link, if calls may go down it now; nothing while the agent is on its way back.
fn reachable_now(connection: &Connection, is_draining: bool) -> Result<Option<Arc<Live>>, Refusal> {
    if is_draining {
        return Err(Refusal::Draining);
    }
    match connection.state() {
        State::Active => {}
        state @ (State::Pending | State::Deactivated(_) | State::Removed) => {
            return Err(Refusal::NotActive(state));
        }
    }
    match connection.link_status() {
        LinkStatus::Online(live) => Ok(Some(live)),
        LinkStatus::Reconnecting => Ok(None),
        LinkStatus::Offline => Err(Refusal::Offline),
    }
}

/// Whether a header shows a token of this relay rather than something for the upstream.
fn is_token(value: Option<&HeaderValue>) -> bool {
    value
        .and_then(bearer)
        .is_some_and(|token| token.starts_with(tokens::PREFIX))
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let (scheme, token) = text.split_at_checked(BEARER.len())?;
    scheme.eq_ignore_ascii_case(BEARER).then(|| token.trim())
}
