//! One accepted socket: TLS, which HTTP it speaks, and its requests until it ends.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use tokio::time::{Instant, timeout};

use super::complaints::Complaints;
use super::connection::{self, Connection};
use super::rests::Rests;
use super::{ListenerLimits, Routes, Security, host, refusal};
use crate::body::Body;
use crate::forwarding::request_id::{self, X_REQUEST_ID};
use crate::link::tls::{LateTcp, ReadAhead, Stream};
use crate::protocol::LINK_PATH;
use crate::protocol::handshake::Binding;
use crate::relay::activity::{Activity, Answer, Turn};
use crate::relay::api;
use crate::relay::forward::{self, CallerSocket};
use crate::relay::link_endpoint;
use crate::relay::strict::{Malformed, REFUSED, Strict, Watch};
use crate::shutdown::Shutdown;

/// What an HTTP/2 connection begins with (RFC 9113, section 3.4), and no HTTP/1.1 method does.
const HTTP2_PREFACE: &[u8; 3] = b"PRI";
/// How long a socket that was accepted just before the drain may take for its first request: a round trip or two. One
/// on which nobody asks delays the end by as much.
const FIRST_REQUEST_AT_DRAIN: Duration = Duration::from_millis(500);

/// An accepted socket with all that it takes to serve it.
pub(super) struct Socket {
    pub(super) tcp: LateTcp,
    pub(super) peer: SocketAddr,
    /// Its place among all, kept until it is closed.
    pub(super) place: Box<dyn Any + Send + Sync>,
    pub(super) complaints: Arc<Complaints>,
    /// What upstreams are told of the peer.
    pub(super) forwarded: HeaderValue,
    pub(super) security: Security,
    pub(super) limits: ListenerLimits,
    pub(super) rests: Arc<Rests>,
    pub(super) routes: Arc<Routes>,
    pub(super) shutdown: Shutdown,
}

/// Why a socket ended before its first request.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("the socket broke")]
    Broken(#[source] io::Error),
    #[error("TLS could not be set up")]
    Tls(#[source] io::Error),
    #[error("TLS or the first bytes took too long")]
    TooSlow,
    #[error("the TLS exporter is not to be had")]
    Exporter(#[source] io::Error),
}

impl SocketError {
    /// Whether the other side hung up, or said nothing, without having said anything wrong.
    pub(super) fn is_silent(&self) -> bool {
        use io::ErrorKind as E;
        match self {
            Self::Broken(_) => true,
            Self::Tls(error) => matches!(
                error.kind(),
                E::UnexpectedEof | E::ConnectionReset | E::BrokenPipe | E::NotConnected
            ),
            Self::TooSlow | Self::Exporter(_) => false,
        }
    }
}

/// What the requests of one socket share.
struct Context {
    routes: Arc<Routes>,
    peer: SocketAddr,
    binding: Binding,
    caller: CallerSocket,
    activity: Arc<Activity>,
    /// Of HTTP/1.
    watch: Option<Arc<Watch>>,
    complaints: Arc<Complaints>,
}

impl Socket {
    /// Serves the socket until it is closed, idle, or drained.
    pub(super) async fn serve(self) {
        let (complaints, peer) = (Arc::clone(&self.complaints), self.peer);
        if let Err(error) = self.try_to_serve().await {
            complaints.unopened(peer, &error);
        }
    }

    async fn try_to_serve(self) -> Result<(), SocketError> {
        let opening = open(self.tcp, &self.security);
        let opened = timeout(self.limits.head_timeout, opening).await;
        let (mut stream, is_http2) =
            opened
                .map_err(|_elapsed| SocketError::TooSlow)?
                .map_err(match &self.security {
                    Security::Tls(_) => SocketError::Tls,
                    Security::Balancer | Security::Plain => SocketError::Broken,
                })?;
        stream.keep(self.place);
        let binding = match stream.exporter().map_err(SocketError::Exporter)? {
            Some(exporter) => Binding::Exporter(exporter),
            None => Binding::None,
        };
        let activity = Activity::new(stream.watch_writes());
        let mut context = Context {
            routes: self.routes,
            peer: self.peer,
            binding,
            caller: CallerSocket {
                forwarded: self.forwarded,
                activity: Arc::clone(&activity),
            },
            activity: Arc::clone(&activity),
            watch: None,
            complaints: self.complaints,
        };
        let connection = if is_http2 {
            connection::http2(stream, context.into_service())
        } else {
            let (is_plain, is_new) = (matches!(stream, Stream::Plain(_)), stream.is_new());
            let (mut stream, watch) = Strict::new(stream);
            if is_plain {
                stream.end_by_closing();
            }
            if is_new && self.rests.end_in_time(&watch) {
                stream.rest_during_first();
            }
            context.watch = Some(watch);
            connection::http1(stream, context.into_service())
        };
        drive(connection, &activity, self.limits, &self.shutdown).await;
        Ok(())
    }
}

impl Context {
    fn into_service(
        self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Answer>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Answer>, Infallible>> + Send + 'static,
    > + Send
    + 'static {
        let context = Arc::new(self);
        service_fn(move |request| {
            let context = Arc::clone(&context);
            // Boxed, for hyper keeps the room of a call's future in every socket, idle ones included,
            // and moves it about with each call.
            Box::pin(async move { Ok::<_, Infallible>(context.answer(request).await) })
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let open = self.activity.request();
        let mut response = self.route(request).await;
        if let Some(watch) = &self.watch {
            match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => watch.becomes_tunnel(),
                // Whoever waited for the body has no better words for its end.
                StatusCode::BAD_GATEWAY if watch.is_broken() => {
                    let id = response.headers_mut().remove(X_REQUEST_ID);
                    response = refusal::malformed_body();
                    response
                        .headers_mut()
                        .extend(id.map(|id| (X_REQUEST_ID, id)));
                }
                _ => {}
            }
        }
        response.map(|body| open.answered(body))
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        if let Some(why) = self.refused(path) {
            return self.refuse(&request, &why, refusal::malformed(why));
        }
        if let Err(why) = host::check(&request) {
            return self.refuse(&request, &why, refusal::ambiguous_host(why));
        }
        if path.starts_with(forward::PREFIX) {
            return self.routes.forward.answer(request, &self.caller).await;
        }
        if path == LINK_PATH {
            let origin = link_endpoint::Origin {
                address: self.peer,
                binding: self.binding,
            };
            return self.routes.link.answer(request, origin);
        }
        let origin = api::Origin::Network(self.peer.ip());
        self.routes.api.respond(request, origin).await
    }

    /// Refuses a request unread, under a name by which it is found in the log.
    fn refuse(
        &self,
        request: &Request<Incoming>,
        why: &dyn fmt::Display,
        mut answer: Response<Body>,
    ) -> Response<Body> {
        let given = request_id::of(request.headers()).cloned();
        let id = given.unwrap_or_else(|| self.routes.forward.next_number().into());
        self.complaints.refused(self.peer, why, &id);
        answer.headers_mut().insert(X_REQUEST_ID, id);
        answer
    }

    /// Why the request that this one stands for was refused.
    fn refused(&self, path: &str) -> Option<Malformed> {
        let watch = self.watch.as_ref()?;
        watch.refusal().filter(|_| path == REFUSED)
    }
}

/// TLS, if it ends here; and whether HTTP/2 follows.
async fn open(tcp: LateTcp, security: &Security) -> io::Result<(Stream, bool)> {
    match security {
        Security::Tls(tls) => {
            // Boxed, so that a socket without TLS has no room for its handshake.
            let stream = Box::pin(tls.accept(tcp)).await?;
            let is_http2 = stream.is_http2();
            Ok((stream, is_http2))
        }
        Security::Balancer | Security::Plain => {
            // Known in advance (RFC 9113, section 3.3), or HTTP/1.1: the first bytes tell.
            let mut tcp = ReadAhead::new(tcp);
            let is_http2 = tcp
                .look(HTTP2_PREFACE.len())
                .await?
                .starts_with(HTTP2_PREFACE);
            Ok((Stream::Plain(tcp), is_http2))
        }
    }
}

/// Polls a connection until it ends; stops it at the drain, when no first request comes, or when it
/// has been idle. Stopped, it still finishes what is under way, as long as that gets on. A socket that was accepted
/// just before the drain gets a moment for its first request: whoever sent it would otherwise not know what became of it.
async fn drive(
    mut connection: Box<dyn Connection>,
    activity: &Activity,
    limits: ListenerLimits,
    shutdown: &Shutdown,
) {
    let mut draining = std::pin::pin!(shutdown.draining());
    let mut stopping = std::pin::pin!(shutdown.stopping());
    let mut seen = 0;
    let mut deadline = Instant::now() + limits.head_timeout;
    let mut drains = false;
    loop {
        tokio::select! {
            biased;
            // Kept across rounds; the others only wait.
            () = &mut connection => return,
            () = &mut draining, if !drains => {
                if activity.requests() > 0 {
                    break;
                }
                drains = true;
                deadline = deadline.min(Instant::now() + FIRST_REQUEST_AT_DRAIN);
            }
            () = &mut stopping => return,
            () = tokio::time::sleep_until(deadline) => {
                let requests = activity.requests();
                if requests == 0 {
                    return;
                }
                if requests == seen || drains {
                    break;
                }
                seen = requests;
                deadline = Instant::now() + limits.idle_timeout;
            }
        }
    }
    connection.stop();
    tokio::select! {
        biased;
        // The first to end decides, and the socket is closed with all that is left.
        () = &mut connection => {}
        () = &mut stopping => {}
        () = stands_still(activity, limits) => {}
    }
}

/// Completes when a stopped socket has nothing to do, or nobody reads its answer, for too long.
/// A caller may confirm the end of HTTP/2 never, or not read on for ever.
async fn stands_still(activity: &Activity, limits: ListenerLimits) {
    let mut written = activity.written();
    let mut still_since = Instant::now();
    loop {
        tokio::time::sleep(limits.stopped_timeout).await;
        let patience = match activity.turn() {
            Turn::Relay => None,
            Turn::Caller => Some(limits.idle_timeout),
            Turn::Nobody => Some(limits.stopped_timeout),
        };
        if patience.is_none() || activity.written() != written {
            written = activity.written();
            still_since = Instant::now();
        }
        if patience.is_some_and(|patience| still_since.elapsed() >= patience) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::task::JoinHandle;

    use super::*;

    const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
    const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
    const STOPPED_TIMEOUT: Duration = Duration::from_secs(5);
    /// Longer than all of them together.
    const LONG: Duration = Duration::from_secs(1_000);

    /// A connection whose caller never confirms that it is at its end.
    struct Endless;

    impl Connection for Endless {
        fn stop(&mut self) {}
    }

    impl Future for Endless {
        type Output = ();

        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    fn driven(activity: &Arc<Activity>, shutdown: &Shutdown) -> JoinHandle<()> {
        let limits = ListenerLimits {
            sockets: 1,
            sockets_per_address: 1,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            stopped_timeout: STOPPED_TIMEOUT,
        };
        let (activity, shutdown) = (Arc::clone(activity), shutdown.clone());
        tokio::spawn(async move { drive(Box::new(Endless), &activity, limits, &shutdown).await })
    }

    #[test]
    fn who_hangs_up_without_a_word_is_no_complaint_and_who_dislikes_the_certificate_is() {
        let tls = |kind| SocketError::Tls(io::Error::new(kind, "x"));
        assert!(tls(io::ErrorKind::UnexpectedEof).is_silent());
        assert!(tls(io::ErrorKind::ConnectionReset).is_silent());
        assert!(!tls(io::ErrorKind::InvalidData).is_silent());
        assert!(!SocketError::TooSlow.is_silent());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_socket_with_nothing_to_do_is_closed_soon() {
        let activity = Activity::new(Arc::default());
        drop(activity.request());
        let shutdown = Shutdown::new();
        let driven = driven(&activity, &shutdown);
        shutdown.start_drain();
        timeout(STOPPED_TIMEOUT * 2, driven).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_socket_whose_answer_is_being_made_stays_until_it_is_over() {
        let activity = Activity::new(Arc::default());
        let open = activity.request();
        let mut driven = driven(&activity, &Shutdown::new());
        assert!(timeout(LONG, &mut driven).await.is_err());
        drop(open);
        timeout(STOPPED_TIMEOUT * 2, driven).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_socket_whose_answer_nobody_reads_is_closed_when_idle_for_too_long() {
        let activity = Activity::new(Arc::default());
        let _unread = activity.request().answered(crate::body::full("x"));
        let shutdown = Shutdown::new();
        let mut driven = driven(&activity, &shutdown);
        shutdown.start_drain();
        let before = IDLE_TIMEOUT - STOPPED_TIMEOUT;
        assert!(timeout(before, &mut driven).await.is_err());
        timeout(STOPPED_TIMEOUT * 3, driven).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_waited_for() {
        let mut reader = ReadAhead::new(tokio::io::sink());
        let activity = Activity::new(reader.watch_writes());
        let _unread = activity.request().answered(crate::body::full("x"));
        let shutdown = Shutdown::new();
        let mut driven = driven(&activity, &shutdown);
        shutdown.start_drain();
        for _ in 0..10 {
            assert!(timeout(IDLE_TIMEOUT / 2, &mut driven).await.is_err());
            reader.write_all(b"x").await.unwrap();
        }
        timeout(IDLE_TIMEOUT * 2, driven).await.unwrap().unwrap();
    }
}
