//! A caller with one HTTP/1.1 connection; every answer is checked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::failure::Failure;
use crate::upstream::{Bulk, SMALL};

/// See the module.
pub(crate) struct Caller {
    sender: http1::SendRequest<BoxBody<Bytes, Infallible>>,
    authority: String,
    /// What every path begins with.
    prefix: String,
    token: String,
}

impl Caller {
    /// A connection to the relay, or straight to the upstream with no prefix and no token.
    pub(crate) async fn connect(
        address: SocketAddr,
        prefix: &str,
        token: &str,
    ) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(Failure::because("connect as a caller"))?;
        stream
            .set_nodelay(true)
            .map_err(Failure::because("connect as a caller"))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::because("connect as a caller"))?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            authority: address.to_string(),
            prefix: prefix.to_owned(),
            token: token.to_owned(),
        })
    }

    /// One small call; the time to the end of its answer.
    pub(crate) async fn small(&mut self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let body = self
            .send(Method::GET, "/small", Empty::new().boxed())
            .await?;
        match read(body).await? {
            bytes if bytes == SMALL as u64 => Ok(begun.elapsed()),
            bytes => Err(Failure::new(format!("a small answer has {bytes} bytes"))),
        }
    }

    /// Small calls one after the other for so long; the time of each.
    pub(crate) async fn small_calls(&mut self, long: Duration) -> Result<Vec<Duration>, Failure> {
        let begun = Instant::now();
        let mut times = Vec::new();
        while begun.elapsed() < long {
            times.push(self.small().await?);
        }
        Ok(times)
    }

    /// Takes so many bytes; bytes a second.
    pub(crate) async fn download(&mut self, bytes: u64) -> Result<f64, Failure> {
        let begun = Instant::now();
        let body = self.unread(bytes).await?;
        match read(body).await? {
            read if read == bytes => Ok(bytes as f64 / begun.elapsed().as_secs_f64()),
            read => Err(Failure::new(format!(
                "a download of {bytes} bytes has {read}"
            ))),
        }
    }

    /// Sends so many bytes; bytes a second.
    pub(crate) async fn upload(&mut self, bytes: u64) -> Result<f64, Failure> {
        let begun = Instant::now();
        let body = self
            .send(Method::POST, "/sink", Bulk(bytes).boxed())
            .await?;
        let counted = body
            .collect()
            .await
            .map_err(Failure::because("read an answer"))?
            .to_bytes();
        if counted != bytes.to_string() {
            return Err(Failure::new(format!(
                "of {bytes} bytes {counted:?} arrived"
            )));
        }
        Ok(bytes as f64 / begun.elapsed().as_secs_f64())
    }

    /// Begins to take so many bytes.
    pub(crate) async fn unread(&mut self, bytes: u64) -> Result<Incoming, Failure> {
        let path = format!("/bulk/{bytes}");
        self.send(Method::GET, &path, Empty::new().boxed()).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: BoxBody<Bytes, Infallible>,
    ) -> Result<Incoming, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header("host", &self.authority)
            .header("relay-authorization", format!("Bearer {}", self.token))
            .body(body)
            .map_err(Failure::because("make a request"))?;
        let answer = self
            .sender
            .send_request(request)
            .await
            .map_err(Failure::because("get an answer"))?;
        if answer.status() != StatusCode::OK {
            return Err(Failure::new(format!(
                "{path} was answered {}",
                answer.status()
            )));
        }
        Ok(answer.into_body())
    }
}

async fn read(mut body: Incoming) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Failure::because("read an answer"))?;
        bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
    }
    Ok(bytes)
}
