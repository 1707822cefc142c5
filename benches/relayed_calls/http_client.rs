//! One HTTP/1.1 request on a connection of its own, its answer's status checked and its body's bytes counted.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::target::Target;

/// How much of an answer is kept, to be shown or compared; the rest is only counted.
const KEPT_BYTES: usize = 4096;

/// An answer that has been read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The first bytes of the body.
    pub(crate) start: Vec<u8>,
    /// Length of the whole body.
    pub(crate) bytes: u64,
}

/// Sends one request to `path` of the target and reads the whole answer.
pub(crate) fn send<B>(
    target: &Target,
    method: Method,
    path: &str,
    body: B,
) -> Result<Answer, Failure>
where
    B: Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
{
    let tried = format!("{method} {path} of the {}", target.name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::because("start a client"))?;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", target.address.to_string());
    if let Some(authorization) = &target.authorization {
        request = request.header("relay-authorization", authorization);
    }
    let request = request
        .body(body)
        .map_err(Failure::because(tried.clone()))?;
    runtime.block_on(async {
        let stream = TcpStream::connect(target.address)
            .await
            .map_err(Failure::because(tried.clone()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::because(tried.clone()))?;
        tokio::spawn(connection);
        let answer = sender
            .send_request(request)
            .await
            .map_err(Failure::because(tried.clone()))?;
        let status = answer.status();
        let mut body = answer.into_body();
        let (mut start, mut bytes) = (Vec::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(Failure::because(tried.clone()))?;
            let data: &[u8] = frame.data_ref().map_or(&[], |data| data);
            bytes += data.len() as u64;
            start.extend_from_slice(&data[..data.len().min(KEPT_BYTES - start.len())]);
        }
        Ok(Answer {
            status,
            start,
            bytes,
        })
    })
}
