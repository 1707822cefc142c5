//! Relayed calls beside two nginx in a chain, measured in one run: `cargo bench --bench relayed_calls`.
//!
//! Both systems stand on loopback between the same load and the same upstream, and have the same hops:
//!
//! ```text
//!  load → nginx ──TLS, kept alive──▸ nginx → upstream        the yardstick, 1.00
//!  load → relay ◂──TLS, the link──── agent → upstream
//! ```
//!
//! Measurements alternate between the two in rounds, so that a machine that slows down slows both, and the
//! table gives medians and the ratio to the chain. A figure never comes from an error: a wrong status, length
//! or socket error ends the run with a failure. `docs/performance.md` tells how to read and to repeat it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench speaks on its standard output, and of its progress on standard error"
)]

mod chain;
mod connections;
mod failure;
mod footprint;
mod http_client;
mod nginx;
mod process;
mod profile;
mod relayed;
mod rounds;
mod settings;
mod sink;
mod table;
mod target;
mod transfer;
mod upstream;
mod wrk;

use std::process::{Command, ExitCode};

use crate::chain::Chain;
use crate::failure::Failure;
use crate::relayed::Relayed;
use crate::settings::Settings;
use crate::table::Table;
use crate::upstream::Upstream;

/// Programs that the comparison cannot do without, with the Debian package of each.
const NEEDED: [(&str, &str); 2] = [("nginx", "nginx-light"), ("wrk", "wrk")];

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches as well, without this argument: minutes of load are not a test.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("skip relayed_calls: it measures only under `cargo bench`");
        return ExitCode::SUCCESS;
    }
    for (program, package) in NEEDED {
        // Both print their version and end; neither reads a configuration for it.
        if Command::new(program).arg("-v").output().is_err() {
            println!("skip relayed_calls: {program} is not installed (apt-get install {package})");
            return ExitCode::SUCCESS;
        }
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("relayed_calls failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Failure> {
    let settings = Settings::from_environment()?;
    let scratch = tempfile::Builder::new()
        .prefix("relayed-calls-")
        .tempdir()
        .map_err(Failure::because("make a temporary directory"))?;
    let upstream = Upstream::start(scratch.path(), settings.large_bytes)?;
    let chain = Chain::start(scratch.path(), &upstream)?;
    let mut table = Table::new(&settings);

    if settings.chain_alone {
        rounds::run(&settings, &[chain.target()], &mut table)?;
        print!("{table}");
        return Ok(());
    }

    let mut relayed = Relayed::start(&scratch.path().join("relayed"), &upstream)?;
    if let Some(folder) = &settings.profile {
        return profile::run(&settings, folder, relayed.target());
    }
    measure_relayed(&settings, &chain, &mut relayed, &mut table)
        .inspect_err(|_| relayed.print_log_tails())?;
    let mut idle = Relayed::start(&scratch.path().join("idle"), &upstream)?;
    footprint::idle_links(&settings, &mut idle, &mut table)
        .inspect_err(|_| idle.print_log_tails())?;
    print!("{table}");
    Ok(())
}

fn measure_relayed(
    settings: &Settings,
    chain: &Chain,
    relayed: &mut Relayed,
    table: &mut Table,
) -> Result<(), Failure> {
    // Idle memory first: afterwards the allocators hold what the load needed.
    footprint::idle_memory(relayed, table)?;
    rounds::run(settings, &[chain.target(), relayed.target()], table)?;
    footprint::memory_after_the_load(relayed, table)?;
    footprint::start_to_link_up(settings, relayed, table)
}
