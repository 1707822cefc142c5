//! What the process itself costs: memory, processor time and open files, under the names that every exporter has.

use std::time::SystemTime;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use super::text::{Kind, Page};

/// What the kernel says of this process; nothing of what it does not say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Process {
    /// Resident memory, in bytes.
    pub resident: Option<u64>,
    /// Processor time, in seconds.
    pub processor: Option<f64>,
    /// Open files and sockets.
    pub files: Option<u64>,
}

impl Process {
    /// As it is now. Reads `/proc`: some tens of microseconds.
    #[must_use]
    pub fn now() -> Self {
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of processor time stay exact for 285 years"
        )]
        let processor = usage.map(|it| {
            (it.user_time().num_microseconds() + it.system_time().num_microseconds()) as f64 / 1e6
        });
        let files = std::fs::read_dir("/proc/self/fd").ok();
        Self {
            resident: resident(),
            processor,
            // One of them reads the directory.
            files: files.map(|all| u64::try_from(all.count().saturating_sub(1)).unwrap_or(0)),
        }
    }

    /// Writes it down, with the time at which the program was started.
    pub fn write(&self, page: &mut Page, started_at: SystemTime) {
        if let Some(resident) = self.resident {
            let name = "process_resident_memory_bytes";
            let help = "Resident memory of the process.";
            page.family(name, Kind::Gauge, help).sample(&[], resident);
        }
        if let Some(processor) = self.processor {
            let help = "Processor time of the process, in user and kernel mode.";
            page.family("process_cpu_seconds", Kind::Counter, help)
                .sample(&[], processor);
        }
        if let Some(files) = self.files {
            let help = "Open files and sockets of the process.";
            page.family("process_open_fds", Kind::Gauge, help)
                .sample(&[], files);
        }
        let started = started_at.duration_since(SystemTime::UNIX_EPOCH);
        let help = "When the process was started, in seconds since 1970.";
        page.family("process_start_time_seconds", Kind::Gauge, help)
            .sample(&[], started.unwrap_or_default().as_secs());
    }
}

fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_has_memory_files_and_has_used_time() {
        let process = Process::now();
        assert!(process.resident.unwrap() > 64 * 1024);
        assert!(process.processor.unwrap() >= 0.0);
        assert!(process.files.unwrap() >= 2);
    }
}
