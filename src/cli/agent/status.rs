//! `agent status`: whether all is well and what to do otherwise, the connections and links, the upstreams; once, as
//! JSON, again and again, or as one line for a monitor.

mod screen;

use std::time::{Duration, SystemTime};

use clap::Args;
use http::Method;

pub(super) use self::screen::connection_rows;
use self::screen::{screen, well};
use crate::agent::status::AgentStatus;
use crate::cli::daemon::{AskError, Daemon};
use crate::cli::exit_code::Failure;
use crate::cli::health;
use crate::cli::output::{print, print_json, to_json};
use crate::cli::terminal::Look;
use crate::cli::watch::{Interval, watch};

/// `agent status`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// As JSON; docs/status.schema.json describes it
    #[arg(long)]
    json: bool,
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

impl Show {
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        let target = "/v1/status";
        if self.check {
            let asked: Result<AgentStatus, AskError> =
                daemon.try_ask(Method::GET, target, None).await;
            return match asked {
                Ok(status) => health::check(&status.conditions, &well(&status), &figures(&status)),
                Err(error) => Err(health::check_failed(&error)),
            };
        }
        if self.watch {
            let interval = self.interval.unwrap_or(Interval(Duration::from_secs(1)));
            return watch(interval, async |look| {
                let status: AgentStatus = daemon.ask(Method::GET, target, None).await?;
                if self.json {
                    to_json(&status)
                } else {
                    Ok(screen(&status, look, SystemTime::now()))
                }
            })
            .await;
        }
        let status: AgentStatus = daemon.ask(Method::GET, target, None).await?;
        if self.json {
            return print_json(&status);
        }
        print(&screen(&status, &Look::of_output(), SystemTime::now()));
        Ok(())
    }
}

/// The figures of a check, in the form of the Monitoring Plugins' guidelines: `c` marks what only grows.
fn figures(status: &AgentStatus) -> [(&'static str, String); 5] {
    let links = status.connections.iter();
    let up = links.filter(|it| it.link.is_online()).count();
    let calls = |classes: fn(&str) -> bool| -> u64 {
        let all = status.upstreams.iter().flat_map(|it| &it.calls);
        all.filter(|(class, _)| classes(class))
            .map(|(_, count)| count)
            .sum()
    };
    [
        ("links", status.connections.len().to_string()),
        ("links_up", up.to_string()),
        ("calls", format!("{}c", calls(|_| true))),
        ("calls_5xx", format!("{}c", calls(|class| class == "5xx"))),
        ("conditions", status.conditions.len().to_string()),
    ]
}
