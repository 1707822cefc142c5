//! `agent reload`.

use http::Method;

use crate::agent::admin::api::ReloadAnswer;
use crate::cli::daemon::Daemon;
use crate::cli::exit_code::Failure;
use crate::cli::output::{print, printable};

pub(super) async fn reload(daemon: &Daemon) -> Result<(), Failure> {
    let answer: ReloadAnswer = daemon.ask(Method::POST, "/v1/reload", None).await?;
    print(&format!(
        "The configuration is in force; upstreams: {}.\n",
        answer.upstreams
    ));
    if let Some(withdrawn) = &answer.withdrawn {
        print(&format!(
            "It has less in it than before: {}.\n",
            printable(withdrawn)
        ));
    }
    if !answer.needs_restart.is_empty() {
        print(&format!(
            "These keys changed and take effect after a restart: {}.\n",
            printable(&answer.needs_restart.join(", "))
        ));
    }
    Ok(())
}
