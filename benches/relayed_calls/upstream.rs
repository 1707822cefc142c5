//! The private service behind both systems: a small answer and a large one by nginx, and a sink for uploads.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;

use crate::failure::Failure;
use crate::nginx;
use crate::process::{self, Process};
use crate::sink::Sink;

/// Length of the small answer.
pub(crate) const SMALL_BYTES: usize = 1024;

/// The running upstream.
pub(crate) struct Upstream {
    /// Serves `/small` and `/large`.
    pub(crate) files: SocketAddr,
    /// Reads whatever is posted to it, and answers with the number of bytes.
    pub(crate) sink: SocketAddr,
    _nginx: Process,
    _sink: Sink,
}

impl Upstream {
    pub(crate) fn start(scratch: &Path, large_bytes: u64) -> Result<Self, Failure> {
        process::write(&scratch.join("small"), &"x".repeat(SMALL_BYTES))?;
        // Sparse: the pages cost nothing to read, so the disk is no part of what is measured.
        File::create_new(scratch.join("large"))
            .and_then(|file| file.set_len(large_bytes))
            .map_err(Failure::because("make the large file"))?;
        let files = process::free_address()?;
        let servers = format!(
            "  server {{ listen {files}; root {root}; location = /small {{ }} location = /large {{ }} location / {{ return 404; }} }}",
            root = scratch.display()
        );
        let nginx = nginx::start(scratch, "upstream", &servers, files)?;
        let sink = Sink::start()?;
        Ok(Self {
            files,
            sink: sink.address(),
            _nginx: nginx,
            _sink: sink,
        })
    }
}
