//! What the two programs take when nothing happens: memory, disk, and time to begin.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::connections;
use crate::failure::Failure;
use crate::process;
use crate::relayed::{AGENT_BINARY, RELAY_BINARY, Relayed};
use crate::settings::Settings;
use crate::table::{Table, median};

const KIB_PER_MIB: f64 = 1024.0;

/// All links are up by then: each takes a redemption, which both sides write to disk.
const LINKS_DEADLINE: Duration = Duration::from_secs(120);

/// Memory and binary size of a pair that has linked and carried one call.
pub(crate) fn idle_memory(relayed: &Relayed, table: &mut Table) -> Result<(), Failure> {
    let (agent, relay) = (relayed.agent_id(), relayed.relay_id());
    table.single(
        "agent: resident memory, idle",
        "MiB",
        Some(8.0),
        mebibytes(process::resident_kib(agent)?),
    );
    table.single(
        "agent: proportional memory, idle",
        "MiB",
        Some(5.0),
        mebibytes(process::proportional_kib(agent)?),
    );
    table.single(
        "relay: resident memory, idle",
        "MiB",
        None,
        mebibytes(process::resident_kib(relay)?),
    );
    for (name, path, goal) in [
        ("agent", AGENT_BINARY, Some(8.0)),
        ("relay", RELAY_BINARY, None),
    ] {
        let bytes = fs::metadata(path)
            .map_err(Failure::because(format!("measure {path}")))?
            .len();
        table.single(
            format!("{name}: binary, stripped"),
            "MiB",
            goal,
            bytes as f64 / KIB_PER_MIB / KIB_PER_MIB,
        );
    }
    Ok(())
}

/// Memory that stays with the programs after the rounds.
pub(crate) fn memory_after_the_load(relayed: &Relayed, table: &mut Table) -> Result<(), Failure> {
    for (name, id) in [("agent", relayed.agent_id()), ("relay", relayed.relay_id())] {
        table.single(
            format!("{name}: resident memory, after the load"),
            "MiB",
            None,
            mebibytes(process::resident_kib(id)?),
        );
    }
    Ok(())
}

/// Median time from the start of the agent to the first call answered through its link.
pub(crate) fn start_to_link_up(
    settings: &Settings,
    relayed: &mut Relayed,
    table: &mut Table,
) -> Result<(), Failure> {
    let mut times = Vec::new();
    for _ in 0..settings.starts {
        times.push(relayed.restart_agent()?.as_secs_f64() * 1e3);
    }
    table.single(
        "agent: start to first call through the link",
        "ms",
        Some(100.0),
        median(times),
    );
    Ok(())
}

/// What many idle links, all held by one agent, take at both ends.
pub(crate) fn idle_links(
    settings: &Settings,
    relayed: &Relayed,
    table: &mut Table,
) -> Result<(), Failure> {
    let before = (
        process::resident_kib(relayed.relay_id())?,
        process::resident_kib(relayed.agent_id())?,
    );
    let already = connections::online(&relayed.relay_config)?;
    let wanted = already + settings.idle_links as usize;
    eprintln!("{} idle links", settings.idle_links);
    for number in 0..settings.idle_links {
        let code = connections::initiate(&relayed.relay_config, &format!("idle-{number}"))?;
        connections::accept(&relayed.agent_config, &code)?;
    }
    let deadline = Instant::now() + LINKS_DEADLINE;
    while connections::online(&relayed.relay_config)? < wanted {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("not all of {wanted} links came up")));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let after = (
        process::resident_kib(relayed.relay_id())?,
        process::resident_kib(relayed.agent_id())?,
    );
    let per_link =
        |after: u64, before: u64| (after as f64 - before as f64) / f64::from(settings.idle_links);
    let words = |end: &str| {
        format!(
            "{end}: memory per idle link, at {} links",
            settings.idle_links
        )
    };
    table.single(
        words("relay"),
        "KiB",
        Some(32.0),
        per_link(after.0, before.0),
    );
    table.single(words("agent"), "KiB", None, per_link(after.1, before.1));
    Ok(())
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / KIB_PER_MIB
}
