//! The main job, end to end, on this machine: a relay, an agent, and a small issue tracker behind it.
//!
//! `cargo run --release --example demo` brings everything up on loopback, in a directory of its own,
//! and stays until Ctrl-C; `--once` stops when every step is done, for tests. Each step is what an
//! administrator would type, made through the same admin sockets as the commands.

mod steps;
mod tracker;
mod world;

use std::error::Error;
use std::process::ExitCode;

use crate::steps::Callers;
use crate::world::World;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(std::env::args().any(|argument| argument == "--once")).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("\nThe demonstration failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(once: bool) -> Result<(), Box<dyn Error>> {
    let world = World::start().await?;
    let code = world.initiate().await?;
    world.accept(&code).await?;
    let token = world.create_token().await?;
    let callers = Callers::new(world.callers, token);
    callers.read_an_issue().await?;
    callers.create_an_issue().await?;
    callers.follow_events().await?;
    callers.be_refused().await?;
    world.deactivate_and_activate(&callers).await?;
    if !once {
        world.say_what_to_try_next(&callers);
        tokio::signal::ctrl_c().await?;
        say("\nStopping.");
    }
    world.stop().await;
    say("Done.");
    Ok(())
}

/// Prints one line for the person who watches.
#[expect(clippy::print_stdout, reason = "printing is what a demonstration does")]
fn say(line: &str) {
    println!("{line}");
}
