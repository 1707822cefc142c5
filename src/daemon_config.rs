//! What the configurations of both daemons have in common: `[admin]`, `[log]`, `[metrics]`, and finding the admin socket.
//!
//! Only reads and checks; what the values are for is the business of `admin_socket` and `logging`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config_file::{self, Mistakes, Section, Sources};
use crate::logging::{LogFormat, LogLevel};

/// Where one of the daemons looks for its configuration.
#[derive(Debug, Clone, Copy)]
pub struct DaemonConfig {
    /// The file when nobody names another one; it may be absent. Drop-ins lie beside the file
    /// (`x.toml` → `x.d/*.toml`).
    pub default_file: &'static str,
    /// What its environment variables begin with, before the first `__`.
    pub environment_prefix: &'static str,
    /// The admin socket, unless the configuration names another one.
    pub default_socket: &'static str,
}

/// `[admin]`: the local admin socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Its path.
    pub socket: PathBuf,
    /// The group whose members may use it, beside root and the daemon's own user.
    pub group: Option<String>,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// The least level that is shown.
    pub level: LogLevel,
    /// The form of the lines.
    pub format: LogFormat,
}

/// `[metrics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MetricsConfig {
    /// A loopback address on which the metrics can be read, beside the admin socket.
    pub listen: Option<SocketAddr>,
}

impl DaemonConfig {
    /// Reads `file`, or the default one, its drop-ins and the environment, and lets `check` make a
    /// configuration of them, as [`config_file::read`] does.
    ///
    /// # Errors
    /// All the mistakes at once.
    pub fn read<T>(
        self,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        check: impl FnOnce(Section<'_>) -> Option<T>,
    ) -> Result<T, Mistakes> {
        let path = file.unwrap_or_else(|| Path::new(self.default_file));
        let sources = Sources {
            file: path,
            file_may_be_absent: file.is_none(),
            drop_ins: Some(&path.with_extension("d")),
            environment_prefix: self.environment_prefix,
        };
        config_file::read(&sources, environment, check)
    }

    /// What [`read`](Self::read) reads: the file, the directory of drop-ins, and what lies in it.
    #[must_use]
    pub fn sources(self, file: Option<&Path>) -> Vec<PathBuf> {
        let file = file.unwrap_or_else(|| Path::new(self.default_file));
        let drop_ins = file.with_extension("d");
        let within = std::fs::read_dir(&drop_ins).into_iter().flatten();
        let within: Vec<_> = within.flatten().map(|entry| entry.path()).collect();
        [file.to_owned(), drop_ins]
            .into_iter()
            .chain(within)
            .collect()
    }

    /// The path of the admin socket that a configuration names, for commands that only want to talk to
    /// the running daemon. Its other mistakes are for the daemon to report.
    ///
    /// # Errors
    /// Only what keeps the files from being read.
    pub fn admin_socket(
        self,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<PathBuf, Mistakes> {
        let mut socket = None;
        let whole = self.read(file, environment, |mut root| {
            let admin = AdminConfig::check(root.section("admin"), self.default_socket);
            socket = Some(admin.socket);
            Some(())
        });
        match (socket, whole) {
            (Some(socket), _) => Ok(socket),
            (None, Err(mistakes)) => Err(mistakes),
            (None, Ok(())) => Ok(self.default_socket.into()),
        }
    }
}

impl AdminConfig {
    /// Reads the section; `default_socket` is this daemon's.
    pub fn check(mut section: Section<'_>, default_socket: &str) -> Self {
        Self {
            socket: section.path_or("socket", default_socket),
            group: section.optional_string("group"),
        }
    }
}

impl LogConfig {
    /// Reads the section.
    pub fn check(mut section: Section<'_>) -> Self {
        Self {
            level: section.choice("level", &LogLevel::CHOICES, LogLevel::Info),
            format: section.choice("format", &LogFormat::CHOICES, LogFormat::Text),
        }
    }
}

impl MetricsConfig {
    /// Reads the section.
    pub fn check(mut section: Section<'_>) -> Self {
        let listen = section.optional_parsed::<SocketAddr>("listen");
        if listen.is_some_and(|address| !address.ip().is_loopback()) {
            section.mistake(
                "listen",
                "is not a loopback address, and anybody could read the metrics",
                "use 127.0.0.1 or [::1]; a Prometheus elsewhere reads through a proxy of yours, or an agent on this machine",
            );
        }
        Self { listen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: DaemonConfig = DaemonConfig {
        default_file: "/nowhere/daemon.toml",
        environment_prefix: "DAEMON",
        default_socket: "/run/daemon/admin.sock",
    };

    fn socket_of(text: &str) -> PathBuf {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("daemon.toml");
        std::fs::write(&file, text).unwrap();
        DAEMON.admin_socket(Some(&file), []).unwrap()
    }

    #[test]
    fn commands_find_the_socket_in_a_configuration_that_has_other_mistakes() {
        let text = "listen = 3\n[admin]\nsocket = '/tmp/s'\ngroop = 'x'\n[log]\nlevel = 'loud'\n";
        assert_eq!(socket_of(text), Path::new("/tmp/s"));
    }

    #[test]
    fn where_none_is_named_it_is_the_default_one() {
        assert_eq!(socket_of(""), Path::new(DAEMON.default_socket));
        let without_a_file = DAEMON.admin_socket(None, []).unwrap();
        assert_eq!(without_a_file, Path::new(DAEMON.default_socket));
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let absent = Path::new("/nowhere/other.toml");
        assert!(DAEMON.admin_socket(Some(absent), []).is_err());
    }
}
