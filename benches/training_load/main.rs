//! The load by which release programs are trained (`packaging/build-release`): what relay and agent do all day, in about the
//! shares in which they do it. Measures nothing.
//!
//! ```text
//!  load → relay ◂── the link ── agent → upstream
//! ```
//!
//! `RELAY_BINARY` and `AGENT_BINARY` are the programs that are trained. They write down what they did when they end. Their
//! counts become part of the release, so a wrong answer ends the run with a failure. With `TRAINING_LOAD=start` they are
//! started and linked, and carry a call or two: what a program does that has nothing to do. With `TRAINING_LOAD=administer` another
//! connection is accepted while they run, and the agent is asked how it is.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench speaks on its standard output, and of its failure on standard error"
)]

#[path = "../../tests/it/harness/cable.rs"]
#[expect(
    dead_code,
    clippy::unwrap_used,
    reason = "the tests' own, which need more of it and may unwrap"
)]
mod cable;
#[path = "../link_survival/caller.rs"]
#[expect(dead_code, reason = "the bench whose it is needs more of it")]
mod caller;
#[path = "../relayed_calls/connections.rs"]
mod connections;
#[path = "../relayed_calls/failure.rs"]
mod failure;
#[path = "../relayed_calls/process.rs"]
#[expect(dead_code, reason = "the bench whose it is needs more of it")]
mod process;
mod raw;
#[path = "../link_survival/relayed.rs"]
#[expect(dead_code, reason = "the bench whose it is needs more of it")]
mod relayed;
#[path = "../link_survival/upstream.rs"]
mod upstream;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::failure::Failure;
use crate::relayed::Relayed;

/// Callers at once, and calls of each: mostly a handful of callers, sometimes one alone, sometimes a crowd.
const CALLERS: [(usize, usize); 3] = [(1, 4_000), (16, 1_000), (128, 60)];
/// Callers that open a connection for each call, and calls of each.
const STRANGERS: (usize, usize) = (16, 500);
/// A file that is fetched and sent.
const BULK: u64 = 128 << 20;
/// How often that is done.
const TRANSFERS: usize = 2;
/// Messages to and fro over a WebSocket.
const MESSAGES: usize = 2_000;
/// How long a program may take to end: one that is killed writes down nothing.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches as well, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("skip training_load: it trains only under `cargo bench`");
        return ExitCode::SUCCESS;
    }
    match train() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("training_load failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn train() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::because("start the load"))?;
    let relayed = Relayed::start()?;
    let trained = runtime.block_on(load(&relayed));
    if trained.is_err() {
        relayed.print_log_tails();
    }
    trained?;
    relayed.end(PATIENCE)
}

/// Asks the agent how it is, as administrators and monitors do.
fn ask_agent(folder: &Path) -> Result<(), Failure> {
    let asked = Command::new(relayed::agent_binary())
        .args(["status", "--config"])
        .arg(folder.join(relayed::AGENT_CONFIG))
        .stdout(Stdio::null())
        .status()
        .map_err(Failure::because("ask the agent how it is"))?;
    // Its exit status tells how the agent is; an upstream that nobody has called yet is no failure of the load.
    println!("the agent is asked how it is: {asked}");
    Ok(())
}

async fn load(relayed: &Relayed) -> Result<(), Failure> {
    let kind = std::env::var("TRAINING_LOAD");
    if kind.is_ok() {
        println!("start, and a call of either kind of caller");
        relayed.caller().await?.small().await?;
        raw::call(relayed.callers(), relayed.token()).await?;
        if kind.is_ok_and(|kind| kind == "administer") {
            println!("another connection");
            relayed::connect(relayed.folder(), "another")?;
            relayed::wait_for_links(relayed.folder(), 2)?;
            ask_agent(relayed.folder())?;
        }
        return Ok(());
    }
    for (callers, calls) in CALLERS {
        println!("small calls, callers: {callers}");
        let callers = (0..callers).map(|_| async move {
            let mut caller = relayed.caller().await?;
            for _ in 0..calls {
                caller.small().await?;
            }
            Ok::<_, Failure>(())
        });
        try_join_all(callers).await?;
    }
    println!("a new connection for each call");
    let (strangers, calls) = STRANGERS;
    let strangers = (0..strangers).map(|_| async move {
        for _ in 0..calls {
            raw::call(relayed.callers(), relayed.token()).await?;
        }
        Ok::<_, Failure>(())
    });
    try_join_all(strangers).await?;
    println!("bulk");
    for _ in 0..TRANSFERS {
        let mut caller = relayed.caller().await?;
        caller.download(BULK).await?;
        caller.upload(BULK).await?;
    }
    println!("a WebSocket");
    raw::websocket(relayed.callers(), relayed.token(), MESSAGES).await
}
