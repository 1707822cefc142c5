//! A call that is decided about and written down as the agent does it: one account, one line, in a real file before
//! the answer ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use relay_agent::agent::audit::{Audit, Decision, End, Finish, Outcome};
use relay_agent::agent::config::{AuditConfig, Sync};
use relay_agent::agent::policy::decide;
use relay_agent::body;

use crate::failure::Failure;
use crate::processor;
use crate::rule_sets::Case;

/// Calls at a time, which share a write where it comes to that, and how many each case has.
const CALLERS: u32 = 16;
const CALLS: u32 = 16 * 1500;
/// The body of the answer.
const ANSWER: &[u8] = &[b'x'; 1024];

/// An audit log.
pub(crate) struct Audited {
    runtime: tokio::runtime::Runtime,
    audit: Audit,
    _directory: tempfile::TempDir,
}

impl Audited {
    /// As it is by default, in a directory of its own.
    pub(crate) fn new() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .map_err(Failure::because("make a directory"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::because("begin"))?;
        let config = AuditConfig {
            enabled: true,
            file: directory.path().join("audit.jsonl"),
            max_size: 128 << 20,
            max_age: Duration::from_secs(24 * 60 * 60),
            keep: 2,
            sync: Sync::Second,
            also: Vec::new(),
        };
        let audit = {
            let _within = runtime.enter();
            Audit::start(&config)
        };
        Ok(Self {
            runtime,
            audit,
            _directory: directory,
        })
    }

    /// What one call takes of the processor, the thread that writes included.
    pub(crate) fn measure(&self, case: &Case) -> Result<Duration, Failure> {
        let before = processor::time()?;
        self.runtime.block_on(async {
            let caller = || async {
                for _ in 0..CALLS / CALLERS {
                    self.call(case).await?;
                }
                Ok(())
            };
            let callers = (0..CALLERS).map(|_| caller());
            futures_util::future::try_join_all(callers).await
        })?;
        Ok((processor::time()? - before) / CALLS)
    }

    async fn call(&self, case: &Case) -> Result<(), Failure> {
        let unwritten = || Failure::because("write a line");
        let mut request = Request::new(());
        case.method.clone_into(request.method_mut());
        case.headers.clone_into(request.headers_mut());
        let uri = http::Uri::builder().scheme("http").authority("jira");
        let uri = uri.path_and_query(case.target.clone()).build();
        *request.uri_mut() = uri.map_err(Failure::because("make a URI"))?;
        let connection = Arc::from("acme_to_widgets");
        let account = self
            .audit
            .open(&request, &connection)
            .map_err(unwritten())?;
        let body = case.body();
        match decide(&case.policy, &case.asked(&body)) {
            Ok(permitted) => {
                account.permit(permitted);
                let answer = account.pass(Response::new(body::full(ANSWER))).await;
                let answer = answer.map_err(unwritten())?.into_body();
                let collected = answer.collect().await;
                collected
                    .map(drop)
                    .map_err(Failure::because("take an answer"))
            }
            Err(denial) => {
                let end = End {
                    decision: Decision::Denied,
                    reason: Some("denied-by-policy"),
                    detail: Some(denial.reason.to_string()),
                    rule: denial.rule_name().map(Box::from),
                    status: Some(StatusCode::FORBIDDEN),
                    outcome: Outcome::Known,
                    finish: Finish::Whole,
                };
                account.refuse(end).await.map_err(unwritten())
            }
        }
    }
}
