//! `[network]`: the way from this machine to the relay.

use std::fmt;
use std::path::PathBuf;

use http::Uri;

use crate::config_file::Section;
use crate::link::dial::ProxySetting;

/// The way out.
pub struct NetworkConfig {
    /// Through which proxy.
    pub proxy: ProxySetting,
    /// Certificates to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// What to do when something between here and the relay opens the TLS.
    pub tls_inspection: TlsInspection,
}

/// Whether a link through a middlebox that opens the TLS is acceptable. Its presence shows in the
/// handshake, because both ends sign what they see of the TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsInspection {
    /// No link, and the reason is shown.
    Refuse,
    /// The link is made; the middlebox can read and change the calls.
    Allow,
}

impl NetworkConfig {
    pub(super) fn check(mut section: Section<'_>) -> Option<Self> {
        let proxy = Self::check_proxy(&mut section);
        let ca_file = section.optional_path("ca_file");
        let tls_inspection = section.choice(
            "tls_inspection",
            &[
                ("refuse", TlsInspection::Refuse),
                ("allow", TlsInspection::Allow),
            ],
            TlsInspection::Refuse,
        );
        Some(Self {
            proxy: proxy?,
            ca_file,
            tls_inspection,
        })
    }

    fn check_proxy(section: &mut Section<'_>) -> Option<ProxySetting> {
        let Some(text) = section.optional_secret("proxy") else {
            return Some(ProxySetting::Environment);
        };
        match text.expose().as_str() {
            "env" => return Some(ProxySetting::Environment),
            "none" => return Some(ProxySetting::None),
            url => {
                let parsed: Option<Uri> = url.parse().ok();
                let known = parsed.is_some_and(|uri| {
                    matches!(uri.scheme_str(), Some("http" | "socks5"))
                        && uri.host().is_some_and(|host| !host.is_empty())
                        && uri.port_u16().is_some()
                });
                if !known {
                    section.mistake(
                        "proxy",
                        "is not a proxy",
                        "write env, none, http://user:password@host:port or socks5://host:port",
                    );
                    return None;
                }
            }
        }
        Some(ProxySetting::Url(text))
    }
}

impl fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxy = match self.proxy {
            ProxySetting::Environment => "env",
            ProxySetting::None => "none",
            ProxySetting::Url(_) => "(a proxy)",
        };
        f.debug_struct("NetworkConfig")
            .field("proxy", &proxy)
            .field("ca_file", &self.ca_file)
            .field("tls_inspection", &self.tls_inspection)
            .finish()
    }
}
