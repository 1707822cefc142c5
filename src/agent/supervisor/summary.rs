//! All connections in one line: for systemd's status, and for whether the agent is ready.

use std::fmt;

use crate::agent::status::{ConnectionState, ConnectionStatus};

/// How many connections there are, and how they fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Those that have, or should have, a link.
    pub living: usize,
    /// Those of them whose link is up.
    pub online: usize,
    /// Those that ended, or whose record cannot be read: someone has to look at them.
    pub standing_still: usize,
}

impl Summary {
    /// The summary of these connections.
    pub fn of<'a>(connections: impl IntoIterator<Item = &'a ConnectionStatus>) -> Self {
        let mut summary = Self::default();
        for connection in connections {
            match connection.state {
                ConnectionState::Active
                | ConnectionState::Deactivated
                | ConnectionState::Removing => {
                    summary.living += 1;
                    summary.online += usize::from(connection.link.is_online());
                }
                ConnectionState::Ended | ConnectionState::Damaged => summary.standing_still += 1,
            }
        }
        summary
    }

    /// Whether every connection that should have a link has one.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.online == self.living
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.living, self.standing_still) {
            (0, 0) => f.write_str("no connections yet: run agent accept"),
            (0, still) => write!(
                f,
                "no link; connections to be looked at: {still}; run agent status"
            ),
            (living, 0) => write!(f, "{} of {living} links online", self.online),
            (living, still) => write!(
                f,
                "{} of {living} links online, {still} to be looked at: run agent status",
                self.online
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_there_is_and_what_to_do() {
        let line = |living, online, standing_still| {
            Summary {
                living,
                online,
                standing_still,
            }
            .to_string()
        };
        assert_eq!(line(0, 0, 0), "no connections yet: run agent accept");
        assert_eq!(
            line(0, 0, 1),
            "no link; connections to be looked at: 1; run agent status"
        );
        assert_eq!(line(2, 1, 0), "1 of 2 links online");
        assert_eq!(
            line(2, 2, 1),
            "2 of 2 links online, 1 to be looked at: run agent status"
        );
    }
}
