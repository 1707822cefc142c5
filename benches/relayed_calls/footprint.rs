//! What the two programs take when nothing happens: memory, disk, and time to begin.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::connections;
use crate::failure::Failure;
use crate::process;
use crate::relayed::{Relayed, agent_binary, relay_binary};
use crate::settings::Settings;
use crate::table::{Table, median};

const KIB_PER_MIB: f64 = 1024.0;

/// All links are up by then.
const LINKS_DEADLINE: Duration = Duration::from_secs(120);

/// A relay takes thirty redemptions of one address at once, then one a second; a new one begins at thirty again.
const REDEMPTIONS_AT_ONCE: u32 = 25;

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
        ("agent", agent_binary(), Some(8.0)),
        ("relay", relay_binary(), None),
    ] {
        let bytes = fs::metadata(&path)
            .map_err(Failure::because(format!("measure {}", path.display())))?
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

/// What many idle links, all held by one agent, take at both ends: memory allocated with them, less without.
///
/// Both programs are started afresh: in one that has carried load, freed memory would take the links in.
pub(crate) fn idle_links(
    settings: &Settings,
    relayed: &mut Relayed,
    table: &mut Table,
) -> Result<(), Failure> {
    let agent_before = process::allocated_kib(relayed.agent_id())?;
    relayed.stop_agent();
    eprintln!("{} idle links", settings.idle_links);
    for number in 0..settings.idle_links {
        if number % REDEMPTIONS_AT_ONCE == 0 {
            relayed.restart_relay()?;
        }
        let code = connections::initiate(&relayed.relay_config, &format!("idle-{number}"))?;
        connections::accept(&relayed.agent_config, &code)?;
    }
    relayed.restart_relay()?;
    let relay_before = process::allocated_kib(relayed.relay_id())?;
    relayed.start_agent()?;
    // One link more: that of the connection with which the pair began.
    let wanted = settings.idle_links as usize + 1;
    let deadline = Instant::now() + LINKS_DEADLINE;
    while connections::online(&relayed.relay_config)? < wanted {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("not all of {wanted} links came up")));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let relay = process::allocated_kib(relayed.relay_id())? as f64 - relay_before as f64;
    let agent = process::allocated_kib(relayed.agent_id())? as f64 - agent_before as f64;
    let words = |end: &str| format!("{end}: memory per idle link, at {wanted} links");
    let links = wanted as f64;
    table.single(words("relay"), "KiB", Some(32.0), relay / links);
    table.single(words("agent"), "KiB", None, agent / (links - 1.0));
    Ok(())
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / KIB_PER_MIB
}
