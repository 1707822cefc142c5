//! `status` of both programs: whether all is well and what to do otherwise; once, as JSON, again and again, or as one
//! line for a monitor.

use std::time::{Duration, SystemTime};

use clap::Args;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::daemon::Daemon;
use super::exit_code::Failure;
use super::health;
use super::output::{print, print_json, to_json};
use super::terminal::Look;
use super::watch::{Interval, watch};
use crate::condition::Condition;

/// Where both daemons answer.
const TARGET: &str = "/v1/status";
/// The time between two looks, unless one is named.
const INTERVAL: Interval = Interval(Duration::from_secs(1));

/// What a daemon says of itself.
pub trait Status: Serialize + DeserializeOwned {
    /// For people.
    fn screen(&self, look: &Look, now: SystemTime) -> String;
    /// What is the matter, the worst first.
    fn conditions(&self) -> &[Condition];
    /// What there is to say when all is well.
    fn well(&self) -> String;
    /// The figures of a check, in the form of the Monitoring Plugins' guidelines: `c` marks what only grows.
    fn figures(&self) -> [(&'static str, String); 5];
}

/// How often and for whom.
#[derive(Debug, Args)]
pub struct How {
    /// Again and again, in place, until Ctrl-C; where there is no terminal, whenever it has changed
    #[arg(long)]
    watch: bool,
    /// With --watch: the time between two looks [default: 1s]
    #[arg(long, value_name = "TIME", requires = "watch")]
    interval: Option<Interval>,
    /// As one line for a monitor (Nagios, Icinga, Zabbix); ends with 0 well, 1 warning, 2 critical, 3 unknown
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    check: bool,
}

impl How {
    /// Asks the daemon and shows what it says.
    ///
    /// # Errors
    /// That it does not answer; of a check, its exit code.
    pub async fn carry_out<S: Status>(self, daemon: &Daemon, as_json: bool) -> Result<(), Failure> {
        if self.check {
            return check::<S>(daemon).await;
        }
        if self.watch {
            return watch(self.interval.unwrap_or(INTERVAL), async |look| {
                let status: S = daemon.ask(Method::GET, TARGET, None).await?;
                if as_json {
                    to_json(&status)
                } else {
                    Ok(status.screen(look, SystemTime::now()))
                }
            })
            .await;
        }
        let status: S = daemon.ask(Method::GET, TARGET, None).await?;
        if as_json {
            return print_json(&status);
        }
        print(&status.screen(&Look::of_output(), SystemTime::now()));
        Ok(())
    }
}

async fn check<S: Status>(daemon: &Daemon) -> Result<(), Failure> {
    match daemon.try_ask::<S>(Method::GET, TARGET, None).await {
        Ok(status) => health::check(status.conditions(), &status.well(), &status.figures()),
        Err(error) => Err(health::check_failed(&error)),
    }
}
