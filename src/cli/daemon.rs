//! A running daemon, asked through its admin socket.

use std::path::PathBuf;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit_code::{ExitCode, Failure};
use crate::admin_socket::client::{self, AdminClientError};
use crate::error_chain::chain;
use crate::problem::{self, ParsedProblem};

/// The daemon of one program.
#[derive(Debug, Clone)]
pub struct Daemon {
    /// Its admin socket.
    pub socket: PathBuf,
    /// What to do when it does not run, in a sentence.
    pub when_not_running: &'static str,
    /// The exit code of a refusal, by its problem's code; `None` leaves it to the status.
    pub exit_code_of: fn(&str) -> Option<ExitCode>,
}

/// Why there is no answer to go on with.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens on the socket.
    NotRunning(Failure),
    /// Anything else.
    Failed(Failure),
}

impl Daemon {
    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// What the daemon refused, or why it could not be asked.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        self.try_ask(method, target, body)
            .await
            .map_err(AskError::into_failure)
    }

    /// As [`Self::ask`], for commands that can do without a daemon.
    ///
    /// # Errors
    /// As [`Self::ask`], with the absence of a daemon told apart.
    pub async fn try_ask<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<T, AskError> {
        let answer = client::request(&self.socket, method, target, body).await;
        self.read(answer)
    }

    /// Asks about what is in these bytes, and reads the answer.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_about<T: DeserializeOwned>(
        &self,
        target: &str,
        bytes: Bytes,
    ) -> Result<T, Failure> {
        let body = Some(("application/octet-stream", bytes));
        let answer = client::request_with(&self.socket, Method::POST, target, body).await;
        self.read(answer).map_err(AskError::into_failure)
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<(StatusCode, Bytes), AdminClientError>,
    ) -> Result<T, AskError> {
        let (status, bytes) = answer.map_err(|error| self.not_asked(&error))?;
        if !status.is_success() {
            let problem = problem::parse(&bytes);
            return Err(AskError::Failed(self.refused(status, problem)));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            AskError::Failed(Failure::new(
                ExitCode::Unavailable,
                format!("the daemon's answer was not understood: {error}"),
                "Use the command of the same version as the daemon.",
            ))
        })
    }

    fn not_asked(&self, error: &AdminClientError) -> AskError {
        let problem = chain(error).to_string();
        match error {
            AdminClientError::NotRunning(_) => AskError::NotRunning(Failure::new(
                ExitCode::Unavailable,
                problem,
                self.when_not_running,
            )),
            AdminClientError::NotPermitted { detail, .. } => {
                let remedy = detail.clone().unwrap_or_else(|| {
                    "Run the command as root, as the daemon's user, or as a member of admin.group."
                        .to_owned()
                });
                AskError::Failed(Failure::new(ExitCode::NotPermitted, problem, remedy))
            }
            AdminClientError::Connect { .. } => AskError::Failed(Failure::new(
                ExitCode::Unavailable,
                problem,
                "Check --socket and --config.",
            )),
            AdminClientError::Request(_) => {
                AskError::Failed(Failure::new(ExitCode::Usage, problem, ""))
            }
            AdminClientError::Broken(_) | AdminClientError::TimedOut(_) => AskError::Failed(
                Failure::new(ExitCode::TryAgain, problem, "Look at the daemon's log."),
            ),
        }
    }

    fn refused(&self, status: StatusCode, problem: Option<ParsedProblem>) -> Failure {
        let Some(problem) = problem else {
            return Failure::new(
                ExitCode::Unavailable,
                format!("the daemon answered with {status}"),
                "",
            );
        };
        let code = (self.exit_code_of)(&problem.code).unwrap_or_else(|| exit_code_of(status));
        let remedy = problem.members.get("remedy").and_then(Value::as_str);
        Failure::new(
            code,
            problem.detail.unwrap_or(problem.title),
            remedy.unwrap_or_default(),
        )
    }
}

impl AskError {
    fn into_failure(self) -> Failure {
        match self {
            Self::NotRunning(failure) | Self::Failed(failure) => failure,
        }
    }
}

/// The exit code of a refusal of which only the status is known.
fn exit_code_of(status: StatusCode) -> ExitCode {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::PAYLOAD_TOO_LARGE => {
            ExitCode::BadData
        }
        StatusCode::UNPROCESSABLE_ENTITY => ExitCode::Configuration,
        StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_TIMEOUT => ExitCode::TryAgain,
        status if status.is_client_error() => ExitCode::NotPermitted,
        _ => ExitCode::Unavailable,
    }
}

/// A path segment or query value as a URL carries it.
#[must_use]
pub fn url_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daemon() -> Daemon {
        Daemon {
            socket: "/nowhere/admin.sock".into(),
            when_not_running: "Start it.",
            exit_code_of: |code| (code == "special").then_some(ExitCode::TryAgain),
        }
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_run_is_told_with_what_to_do() {
        let asked = daemon()
            .try_ask::<Value>(Method::GET, "/v1/status", None)
            .await;
        let Err(AskError::NotRunning(failure)) = asked else {
            panic!("{asked:?}");
        };
        assert_eq!(failure.code, ExitCode::Unavailable);
        assert_eq!(failure.remedy, "Start it.");
    }

    #[test]
    fn a_refusal_keeps_its_text_and_remedy_and_its_own_exit_code_wins() {
        let document = |code: &str| {
            let text = format!(
                r#"{{"type":"urn:relay-agent:problem:{code}","title":"t","detail":"why","remedy":"Do it."}}"#
            );
            problem::parse(text.as_bytes())
        };
        let failure = daemon().refused(StatusCode::NOT_FOUND, document("special"));
        assert_eq!(failure, Failure::new(ExitCode::TryAgain, "why", "Do it."));
        let failure = daemon().refused(StatusCode::NOT_FOUND, document("other"));
        assert_eq!(failure.code, ExitCode::BadData);
    }

    #[test]
    fn urls_carry_any_text() {
        assert_eq!(url_encode("a b/ü?&"), "a%20b%2F%C3%BC%3F%26");
    }
}
