//! The yardstick: load → nginx → TLS, kept alive → nginx → upstream.

use std::path::Path;

use crate::failure::Failure;
use crate::nginx;
use crate::process::{self, Process};
use crate::target::Target;
use crate::upstream::Upstream;

/// Connections that each nginx keeps open to the next hop: at least as many as there are callers, so that none
/// has to wait for a handshake.
const KEPT_ALIVE: u32 = 256;

/// Streams both ways, as the relay does: nothing is stored on the way.
const STREAMING: &str = "proxy_http_version 1.1; proxy_set_header Connection ''; proxy_request_buffering off; proxy_max_temp_file_size 0;";

/// The two running nginx.
pub(crate) struct Chain {
    target: Target,
    _front: Process,
    _back: Process,
}

impl Chain {
    pub(crate) fn start(scratch: &Path, upstream: &Upstream) -> Result<Self, Failure> {
        let (certificate, key) = certificate(scratch)?;
        let next_hop = |name: &str, address| {
            format!(
                "  upstream {name} {{ server {address}; keepalive {KEPT_ALIVE}; keepalive_requests 1000000000; }}"
            )
        };

        let back_address = process::free_address()?;
        let back_servers = format!(
            "{files}\n{sink}
  server {{
    listen {back_address} ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
    {STREAMING}
    location / {{ proxy_pass http://files; }}
    location /sink {{ proxy_pass http://sink; }}
  }}",
            files = next_hop("files", upstream.files),
            sink = next_hop("sink", upstream.sink),
        );
        let back = nginx::start(scratch, "back", &back_servers, back_address)?;

        let front_address = process::free_address()?;
        let front_servers = format!(
            "{back}
  server {{
    listen {front_address};
    {STREAMING} proxy_ssl_protocols TLSv1.3;
    location / {{ proxy_pass https://back; }}
  }}",
            back = next_hop("back", back_address),
        );
        let front = nginx::start(scratch, "front", &front_servers, front_address)?;

        let target = Target {
            name: "nginx chain",
            address: front_address,
            small: "/small".to_owned(),
            large: "/large".to_owned(),
            sink: "/sink".to_owned(),
            authorization: None,
            processes: vec![front.id(), back.id()],
        };
        Ok(Self {
            target,
            _front: front,
            _back: back,
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

/// A self-signed certificate of the kind that the relay's trial mode uses, and its key, as files.
fn certificate(scratch: &Path) -> Result<(String, String), Failure> {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .map_err(Failure::because("make a certificate"))?;
    let (certificate, key) = (
        scratch.join("chain-cert.pem"),
        scratch.join("chain-key.pem"),
    );
    process::write(&certificate, &pair.cert.pem())?;
    process::write(&key, &pair.signing_key.serialize_pem())?;
    Ok((certificate.display().to_string(), key.display().to_string()))
}
