//! Where the processor time of relay and agent goes: `perf` and `strace` beside the same load, instead of rounds.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::failure::Failure;
use crate::rounds::CASES;
use crate::settings::Settings;
use crate::target::Target;
use crate::wrk;

/// How many functions of each profile are shown; the file has the rest.
const SHOWN: usize = 30;

/// Samples a second: enough for the shares of a few seconds, and no multiple of any timer.
const FREQUENCY: &str = "997";

/// By then a tracer has attached; it says nothing that could be waited for.
const ATTACH_TIME: Duration = Duration::from_millis(300);

/// Writes `CASE.perf.data` and `CASE.strace.txt` for every case into the folder, and shows the head of each.
pub(crate) fn run(settings: &Settings, folder: &Path, target: &Target) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(Failure::because(format!("make {}", folder.display())))?;
    let processes: Vec<String> = target.processes.iter().map(u32::to_string).collect();
    let processes = processes.join(",");
    for (number, case) in CASES.iter().enumerate() {
        println!("== {}", case.words);

        let samples = folder.join(format!("{number}.perf.data"));
        let mut perf = Command::new("perf");
        perf.args([
            "record",
            "-q",
            "-e",
            "cpu-clock",
            "-F",
            FREQUENCY,
            "-p",
            &processes,
            "-o",
        ]);
        perf.arg(&samples);
        let calls = during(perf, || {
            wrk::run(folder, target, case.load, settings.seconds)
        })?;
        println!(
            "{:.1} µs a call, {:.0} calls/s",
            calls.processor_micros, calls.per_second
        );
        let report = Command::new("perf")
            .args(["report", "--stdio", "-q", "--sort", "comm,dso,symbol", "-i"])
            .arg(&samples)
            .output()
            .map_err(Failure::because("run perf report"))?;
        print_head(&String::from_utf8_lossy(&report.stdout));

        let counts = folder.join(format!("{number}.strace.txt"));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-c", "-q", "-o"]).arg(&counts);
        target.processes.iter().for_each(|id| {
            strace.args(["-p", &id.to_string()]);
        });
        let calls = during(strace, || {
            wrk::run(folder, target, case.load, settings.seconds)
        })?;
        let text =
            std::fs::read_to_string(&counts).map_err(Failure::because("read strace's counts"))?;
        println!(
            "system calls during {:.0} calls, traced:",
            calls.per_second * f64::from(settings.seconds)
        );
        print_head(&text);
    }
    Ok(())
}

/// Runs the load while a tracer watches; the tracer is ended with an interrupt, as at a terminal, and writes then.
fn during<T>(mut tracer: Command, load: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let name = tracer.get_program().to_string_lossy().into_owned();
    let mut tracer: Child = tracer
        .stdin(Stdio::null())
        .spawn()
        .map_err(Failure::because(format!("start {name}")))?;
    thread::sleep(ATTACH_TIME);
    let outcome = load();
    kill(Pid::from_raw(tracer.id().cast_signed()), Signal::SIGINT)
        .map_err(Failure::because(format!("end {name}")))?;
    tracer
        .wait()
        .map_err(Failure::because(format!("wait for {name}")))?;
    outcome
}

fn print_head(text: &str) {
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .take(SHOWN)
        .for_each(|line| println!("  {}", line.trim_end()));
}
