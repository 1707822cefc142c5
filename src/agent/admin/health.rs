//! How the agent is: its snapshot with the conditions found in it, the health checks and the metrics.
//!
//! Whoever asks looks anew; a task looks now and then, so that a condition that begins or ends is in the log though
//! nobody asks.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Response, StatusCode, header};

use super::api::Health;
use super::{Admin, problem_of};
use crate::admin_socket::json;
use crate::agent::command::Command;
use crate::agent::conditions;
use crate::agent::credentials::Troubles;
use crate::agent::metrics::page;
use crate::agent::status::{
    self, AgentStatus, AuditStatus, ConnectionStatus, NotRenewedStatus, RefusedConfiguration,
    UnreachableStatus, UpstreamStatus, WithdrawnUpstreams, WithheldConfiguration,
};
use crate::body::{self, Body};
use crate::condition::verdict;
use crate::error_chain::chain;
use crate::metric::process::Process;
use crate::metric::text::Format;
use crate::problem::Problem;
use crate::protocol::SOFTWARE;
use crate::shutdown::Shutdown;

/// The first look after the start, by when a link usually is up.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How often it is looked while all is well: an idle machine should sleep.
const LOOK_WHEN_WELL: Duration = Duration::from_secs(60);
/// How often it is looked while something is the matter, so that its end is in the log soon.
const LOOK_WHEN_NOT: Duration = Duration::from_secs(5);
/// How long a change of the links may settle: one that is cut and goes on a moment later is not worth a line.
const SETTLE: Duration = Duration::from_secs(1);

impl Admin {
    /// Notes in the log which conditions begin and end, until the agent stops.
    pub async fn follow(self, shutdown: Shutdown) {
        let mut summary = self.0.summary.clone();
        let mut pause = FIRST_LOOK;
        loop {
            tokio::select! {
                // All of them only wait.
                () = tokio::time::sleep(pause) => {}
                changed = summary.changed() => match changed {
                    Ok(()) => tokio::time::sleep(SETTLE).await,
                    Err(_) => return,
                },
                () = shutdown.draining() => {}
            }
            let well = self
                .status()
                .await
                .is_ok_and(|status| status.conditions.is_empty());
            if shutdown.is_draining() {
                return;
            }
            pause = if well { LOOK_WHEN_WELL } else { LOOK_WHEN_NOT };
        }
    }

    /// The snapshot, with what is the matter.
    pub(super) async fn status(&self) -> Result<AgentStatus, Problem> {
        let mut status = self.snapshot().await?;
        let now = SystemTime::now();
        let findings = conditions::of(&status, now);
        let mut ledger = self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let news = ledger.look(findings, now);
        status.conditions = ledger.conditions();
        drop(ledger);
        news.log();
        status.health = verdict(&status.conditions).to_owned();
        Ok(status)
    }

    pub(super) async fn connections(&self) -> Result<Vec<ConnectionStatus>, Problem> {
        let asked = self.0.commands.ask(|reply| Command::Connections { reply });
        asked.await.map_err(|error| problem_of(&error))
    }

    /// Alive means that the supervisor answers, not only this task.
    pub(super) async fn alive(&self) -> Result<Response<Body>, Problem> {
        let status = self.status().await?;
        let health = health("ok", "the agent runs", status);
        Ok(json(StatusCode::OK, &health))
    }

    /// Ready: every connection that should have a link has one, and the agent is not about to stop.
    pub(super) async fn ready(&self) -> Result<Response<Body>, Problem> {
        let status = self.status().await?;
        let summary = *self.0.summary.borrow();
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        if self.0.shutdown.is_draining() {
            let stopping = health("stopping", "the agent is stopping", status);
            return Ok(json(unavailable, &stopping));
        }
        let detail = summary.to_string();
        Ok(if summary.is_ready() {
            json(StatusCode::OK, &health("ok", &detail, status))
        } else {
            json(unavailable, &health("waiting", &detail, status))
        })
    }

    /// The metrics, in the format that is asked for.
    pub async fn metrics(&self, accept: Option<&HeaderValue>) -> Result<Response<Body>, Problem> {
        let status = self.status().await?;
        let format = Format::accepted(accept.and_then(|accept| accept.to_str().ok()));
        let text = page::page(
            format,
            &status,
            &self.0.live.metrics.all(),
            &Process::now(),
            self.0.started_at,
        );
        let mut response = Response::new(body::full(text));
        let kind = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok(response)
    }

    async fn snapshot(&self) -> Result<AgentStatus, Problem> {
        let parts = self.0.live.parts();
        let gateway = self.0.live.calls.gateway();
        let credentials = gateway.credentials();
        let now = SystemTime::now();
        let all_under_way = gateway.upstreams().in_flight();
        let all_under_way: BTreeMap<&str, usize> = all_under_way
            .map(|(name, calls, _)| (name, calls))
            .collect();
        let under_way = |name: &str| all_under_way.get(name).copied().unwrap_or_default();
        let calls_under_way = all_under_way.values().sum();
        let upstreams = parts
            .upstreams
            .iter()
            .map(|upstream| {
                let name = upstream.name.as_str();
                let counted = self.0.live.metrics.of(name);
                let Troubles {
                    missing,
                    not_renewed,
                } = credentials.troubles(name);
                let missing = missing.iter().map(|error| chain(&**error).to_string());
                let not_renewed = not_renewed.iter().map(|it| NotRenewedStatus::of(it, now));
                let unreachable = counted.as_ref().and_then(|it| it.unreachable());
                UpstreamStatus {
                    name: name.to_owned(),
                    url: upstream.url.to_string(),
                    rules: upstream.rules.len(),
                    calls_under_way: under_way(name),
                    calls: counted.map(|it| it.classes()).unwrap_or_default(),
                    credential_troubles: missing.collect(),
                    credentials_not_renewed: not_renewed.collect(),
                    credential_renewals: credentials.renewals(name).map(Into::into),
                    unreachable: unreachable.map(|it| UnreachableStatus::of(&it)),
                    candidate: gateway.observed(name).map(Into::into),
                }
            })
            .collect();
        let disks = self.0.disks.look().await;
        let notes = self.0.reloader.notes();
        let shutdown = &self.0.shutdown;
        Ok(AgentStatus {
            version: status::VERSION,
            software: SOFTWARE.to_owned(),
            process_id: std::process::id(),
            started_at: status::text_of(self.0.started_at),
            draining: self.0.shutdown.is_draining(),
            stopping: shutdown.draining_for(self.0.drain_timeout, calls_under_way),
            has_former_process: self.0.live.has_former(),
            log_level: self.0.log.level().as_str().to_owned(),
            health: String::new(),
            conditions: Vec::new(),
            connections: self.connections().await?,
            upstreams,
            audit: AuditStatus::of(&self.0.live.calls),
            refused_configuration: notes.refused.map(RefusedConfiguration::of),
            withheld_configuration: notes.withheld.map(WithheldConfiguration::of),
            withdrawn_upstreams: notes.withdrawn.map(WithdrawnUpstreams::of),
            disks: disks.rooms,
            silent_disks: disks.silent,
        })
    }
}

fn health(word: &str, detail: &str, status: AgentStatus) -> Health {
    Health {
        status: word.to_owned(),
        detail: detail.to_owned(),
        health: status.health,
        conditions: status.conditions,
    }
}
