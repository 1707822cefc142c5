//! What both programs do around a command: refuse core dumps, read the arguments, run, end with an exit code.

use std::future::Future;
use std::process;
use std::time::Duration;

use clap::Parser;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use super::exit_code::{ExitCode, Failure};
use super::output::{note, printable};

/// Threads for name look-ups and the disk: enough to do some side by side, and within `TasksMax` of the units.
const MAX_BLOCKING_THREADS: usize = 32;
/// How long the program's end waits for threads that nobody waits for any more: a name or a disk that does not answer
/// must not keep it from ending.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Runs a program from its arguments to its exit code.
///
/// A failure is printed once, as one paragraph after the program's name.
pub fn run<A, F>(name: &str, command: impl FnOnce(A) -> F) -> process::ExitCode
where
    A: Parser,
    F: Future<Output = Result<(), Failure>>,
{
    disable_core_dumps();
    let arguments = match A::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, and are no failure.
            let _ = error.print();
            let code = if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Ok
            };
            return code.into();
        }
    };
    match in_runtime(command(arguments)) {
        Ok(()) => ExitCode::Ok.into(),
        Err(failure) => {
            if !failure.is_silent() {
                note(&format!("{name}: {}\n", in_lines(&failure.to_string())));
            }
            failure.code.into()
        }
    }
}

/// A core dump would hold keys and credentials.
fn disable_core_dumps() {
    // Neither can fail for a process that lowers its own limits; and without them all still works.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
}

fn in_runtime(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build()
        .map_err(|error| {
            Failure::new(
                ExitCode::Internal,
                format!("the runtime could not be set up: {error}"),
                "",
            )
        })?;
    let ended = runtime.block_on(command);
    runtime.shutdown_timeout(LEFT_BEHIND);
    ended
}

/// Harmless text that keeps its line breaks, which lists of mistakes have.
fn in_lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_a_dead_disk_holds_does_not_keep_the_program_from_ending() {
        let (disk_comes_back, disk) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel();
        let program = thread::spawn(move || {
            let result = in_runtime(async {
                tokio::task::spawn_blocking(move || disk.recv_timeout(2 * DEADLINE));
                Ok(())
            });
            let _ = ended.send(result.is_ok());
        });
        assert_eq!(end.recv_timeout(DEADLINE), Ok(true));
        drop(disk_comes_back);
        program.join().unwrap();
    }
}
