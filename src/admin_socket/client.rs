//! Asks a running daemon over its admin socket; used by the command line and by tests.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::permission::NOT_PERMITTED;
use crate::body::BodyError;
use crate::problem;

/// How long a daemon may take to answer. Redeeming an invitation and the doctor go over the network,
/// with time-outs of their own that are shorter.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// The longest answer that is taken, in bytes: the status of ten thousand connections.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why a daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// Nobody listens: the daemon does not run, or listens elsewhere.
    #[error("no daemon listens on {}", .0.display())]
    NotRunning(PathBuf),
    /// This user may not ask.
    #[error("this user may not use {}", path.display())]
    NotPermitted {
        /// The socket.
        path: PathBuf,
        /// Who may, where the daemon said it.
        detail: Option<String>,
    },
    /// The socket cannot be used for another reason.
    #[error("could not connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The request has a target or body that HTTP cannot carry.
    #[error("could not make the request")]
    Request(#[source] http::Error),
    /// The daemon ended the conversation; it may or may not have done what was asked.
    #[error("the daemon did not finish its answer")]
    Broken(#[source] BodyError),
    /// No answer in time; the daemon may or may not have done what was asked.
    #[error("the daemon did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

/// Sends one request, with a JSON body where given, and takes the whole answer within [`DEADLINE`].
///
/// `target` is a path with an optional query, such as `/v1/status`. An answer with an error status is
/// an answer; its bytes are then a problem document.
///
/// # Errors
/// [`AdminClientError`]; that the daemon itself refused this user is [`AdminClientError::NotPermitted`].
pub async fn request(
    socket: &Path,
    method: Method,
    target: &str,
    body: Option<&Value>,
) -> Result<(StatusCode, Bytes), AdminClientError> {
    let body = body.map(|value| ("application/json", Bytes::from(value.to_string())));
    request_with(socket, method, target, body).await
}

/// The same with a body of any content type.
///
/// # Errors
/// As [`request`].
pub async fn request_with(
    socket: &Path,
    method: Method,
    target: &str,
    body: Option<(&'static str, Bytes)>,
) -> Result<(StatusCode, Bytes), AdminClientError> {
    match tokio::time::timeout(DEADLINE, exchange(socket, method, target, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(AdminClientError::TimedOut(DEADLINE)),
    }
}

async fn exchange(
    socket: &Path,
    method: Method,
    target: &str,
    body: Option<(&'static str, Bytes)>,
) -> Result<(StatusCode, Bytes), AdminClientError> {
    let mut request = Request::builder().method(method).uri(target);
    let (kind, body) = body.map_or((None, Bytes::new()), |(kind, body)| (Some(kind), body));
    if let Some(headers) = request.headers_mut() {
        headers.insert(HOST, HeaderValue::from_static("admin"));
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
    }
    let request = request
        .body(Full::new(body))
        .map_err(AdminClientError::Request)?;

    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| refused(socket, error))?;
    let broken = |error: hyper::Error| AdminClientError::Broken(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        Ok((status, answer.map_err(AdminClientError::Broken)?.to_bytes()))
    };
    let driven = async {
        // How the connection ends shows in the answer, too; without an answer there is nothing to drive.
        drop(connection.await);
        std::future::pending().await
    };
    let (status, bytes) = tokio::select! {
        // Neither is continued after the other has completed.
        biased;
        answer = answer => answer?,
        never = driven => never,
    };
    if status == StatusCode::FORBIDDEN
        && let Some(problem) = problem::parse(&bytes)
        && problem.code == NOT_PERMITTED
    {
        let path = socket.to_owned();
        return Err(AdminClientError::NotPermitted {
            path,
            detail: problem.detail,
        });
    }
    Ok((status, bytes))
}

fn refused(socket: &Path, source: io::Error) -> AdminClientError {
    let path = socket.to_owned();
    if matches!(
        source.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    ) {
        AdminClientError::NotRunning(path)
    } else if source.kind() == io::ErrorKind::PermissionDenied {
        AdminClientError::NotPermitted { path, detail: None }
    } else {
        AdminClientError::Connect { path, source }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn failure(socket: &Path) -> AdminClientError {
        request(socket, Method::GET, "/v1/status", None)
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_run_is_told_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        assert!(matches!(
            failure(&path).await,
            AdminClientError::NotRunning(_)
        ));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(
            failure(&path).await,
            AdminClientError::NotRunning(_)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_hangs_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _hanging = UnixListener::bind(&path).unwrap();
        assert!(matches!(
            failure(&path).await,
            AdminClientError::TimedOut(_)
        ));
    }

    #[tokio::test]
    async fn a_daemon_that_dies_meanwhile_is_told_as_such() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move { drop(listener.accept().await) });
        assert!(matches!(failure(&path).await, AdminClientError::Broken(_)));
    }
}
