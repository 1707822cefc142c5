//! The admin socket of a running daemon: HTTP/1.1 over a Unix socket, for its own command line and `curl`.
//!
//! Knows the caller before it looks at the request: root, the daemon's own user and members of one
//! group may speak; others get a 403 and never reach the handler. Knows no route; that is the
//! handler's. Never listens where another daemon listens.

pub mod client;
mod listener;
mod permission;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::listener::{AdminSocket, BindError};
pub use self::permission::Peer;

use crate::body::{self, Body};
use crate::problem::Problem;

/// The longest request body, in bytes. An invitation code has 250 characters.
pub const MAX_REQUEST_BODY: usize = 64 * 1024;
/// How long a request's body may take. It comes from this machine.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What answers requests on an admin socket.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Answers one request of a permitted peer.
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + Send;
}

impl<F, A> Handler for F
where
    F: Fn(Request<Incoming>, Peer) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send,
{
    fn handle(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + Send {
        self(request, peer)
    }
}

/// Reads a request's JSON body of at most [`MAX_REQUEST_BODY`].
///
/// # Errors
/// The problem to answer with: too long, too slow, or not the JSON that was expected.
pub async fn read_json<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Problem> {
    let bytes = read_body(request, MAX_REQUEST_BODY).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| unusable(StatusCode::BAD_REQUEST, error.to_string()))
}

/// Reads a request's body of at most so many bytes.
///
/// # Errors
/// The problem to answer with: too long, or too slow.
pub async fn read_body(request: Request<Incoming>, most: usize) -> Result<Bytes, Problem> {
    let body = Limited::new(request.into_body(), most).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(unusable(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())),
        Err(_) => Err(unusable(
            StatusCode::REQUEST_TIMEOUT,
            "it came too slowly".to_owned(),
        )),
    }
}

fn unusable(status: StatusCode, detail: String) -> Problem {
    Problem::new(status, "bad-request", "the request's body cannot be used").detail(detail)
}

/// A JSON response.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(body::full(bytes));
            *response.status_mut() = status;
            let kind = http::HeaderValue::from_static("application/json");
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the answer could not be written as JSON",
        )
        .detail(error.to_string())
        .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use http::Method;
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;
    use crate::shutdown::Shutdown;

    async fn echo(request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let target = request.uri().to_string();
        match read_json::<Value>(request).await {
            Ok(said) => {
                let answer = json!({"target": target, "uid": peer.uid, "said": said});
                json(StatusCode::OK, &answer)
            }
            Err(problem) => problem.into_response(),
        }
    }

    /// A socket in a directory of its own, served by [`echo`].
    fn served() -> (tempfile::TempDir, PathBuf, Shutdown) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let socket = AdminSocket::bind(&path, None).unwrap();
        let shutdown = Shutdown::new();
        let until = shutdown.clone();
        tokio::spawn(async move { socket.serve(echo, &until).await });
        (directory, path, shutdown)
    }

    #[tokio::test]
    async fn a_request_is_answered_and_the_peer_is_known() {
        let (_directory, path, _shutdown) = served();
        let said = json!({"a": 1});
        let answer = client::request(&path, Method::POST, "/v1/x?y=z", Some(&said)).await;
        let (status, bytes) = answer.unwrap();
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        let uid = nix::unistd::getuid().as_raw();
        assert_eq!(
            answer,
            json!({"target": "/v1/x?y=z", "uid": uid, "said": said})
        );
    }

    #[tokio::test]
    async fn the_socket_is_closed_to_others_and_gone_at_the_end() {
        let (_directory, path, shutdown) = served();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        shutdown.stop_now();
        let gone = async {
            while path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_or_not_json_is_a_problem() {
        let (_directory, path, _shutdown) = served();
        let long = Value::from("x".repeat(MAX_REQUEST_BODY));
        let answer = client::request(&path, Method::POST, "/", Some(&long)).await;
        assert_eq!(answer.unwrap().0, StatusCode::PAYLOAD_TOO_LARGE);
        let (status, bytes) = client::request(&path, Method::POST, "/", None)
            .await
            .unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(crate::problem::parse(&bytes).unwrap().code, "bad-request");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_let_go() {
        let (_directory, path, _shutdown) = served();
        let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for said in ["", "GET / HTTP/1.1\r\nHost:", request] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            let mut heard = Vec::new();
            // Time runs by itself while nobody has anything to do.
            let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut heard));
            end.await.unwrap().unwrap();
            assert_eq!(heard.is_empty(), said != request, "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_stranger_gets_403_before_the_handler_sees_anything() {
        if !nix::unistd::getuid().is_root() {
            return eprintln!("skip: only root can become a stranger");
        }
        let (directory, path, _shutdown) = served();
        let open = |path: &Path| {
            let mode = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(path, mode).unwrap();
        };
        open(directory.path());
        open(&path);
        let asked = tokio::task::spawn_blocking(move || {
            Command::new("curl")
                .args(["--silent", "--max-time", "30", "--unix-socket"])
                .arg(path)
                .arg("http://agent/v1/status")
                .uid(65534)
                .gid(65534)
                .output()
        });
        let Ok(output) = asked.await.unwrap() else {
            return eprintln!("skip: there is no curl here");
        };
        let problem = crate::problem::parse(&output.stdout).unwrap();
        assert_eq!(problem.code, "peer-not-permitted");
        assert_eq!(problem.members["status"], 403);
    }
}
