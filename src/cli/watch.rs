//! A screen that is shown again and again: refreshed in place on a terminal, printed anew when it has changed elsewhere.
//!
//! On a terminal it has the alternate screen, so that what stood there before is back afterwards, also after Ctrl-C.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::exit_code::{ExitCode, Failure};
use super::output::print;
use super::terminal::Look;

/// The least time between two looks: each asks the daemon.
const LEAST: Duration = Duration::from_millis(100);
/// The most, so that a slip such as `1h` for a second is told.
const MOST: Duration = Duration::from_secs(3600);

/// The alternate screen, without a cursor; and back (xterm's private modes 1049 and 25).
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the corner; clear the rest of the line; clear what is below (ECMA-48: CUP, EL, ED).
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The time between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub Duration);

/// Gives the terminal back when it is dropped.
struct Alternate;

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
        if (LEAST..=MOST).contains(&duration) {
            Ok(Self(duration))
        } else {
            Err("it must be between 100ms and 1h".to_owned())
        }
    }
}

impl Alternate {
    fn enter() -> Self {
        print(ENTER);
        Self
    }
}

impl Drop for Alternate {
    fn drop(&mut self) {
        print(LEAVE);
    }
}

/// Shows what `draw` makes, until Ctrl-C, a hangup or SIGTERM. What it says of a daemon that does not answer is shown
/// as well, so that a restart can be watched.
///
/// # Errors
/// When signals cannot be waited for.
pub async fn watch(
    Interval(pause): Interval,
    mut draw: impl AsyncFnMut(&Look) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let mut ends = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(signal);
    let mut resized = signal(SignalKind::window_change()).map_err(no_signals)?;
    let [Ok(interrupt), Ok(terminate), Ok(hangup)] = &mut ends else {
        return Err(no_signals("they cannot be had"));
    };
    let is_terminal = io::stdout().is_terminal();
    let _alternate = is_terminal.then(Alternate::enter);
    let mut last = String::new();
    loop {
        let look = Look::of_output();
        let text = match draw(&look).await {
            Ok(text) => text,
            Err(failure) => look.wrap(&failure.to_string(), ""),
        };
        if is_terminal {
            print(&in_place(&text, look.height));
        } else if text != last {
            print(&text);
            last = text;
        }
        tokio::select! {
            // All of them only wait.
            () = tokio::time::sleep(pause) => {}
            _ = resized.recv() => {}
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
        }
    }
}

fn no_signals(error: impl std::fmt::Display) -> Failure {
    let problem = format!("signals cannot be waited for: {error}");
    Failure::new(ExitCode::Internal, problem, "")
}

/// The screen over the former one, without a flicker, cut to the terminal's height.
fn in_place(text: &str, height: Option<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = height.unwrap_or(usize::MAX).saturating_sub(1);
    let mut screen = HOME.to_owned();
    let shown = if lines.len() > room {
        room.saturating_sub(1)
    } else {
        lines.len()
    };
    for line in lines.iter().take(shown) {
        screen.push_str(line);
        screen.push_str(CLEAR_LINE);
        screen.push_str("\r\n");
    }
    if shown < lines.len() {
        let more = lines.len() - shown;
        screen.push_str(&format!("… {more} more lines{CLEAR_LINE}\r\n"));
    }
    screen.push_str(CLEAR_BELOW);
    screen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_duration_that_makes_sense() {
        assert_eq!("2s".parse(), Ok(Interval(Duration::from_secs(2))));
        for wrong in ["0s", "1ms", "2h", "often"] {
            assert!(wrong.parse::<Interval>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_screen_fits_the_terminal_and_clears_what_was_longer() {
        let screen = in_place("a\nb\n", Some(24));
        assert_eq!(screen, "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
        let screen = in_place("1\n2\n3\n4\n5\n6\n", Some(5));
        assert!(screen.contains("3\x1b[K\r\n… 3 more lines"), "{screen:?}");
        assert_eq!(screen.matches("\r\n").count(), 4);
    }
}
