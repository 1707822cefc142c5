//! `[tls]`: who ends TLS for callers and agents, and with which certificate.

use std::path::PathBuf;

use crate::config_file::Section;

/// Who ends TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// The relay, with a certificate that callers and agents trust already.
    Files {
        /// The chain, PEM, the relay's own certificate first.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
    /// The relay, with a certificate that it made itself. For a trial: invitations pin its key, so
    /// agents need nothing else; callers must be told to trust it.
    SelfSigned,
    /// A load balancer in front, which reaches the relay over a network that is trusted.
    Off,
}

#[derive(Clone)]
enum Word {
    Files,
    SelfSigned,
    Off,
}

impl TlsMode {
    pub(super) fn check(mut section: Section<'_>) -> Option<Self> {
        let words = [
            ("files", Word::Files),
            ("self-signed", Word::SelfSigned),
            ("off", Word::Off),
        ];
        let mode = section.choice("mode", &words, Word::Files);
        let certificate = section.optional_path("certificate");
        let key = section.optional_path("key");
        match mode {
            Word::Files => {
                let files = [("certificate", &certificate), ("key", &key)];
                for (name, path) in files {
                    if path.is_none() && !section.has(name) {
                        section.mistake(
                            name,
                            "is missing, and [tls] mode = \"files\" needs it",
                            "name the PEM file, or set mode = \"self-signed\" for a trial",
                        );
                    }
                }
                Some(Self::Files {
                    certificate: certificate?,
                    key: key?,
                })
            }
            Word::SelfSigned => Some(Self::SelfSigned),
            Word::Off => Some(Self::Off),
        }
    }
}
