//! The routes of the admin socket: what `agent status`, `agent accept` and the others ask of the daemon.
//!
//! The caller is known before anything here runs ([`crate::admin_socket`]). Asks the supervisor
//! through [`Commands`] and knows nothing else of it.

pub mod api;
mod explain;
mod health;
mod routes;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::header::ACCEPT;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::sync::watch;

use self::api::{
    AcceptAnswer, AcceptRequest, ConnectionList, ExplainAnswer, ReloadAnswer, RemoveAnswer,
    RotateAnswer,
};
use self::routes::Route;
use crate::admin_socket::{Peer, json, read_body, read_json};
use crate::agent::accept::{AcceptError, Acceptance};
use crate::agent::command::{Command, CommandError, Commands, Removal, Rotation};
use crate::agent::doctor;
use crate::agent::live::{Live, ReloadError};
use crate::agent::reload::Reloader;
use crate::agent::supervisor::Summary;
use crate::body::Body;
use crate::condition::Ledger;
use crate::disk::Disks;
use crate::error_chain::chain;
use crate::invitation::Invitation;
use crate::logging::{LevelChange, LogHandle};
use crate::problem::Problem;
use crate::protocol::redeem::is_showable;
use crate::secret::Secret;
use crate::shutdown::Shutdown;

/// Answers the admin socket. Clones are the same.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

/// What the admin socket's answers are made of.
pub struct Inner {
    /// Asks the supervisor.
    pub commands: Commands,
    /// What is in force.
    pub live: Arc<Live>,
    /// Changes the log's level.
    pub log: LogHandle,
    /// How the connections fare.
    pub summary: watch::Receiver<Summary>,
    /// Whether the agent is about to stop.
    pub shutdown: Shutdown,
    /// For how long calls under way may go on then.
    pub drain_timeout: Duration,
    /// Reads the configuration again.
    pub reloader: Arc<Reloader>,
    /// Where it writes: its state, and the audit log.
    pub disks: Disks,
    /// When the daemon started.
    pub started_at: SystemTime,
    /// What was the matter at the last look.
    pub ledger: Mutex<Ledger>,
}

impl Admin {
    /// An admin socket's handler.
    #[must_use]
    pub fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// Answers one request of a permitted peer.
    pub async fn answer(self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let route = match Route::of(request.method(), request.uri().path()) {
            Ok(route) => route,
            Err(refused) => return refused.problem().into_response(),
        };
        tracing::debug!(uid = peer.uid, ?route, "admin request");
        self.carry_out(route, request)
            .await
            .unwrap_or_else(Problem::into_response)
    }

    async fn carry_out(
        &self,
        route: Route,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Problem> {
        let ok = StatusCode::OK;
        match route {
            Route::Status => Ok(json(ok, &self.status().await?)),
            Route::Connections => {
                let connections = self.connections().await?;
                Ok(json(ok, &ConnectionList { connections }))
            }
            Route::Accept => self.accept(read_json(request).await?).await,
            Route::Activate(name) => self.set_deactivated(name, false).await,
            Route::Deactivate(name) => self.set_deactivated(name, true).await,
            Route::Rotate(name) => self.rotate(name).await,
            Route::Remove(name) => self.remove(name).await,
            Route::Doctor => {
                let commands = &self.0.commands;
                let asked = commands.ask(|reply| Command::Destinations { reply });
                let destinations = asked.await.map_err(|error| problem_of(&error))?;
                let report = doctor::examine(&self.0.live, destinations).await;
                Ok(json(ok, &report))
            }
            Route::Explain => Ok(json(ok, &self.explain(request).await?)),
            Route::LogLevel => {
                let change: LevelChange = read_json(request).await?;
                let changed = self.0.log.change(change);
                changed.map_err(|error| {
                    Problem::new(
                        StatusCode::BAD_REQUEST,
                        "bad-time",
                        "no such time can be set",
                    )
                    .detail(error.to_string())
                })?;
                Ok(json(ok, &change))
            }
            Route::Reload => self.reload().await,
            Route::Health => self.alive().await,
            Route::Ready => self.ready().await,
            Route::Metrics => self.metrics(request.headers().get(ACCEPT)).await,
        }
    }

    async fn accept(&self, request: AcceptRequest) -> Result<Response<Body>, Problem> {
        let AcceptRequest { code, project } = request;
        let code = Secret::new(code);
        let invitation = Invitation::decode(code.expose())
            .map_err(|error| AcceptError::Code(error).to_problem())?;
        if project.as_deref().is_some_and(|key| !is_showable(key)) {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "bad-project",
                "the project key is too long or has control characters",
            ));
        }
        let invitation = Box::new(invitation);
        let Acceptance { record, again, .. } = self
            .0
            .commands
            .ask(|reply| Command::Accept {
                invitation,
                project,
                reply,
            })
            .await
            .map_err(|_| AcceptError::Stopping.to_problem())?
            .map_err(|error| error.to_problem())?;
        let answer = AcceptAnswer {
            name: record.name.to_string(),
            connection: record.connection.to_string(),
            public_side: record.public_side.to_string(),
            relay_url: record.relay_url.to_string(),
            again,
        };
        Ok(json(StatusCode::CREATED, &answer))
    }

    async fn set_deactivated(
        &self,
        name: String,
        deactivated: bool,
    ) -> Result<Response<Body>, Problem> {
        let status = self
            .0
            .commands
            .ask(|reply| Command::SetDeactivated {
                name,
                deactivated,
                reply,
            })
            .await
            .and_then(|answer| answer)
            .map_err(|error| problem_of(&error))?;
        Ok(json(StatusCode::OK, &status))
    }

    async fn rotate(&self, name: String) -> Result<Response<Body>, Problem> {
        let rotation = self
            .0
            .commands
            .ask(|reply| Command::Rotate { name, reply })
            .await
            .and_then(|answer| answer)
            .map_err(|error| problem_of(&error))?;
        let answer = match rotation {
            Rotation::Done { fingerprint } => RotateAnswer {
                done: true,
                fingerprint: Some(fingerprint),
            },
            Rotation::WhenLinked => RotateAnswer {
                done: false,
                fingerprint: None,
            },
        };
        Ok(json(StatusCode::OK, &answer))
    }

    async fn remove(&self, name: String) -> Result<Response<Body>, Problem> {
        let removal = self
            .0
            .commands
            .ask(|reply| Command::Remove { name, reply })
            .await
            .and_then(|answer| answer)
            .map_err(|error| problem_of(&error))?;
        let answer = RemoveAnswer {
            public_side_told: removal == Removal::Done,
            only_here: removal == Removal::OnlyHere,
        };
        Ok(json(StatusCode::OK, &answer))
    }

    async fn explain(&self, request: Request<Incoming>) -> Result<ExplainAnswer, Problem> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = match *request.method() {
            Method::POST => Some(read_body(request, explain::MAX_BODY).await?),
            _ => None,
        };
        let live = &self.0.live;
        let (gateway, parts) = (live.calls.gateway(), live.parts());
        explain::explain(&gateway, &parts.upstreams, &query, body)
            .map_err(|question| question.problem())
    }

    async fn reload(&self) -> Result<Response<Body>, Problem> {
        let reloaded = self.0.reloader.reload().await;
        let reloaded = reloaded.map_err(|error| problem_of_reload(&error))?;
        let answer = ReloadAnswer {
            upstreams: reloaded.upstreams,
            needs_restart: reloaded.needs_restart,
            withdrawn: reloaded.withdrawal.map(|it| it.to_string()),
        };
        Ok(json(StatusCode::OK, &answer))
    }
}

fn problem_of(error: &CommandError) -> Problem {
    let (status, code) = match error {
        CommandError::NoSuchConnection(_) => (StatusCode::NOT_FOUND, "no-such-connection"),
        CommandError::Damaged(_) => (StatusCode::CONFLICT, "record-damaged"),
        CommandError::Ended { .. } => (StatusCode::CONFLICT, "connection-ended"),
        CommandError::NoRotation(_) => (StatusCode::CONFLICT, "rotation-unsupported"),
        CommandError::NotRotated { .. } => (StatusCode::SERVICE_UNAVAILABLE, "not-rotated"),
        CommandError::State(_) => (StatusCode::INTERNAL_SERVER_ERROR, "state-not-writable"),
        CommandError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    Problem::new(status, code, "the command was not carried out").detail(chain(error).to_string())
}

fn problem_of_reload(error: &ReloadError) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "configuration",
        "the configuration has mistakes; the former one stays in force",
    )
    .detail(chain(error).to_string())
}
