//! `agent status`: whether all is well and what to do otherwise, the connections and links, the upstreams.

mod screen;

use std::time::SystemTime;

use clap::Args;

pub(super) use self::screen::connection_rows;
use self::screen::{screen, well};
use crate::agent::status::AgentStatus;
use crate::cli::daemon::Daemon;
use crate::cli::exit_code::Failure;
use crate::cli::status::{How, Status};
use crate::cli::terminal::Look;
use crate::condition::Condition;

/// `agent status`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// As JSON; docs/status.schema.json describes it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    how: How,
}

impl Show {
    pub(super) async fn carry_out(self, daemon: &Daemon) -> Result<(), Failure> {
        self.how.carry_out::<AgentStatus>(daemon, self.json).await
    }
}

impl Status for AgentStatus {
    fn screen(&self, look: &Look, now: SystemTime) -> String {
        screen(self, look, now)
    }

    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn well(&self) -> String {
        well(self)
    }

    fn figures(&self) -> [(&'static str, String); 5] {
        let links = self.connections.iter();
        let up = links.filter(|it| it.link.is_online()).count();
        let calls = |classes: fn(&str) -> bool| -> u64 {
            let all = self.upstreams.iter().flat_map(|it| &it.calls);
            all.filter(|(class, _)| classes(class))
                .map(|(_, count)| count)
                .sum()
        };
        [
            ("links", self.connections.len().to_string()),
            ("links_up", up.to_string()),
            ("calls", format!("{}c", calls(|_| true))),
            ("calls_5xx", format!("{}c", calls(|class| class == "5xx"))),
            ("conditions", self.conditions.len().to_string()),
        ]
    }
}
