//! What programs on the public side do once they have a token: call.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::say;

const BASE: &str = "/c/acme_to_widgets/tracker";

/// A program on the public side.
pub(crate) struct Callers {
    relay: SocketAddr,
    token: String,
}

impl Callers {
    /// A program that calls this relay with this token.
    pub(crate) const fn new(relay: SocketAddr, token: String) -> Self {
        Self { relay, token }
    }

    /// A read, allowed by the agent's first rule.
    pub(crate) async fn read_an_issue(&self) -> Result<(), Box<dyn Error>> {
        say(&format!("\n$ {}", self.curl("", "/rest/api/2/issue/OPS-1")));
        let answer = self
            .call(Method::GET, "/rest/api/2/issue/OPS-1", "")
            .await?;
        self.show(answer, StatusCode::OK).await
    }

    /// A write, allowed by the second.
    pub(crate) async fn create_an_issue(&self) -> Result<(), Box<dyn Error>> {
        let body = r#"{"fields":{"summary":"Made through the relay"}}"#;
        say(&format!(
            "\n$ {}",
            self.curl(&format!("-d '{body}' "), "/rest/api/2/issue")
        ));
        let answer = self.call(Method::POST, "/rest/api/2/issue", body).await?;
        self.show(answer, StatusCode::CREATED).await
    }

    /// A stream, of which each event arrives when it happens.
    pub(crate) async fn follow_events(&self) -> Result<(), Box<dyn Error>> {
        say(&format!("\n$ {}", self.curl("-N ", "/rest/api/2/events")));
        let mut stream = self.call(Method::GET, "/rest/api/2/events", "").await?;
        let body = r#"{"fields":{"summary":"Somebody else's"}}"#;
        self.call(Method::POST, "/rest/api/2/issue", body).await?;
        let frame = stream.frame().await.ok_or("the stream ended")??;
        let event = frame.into_data().map_err(|_| "no data")?;
        say(String::from_utf8_lossy(&event).trim_end());
        Ok(())
    }

    /// What no rule allows does not reach the tracker.
    pub(crate) async fn be_refused(&self) -> Result<(), Box<dyn Error>> {
        say(&format!(
            "\n$ {}",
            self.curl("-X DELETE ", "/rest/api/2/issue/OPS-1")
        ));
        let answer = self
            .call(Method::DELETE, "/rest/api/2/issue/OPS-1", "")
            .await?;
        self.show(answer, StatusCode::FORBIDDEN).await
    }

    /// Calls until the relay answers so.
    pub(crate) async fn wait_for(&self, status: StatusCode) -> Result<(), Box<dyn Error>> {
        for _ in 0..2_400 {
            let answer = self
                .call(Method::GET, "/rest/api/2/issue/OPS-1", "")
                .await?;
            if answer.status() == status {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(format!("the relay did not answer {status} within two minutes").into())
    }

    /// The same call for a terminal.
    pub(crate) fn curl(&self, options: &str, path: &str) -> String {
        let Self { relay, token } = self;
        format!(
            "curl -s {options}-H 'Relay-Authorization: Bearer {token}' http://{relay}{BASE}{path}"
        )
    }

    async fn show(
        &self,
        answer: Response<Incoming>,
        expected: StatusCode,
    ) -> Result<(), Box<dyn Error>> {
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        say(&format!("{status}  {}", String::from_utf8_lossy(&body)));
        if status == expected {
            Ok(())
        } else {
            Err(format!("expected {expected}").into())
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: &'static str,
    ) -> Result<Response<Incoming>, Box<dyn Error>> {
        let socket = TcpStream::connect(self.relay).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        // Ends with the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header(header::HOST, self.relay.to_string())
            .header("relay-authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from_static(body.as_bytes())))?;
        Ok(sender.send_request(request).await?)
    }
}
