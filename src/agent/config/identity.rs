//! `[identity]`: how long an identity key is used.

use std::time::Duration;

use crate::agent::state::Machine;
use crate::config_file::Section;

/// A stolen copy of the state directory is worth no more than this, and a month of clean links lies between two
/// rotations.
pub(super) const DEFAULT_ROTATE_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// More often gains nothing: each is a change of the disk on both sides.
const SHORTEST: Duration = Duration::from_secs(60 * 60);
/// Ten years: whoever wants longer wants never.
const LONGEST: Duration = Duration::from_secs(3_653 * 24 * 60 * 60);

/// The life of identity keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdentityConfig {
    /// How old a key becomes, a tenth more or less, before it is replaced; nothing where only `agent rotate`
    /// replaces it.
    pub rotate_after: Option<Duration>,
    /// Whether the state directory is bound to its machine.
    pub bind_to_machine: BindToMachine,
}

/// Whether the state directory is bound to the machine on which it is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindToMachine {
    /// Except in containers, whose ids come and go.
    Auto,
    /// Wherever there is a machine id.
    Always,
    /// Nowhere.
    Never,
}

impl IdentityConfig {
    pub(super) fn check(mut section: Section<'_>) -> Self {
        let after = section.duration(
            "rotate_after",
            DEFAULT_ROTATE_AFTER,
            Duration::ZERO..=LONGEST,
        );
        if !after.is_zero() && after < SHORTEST {
            section.mistake(
                "rotate_after",
                "is too short",
                "write at least \"1h\", or \"0s\" for never",
            );
        }
        Self {
            rotate_after: Some(after).filter(|after| !after.is_zero()),
            bind_to_machine: section.choice(
                "bind_to_machine",
                &[
                    ("auto", BindToMachine::Auto),
                    ("always", BindToMachine::Always),
                    ("never", BindToMachine::Never),
                ],
                BindToMachine::Auto,
            ),
        }
    }

    /// The machine that the state directory is bound to.
    #[must_use]
    pub fn machine(self) -> Option<Machine> {
        match self.bind_to_machine {
            BindToMachine::Auto if Machine::is_container() => None,
            BindToMachine::Auto | BindToMachine::Always => Machine::this(),
            BindToMachine::Never => None,
        }
    }
}
