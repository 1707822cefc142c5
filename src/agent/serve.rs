//! Answers what comes down a link's inward lane: control goes to the link's owner, a call goes
//! policy → credentials → upstream, and into the audit log before its answer is whole.
//!
//! Whatever the agent itself has to say to a caller is a problem document that carries
//! `relay-error`; everything else is the upstream's own answer. Texts for callers name neither
//! rules nor addresses of the private network; those are in the log.

mod gateway;
mod gathering;
mod observing;
mod quota;
mod refusal;
mod telling;
mod websocket;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::EXPECT;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;

pub use gateway::{Gateway, GatewayError};
pub use observing::Counts;

use self::gathering::{CallBody, Gathering};
use self::quota::Place;
use self::refusal::{Delivery, Refusal};
use self::telling::Telling;
use self::websocket::Tunnel;
use super::audit::{Account, Audit, Received, Unavailable};
use super::policy::{Asked, Denial, Denied, GivenBody, Limits, Permitted, could_allow, decide};
use super::upstream::Located;
use crate::body::capped::Capped;
use crate::body::watched::{Holding, Watched};
use crate::body::{self, Body};
use crate::forwarding::{self, RELAY_CALLER, RELAY_REQUEST_ID, Via, request_id};
use crate::protocol::control::CONTROL_AUTHORITY;
use crate::spans::Tracer;

const WEBSOCKET: &str = "websocket";

/// The answer to a control request, on its way.
pub type ControlAnswer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What a link's owner decides about the requests that come down it.
pub trait LinkOwner: Send + Sync + 'static {
    /// The connection's name.
    fn connection(&self) -> &Arc<str>;

    /// Whether calls may pass now: neither side has deactivated the connection.
    fn is_active(&self) -> bool;

    /// Answers a request to [`CONTROL_AUTHORITY`].
    fn control(&self, request: Request<Incoming>) -> ControlAnswer;

    /// Tells the relay that the upstream wants the body of the call with this number, which came with
    /// `Expect: 100-continue`. Called from within the connection to the upstream: must not wait.
    fn go_ahead(&self, request_id: &str);
}

/// The calls of all links, served from one configuration that can be replaced while in use.
pub struct Calls {
    gateway: ArcSwap<Gateway>,
    gathering: Gathering,
    via: Via,
    audit: Audit,
    telling: Telling,
    tracer: Tracer,
}

/// A call that may be made.
struct Admitted<'call> {
    permitted: &'call Permitted,
    headers: HeaderMap,
    following: Following,
    /// Among the calls of its rule, where those are counted.
    place: Option<Place>,
}

/// What goes to an upstream beside the head of the call.
enum Following {
    /// Of a request: what hyper is to know of it, and a body that may still stream.
    Body(http::Extensions, Capped<Received<CallBody>>),
    /// Of the wish for a WebSocket: the caller's end of it, once the caller has the head.
    Websocket(OnUpgrade),
}

/// What an upstream answered to a call.
enum Answer {
    /// Its head, and a body that may still stream.
    Passed(Response<Body>),
    /// It opened a WebSocket: bytes pass both ways once the caller has the head.
    Switched(Response<Body>, Tunnel),
}

impl Calls {
    /// Serves calls as `gateway` says, and writes them down in `audit`; `pseudonym` is this agent's name
    /// in `Via`.
    #[must_use]
    pub fn new(gateway: Gateway, pseudonym: &str, audit: Audit) -> Self {
        Self {
            gateway: ArcSwap::from_pointee(gateway),
            gathering: Gathering::new(),
            via: Via::new(pseudonym),
            audit,
            telling: Telling::default(),
            tracer: Tracer::from_environment("relay-agent"),
        }
    }

    /// Serves calls from now on as `gateway` says; those under way end as they began.
    pub fn replace(&self, mut gateway: Gateway) {
        let before = self.gateway.load();
        gateway.quotas.take_over(&before.quotas);
        gateway.observations.take_over(&before.observations);
        self.gateway.store(Arc::new(gateway));
    }

    /// The configuration in use.
    #[must_use]
    pub fn gateway(&self) -> Arc<Gateway> {
        self.gateway.load_full()
    }

    /// The audit log.
    #[must_use]
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Answers one request of an inward lane.
    pub async fn handle(
        &self,
        owner: &Arc<dyn LinkOwner>,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let authority = request.uri().authority().map(http::uri::Authority::as_str);
        if authority == Some(CONTROL_AUTHORITY) {
            return owner.control(request).await;
        }
        let Ok(mut account) = self.audit.open(&request, owner.connection()) else {
            return Refusal::Unrecorded(Delivery::NotSent).into_response();
        };
        let span = self.tracer.begin(&mut request);
        let gateway = self.gateway.load_full();
        let given = gathering::given(request.body(), request.method());
        let admitted = match permit(owner, &gateway, &request, given) {
            Err(Refusal::Denied(Denial {
                reason: Denied::NeedsBody(limit),
                ..
            })) => {
                // Apart, since few calls need it.
                Box::pin(self.admit_by_body(owner, &gateway, &account, request, limit)).await
            }
            permitted => permitted.and_then(|permitted| {
                let request = request.map(CallBody::Streaming);
                self.admit(owner, &gateway, &account, permitted, request)
            }),
        };
        let ended = match admitted {
            Ok(admitted) => send(&gateway, admitted).await,
            Err(refusal) => Err(refusal),
        };
        self.telling.tell(&account, &ended);
        self.tracer.end(span, || telling::told(&account, &ended));
        // Here, and nowhere else, it is known of every call what was decided and how it ended, or what it
        // ends with. What cannot be written down does not leave as if it had been.
        let answer = match ended {
            Ok(Answer::Passed(response)) => account.pass(self.pass_on(response)).await,
            Ok(Answer::Switched(response, tunnel)) => {
                let recorded = account.switch().await;
                recorded.map(|()| {
                    tokio::spawn(tunnel.carry(account));
                    self.pass_on(response)
                })
            }
            Err(refusal) => {
                let (end, delivery) = (refusal.end(), refusal.delivery());
                match account.refuse(end).await {
                    Ok(()) => return refusal.into_response(),
                    Err(Unavailable) => return Refusal::Unrecorded(delivery).into_response(),
                }
            }
        };
        answer.unwrap_or_else(|Unavailable| Refusal::Unrecorded(Delivery::Unknown).into_response())
    }

    /// The same for a call about which is decided by its body, which is gathered for that. One that none of the rules
    /// would take now, whatever the body, is refused before.
    async fn admit_by_body<'call>(
        &self,
        owner: &Arc<dyn LinkOwner>,
        gateway: &Arc<Gateway>,
        account: &'call Account,
        request: Request<Incoming>,
        limit: usize,
    ) -> Result<Admitted<'call>, Refusal> {
        let asked = asked(&request, GivenBody::NotGathered)?;
        let rules = could_allow(&gateway.policy, &asked);
        let place = gateway
            .quotas
            .has_place(asked.upstream, &rules, Instant::now());
        place.map_err(Refusal::Quota)?;
        let gathered = self.gathering.gather(owner, request, limit).await;
        let request = gathered.map_err(Refusal::Gather)?;
        let given = request.body().given(request.method());
        let permitted = permit(owner, gateway, &request, given)?;
        self.admit(owner, gateway, account, permitted, request)
    }

    /// What is sent of a call that the policy permits, if nothing else stands against it: all that is decided before
    /// anything is sent.
    fn admit<'call>(
        &self,
        owner: &Arc<dyn LinkOwner>,
        gateway: &Arc<Gateway>,
        account: &'call Account,
        permitted: Permitted,
        request: Request<CallBody>,
    ) -> Result<Admitted<'call>, Refusal> {
        let permitted = account.permit(permitted);
        if self.via.is_loop(request.headers()) {
            return Err(Refusal::Loop);
        }
        let request = observing::watch(gateway, permitted, account, request);
        let limits = permitted.limits();
        let is_websocket = request.method() == Method::CONNECT;
        let (mut parts, body) = request.into_parts();
        let body = Capped::new(account.received(body), limits.max_body)
            .map_err(|error| Refusal::BodyTooLong(error, Delivery::NotSent))?;
        // Last of all that can be refused here, so that only calls that are made count.
        let place = gateway.quotas.take(permitted, Instant::now());
        let place = place.map_err(Refusal::Quota)?;
        let mut headers = std::mem::take(&mut parts.headers);
        let request_id = headers.remove(RELAY_REQUEST_ID);
        forwarding::strip(&mut headers);
        forwarding::distrust(&mut headers);
        request_id::complete(&mut headers, request_id.as_ref());
        self.via.append(&mut headers, parts.version);
        let following = if is_websocket {
            Following::Websocket(hyper::upgrade::on(Request::from_parts(parts, ())))
        } else {
            let extensions = go_ahead_on_100(owner, &headers, request_id.as_ref());
            Following::Body(extensions, body)
        };
        Ok(Admitted {
            permitted,
            headers,
            following,
            place,
        })
    }

    /// The upstream's own answer, without what is for one hop only.
    fn pass_on(&self, mut response: Response<Body>) -> Response<Body> {
        let version = response.version();
        let headers = response.headers_mut();
        forwarding::strip(headers);
        self.via.append(headers, version);
        // After that, for what an upstream itself says under these names has ended there.
        if let Some(located) = response.extensions_mut().remove::<Located>() {
            located.write(response.headers_mut());
        }
        response
    }
}

/// Asks the policy, for as long as calls of the connection pass at all.
fn permit<B>(
    owner: &Arc<dyn LinkOwner>,
    gateway: &Gateway,
    request: &Request<B>,
    given: GivenBody<'_>,
) -> Result<Permitted, Refusal> {
    if !owner.is_active() {
        return Err(Refusal::Deactivated);
    }
    let asked = asked(request, given)?;
    decide(&gateway.policy, &asked).map_err(Refusal::Denied)
}

/// What the policy is asked. A WebSocket is asked for as the GET that its handshake is.
fn asked<'a, B>(request: &'a Request<B>, body: GivenBody<'a>) -> Result<Asked<'a>, Refusal> {
    let method = match (request.method(), request.extensions().get::<Protocol>()) {
        (&Method::CONNECT, Some(protocol)) if protocol.as_str() == WEBSOCKET => &Method::GET,
        (&Method::CONNECT, _) => return Err(Refusal::NotSupported),
        (method, _) => method,
    };
    let uri = request.uri();
    let (Some(upstream), Some(path_and_query)) = (uri.authority(), uri.path_and_query()) else {
        return Err(Refusal::Denied(Denied::UnknownUpstream.into()));
    };
    let caller = request.headers().get(RELAY_CALLER);
    Ok(Asked {
        upstream: upstream.as_str(),
        method,
        path_and_query,
        headers: request.headers(),
        caller: caller.and_then(|label| label.to_str().ok()),
        body,
    })
}

/// For a call that waits with its body: what tells the relay that the upstream wants it.
fn go_ahead_on_100(
    owner: &Arc<dyn LinkOwner>,
    headers: &HeaderMap,
    request_id: Option<&HeaderValue>,
) -> http::Extensions {
    let Some(id) = request_id.filter(|_| headers.contains_key(EXPECT)) else {
        return http::Extensions::new();
    };
    let id = id.to_str().unwrap_or_default().to_owned();
    let owner = Arc::clone(owner);
    let mut carrier = Request::new(());
    hyper::ext::on_informational(&mut carrier, move |answer| {
        if answer.status() == StatusCode::CONTINUE {
            owner.go_ahead(&id);
        }
    });
    std::mem::take(carrier.extensions_mut())
}

/// Sends a permitted call with its credentials; they do not come back in the answer's head.
async fn send(gateway: &Gateway, admitted: Admitted<'_>) -> Result<Answer, Refusal> {
    let Admitted {
        permitted,
        headers,
        following,
        place,
    } = admitted;
    let equipped = gateway.credentials.equip(permitted, headers).await;
    let (outgoing, shield) = equipped.map_err(Refusal::Credential)?;
    let answer = match following {
        Following::Body(extensions, body) => {
            let overrun = body.overrun();
            let sent = gateway.upstreams.send(outgoing, extensions, body);
            sent.await.map(Answer::Passed).map_err(|error| {
                let refusal = Refusal::Upstream(error);
                match overrun.and_then(|overrun| overrun.has_happened()) {
                    Some(too_long) => Refusal::BodyTooLong(too_long, refusal.delivery()),
                    None => refusal,
                }
            })
        }
        // Apart, so that the rare and large one does not make every call's future larger.
        Following::Websocket(lane) => Box::pin(websocket::open(gateway, outgoing, lane)).await,
    };
    Ok(match answer? {
        Answer::Passed(response) => {
            let mut response = shield.cover(response);
            if let Some(located) = gateway.upstreams.locate(permitted, response.headers()) {
                response.extensions_mut().insert(located);
            }
            Answer::Passed(limit(response, permitted.limits(), place)?)
        }
        Answer::Switched(response, mut tunnel) => {
            tunnel.limit(permitted.limits(), place);
            Answer::Switched(shield.cover(response), tunnel)
        }
    })
}

/// An answer that is no longer than it may be, and holds its place until it has been passed on.
fn limit(
    response: Response<Body>,
    limits: &Limits,
    place: Option<Place>,
) -> Result<Response<Body>, Refusal> {
    if place.is_none() && limits.max_response.is_none() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = Capped::new(body, limits.max_response).map_err(Refusal::AnswerTooLong)?;
    let body = body::streaming(Watched::new(body, Holding(place)));
    Ok(Response::from_parts(parts, body))
}

#[cfg(test)]
mod tests;
