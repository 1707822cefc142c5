//! Small calls by `wrk`, with every answer accounted for.

use std::path::Path;
use std::process::Command;

use http_body_util::Empty;
use hyper::{Method, StatusCode};

use crate::failure::Failure;
use crate::http_client;
use crate::process;
use crate::target::Target;
use crate::upstream::SMALL_BYTES;

/// More than any answer's head here: an answer's mean length beyond body and this means that it was not the small one.
const HEAD_LIMIT: u64 = 2048;

/// Prints what wrk knows as one line of numbers instead of prose.
const REPORT: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("figures %d %d %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout))
end
"#;

/// How the small calls are made.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Connections, each with one call at a time.
    pub(crate) callers: u32,
    /// Whether each call comes on a connection of its own.
    pub(crate) new_connections: bool,
}

/// What small calls cost.
pub(crate) struct SmallCalls {
    /// Processor time of the system per call, in microseconds.
    pub(crate) processor_micros: f64,
    pub(crate) per_second: f64,
    /// Latency in microseconds.
    pub(crate) median_micros: f64,
    /// The 99th percentile, in microseconds.
    pub(crate) slow_micros: f64,
}

/// Checks one answer to the letter; wrk itself only counts.
pub(crate) fn check_answer(target: &Target) -> Result<(), Failure> {
    let answer = http_client::send(target, Method::GET, &target.small, Empty::new())?;
    if answer.status == StatusCode::OK && answer.start == vec![b'x'; SMALL_BYTES] {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} answered {} with {} bytes: {}",
        target.name,
        answer.status,
        answer.bytes,
        String::from_utf8_lossy(&answer.start)
    )))
}

/// Runs one load for some seconds.
pub(crate) fn run(
    scratch: &Path,
    target: &Target,
    load: Load,
    seconds: u32,
) -> Result<SmallCalls, Failure> {
    let script = scratch.join("report.lua");
    process::write(&script, REPORT)?;
    let mut command = Command::new("wrk");
    command.args([
        "-t1",
        &format!("-c{}", load.callers),
        &format!("-d{seconds}s"),
        "--timeout",
        "60s",
    ]);
    if load.new_connections {
        command.args(["-H", "Connection: close"]);
    }
    if let Some(authorization) = &target.authorization {
        command.args(["-H", &format!("Relay-Authorization: {authorization}")]);
    }
    command
        .arg("-s")
        .arg(&script)
        .arg(format!("http://{}{}", target.address, target.small));

    let before = target.processor_time()?;
    let output = command.output().map_err(Failure::because("run wrk"))?;
    let processor = target.processor_time()? - before;
    let report = String::from_utf8_lossy(&output.stdout);
    let figures = Figures::parse(&report)?;
    figures.check(target)?;
    Ok(SmallCalls {
        processor_micros: processor.as_secs_f64() * 1e6 / figures.calls as f64,
        per_second: figures.calls as f64 / (figures.micros as f64 / 1e6),
        median_micros: figures.median_micros as f64,
        slow_micros: figures.slow_micros as f64,
    })
}

struct Figures {
    calls: u64,
    micros: u64,
    bytes: u64,
    median_micros: u64,
    slow_micros: u64,
    /// Failed to connect, to read, to write; status of 400 or more; timed out.
    errors: [u64; 5],
}

impl Figures {
    fn parse(report: &str) -> Result<Self, Failure> {
        let numbers: Option<Vec<u64>> = report
            .lines()
            .find_map(|line| line.strip_prefix("figures "))
            .and_then(|line| line.split(' ').map(|number| number.parse().ok()).collect());
        match numbers.as_deref() {
            Some(
                &[
                    calls,
                    micros,
                    bytes,
                    median_micros,
                    slow_micros,
                    ref errors @ ..,
                ],
            ) if micros > 0 => Ok(Self {
                calls,
                micros,
                bytes,
                median_micros,
                slow_micros,
                errors: errors
                    .try_into()
                    .map_err(|_| Failure::new("wrk's report has an unknown form"))?,
            }),
            _ => Err(Failure::new(format!("wrk gave no figures:\n{report}"))),
        }
    }

    fn check(&self, target: &Target) -> Result<(), Failure> {
        let [connect, read, write, status, timeout] = self.errors;
        let mean_bytes = self.bytes.checked_div(self.calls).unwrap_or(0);
        let small = SMALL_BYTES as u64;
        if self.errors == [0; 5] && (small..small + HEAD_LIMIT).contains(&mean_bytes) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{}: of {} calls, {status} had a status of 400 or more; socket errors: {connect} connecting, {read} reading, \
             {write} writing; {timeout} timed out; {mean_bytes} bytes an answer",
            target.name, self.calls
        )))
    }
}
