//! The private service: `/small` is 1 KiB, `/bulk/N` is N bytes, what is posted is counted, and what comes over a
//! WebSocket goes back.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONNECTION, CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SERVER, UPGRADE,
};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The length of `/small`.
pub(crate) const SMALL: usize = 1024;
static BLOCK: [u8; 65536] = [7; 65536];
/// What a server of files says beside a length and the time.
const HEAD: [(HeaderName, &str); 6] = [
    (SERVER, "upstream/1.0"),
    (CONTENT_TYPE, "application/octet-stream"),
    (LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT"),
    (ETAG, "\"6955b900-400\""),
    (ACCEPT_RANGES, "bytes"),
    (CONNECTION, "keep-alive"),
];

/// Serves in a thread of its own until the bench ends; at this address.
pub(crate) fn start() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::spawn(move || {
        runtime.block_on(async {
            serve(TcpListener::from_std(listener)?).await;
            io::Result::Ok(())
        })
    });
    Ok(address)
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer))
            .with_upgrades();
        // The caller sees a broken connection as a wrong answer, and the bench fails there.
        tokio::spawn(serving);
    }
}

/// A body of so many bytes.
pub(crate) struct Bulk(pub(crate) u64);

impl Body for Bulk {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let count = usize::try_from(self.0).map_or(BLOCK.len(), |left| left.min(BLOCK.len()));
        self.0 -= count as u64;
        let block = Bytes::from_static(&BLOCK[..count]);
        Poll::Ready((count > 0).then(|| Ok(Frame::data(block))))
    }
}

async fn answer(
    mut request: Request<Incoming>,
) -> Result<Response<Either<Bulk, Full<Bytes>>>, Infallible> {
    if request.headers().contains_key(UPGRADE) {
        return Ok(switch(&mut request));
    }
    let path = request.uri().path();
    let bulk = path
        .strip_prefix("/bulk/")
        .and_then(|length| length.parse().ok());
    let body = match bulk {
        Some(length) => Either::Left(Bulk(length)),
        None if path == "/small" => Either::Right(Full::new(Bytes::from_static(&BLOCK[..SMALL]))),
        None => Either::Right(Full::new(
            count(request.into_body()).await.to_string().into(),
        )),
    };
    let mut response = Response::new(body);
    for (name, value) in HEAD {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Opens a WebSocket, without a look at its frames.
fn switch(request: &mut Request<Incoming>) -> Response<Either<Bulk, Full<Bytes>>> {
    let upgrade = hyper::upgrade::on(&mut *request);
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let (mut reading, mut writing) = tokio::io::split(TokioIo::new(stream));
        // Ends with the caller.
        let _ended = tokio::io::copy(&mut reading, &mut writing).await;
    });
    let key = request.headers().get(SEC_WEBSOCKET_KEY);
    let accepted = derive_accept_key(key.map_or(&[], HeaderValue::as_bytes));
    let mut response = Response::new(Either::Right(Full::default()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    // Base64 is always a value; a caller that got none would say so.
    headers.extend(HeaderValue::from_str(&accepted).map(|it| (SEC_WEBSOCKET_ACCEPT, it)));
    response
}

async fn count(mut body: Incoming) -> u64 {
    let mut bytes = 0;
    while let Some(Ok(frame)) = body.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
    bytes
}
