//! TLS as the side that is called: the relay's listener.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use std::{fmt, io};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::expiry::expires_at;
use super::{LateTcp, ReadAhead, Stream, TlsError, provider};
use crate::atomic_file;
use crate::error_chain::chain;
use crate::invitation::TlsPin;

const SELF_SIGNED_CERTIFICATE: &str = "self-signed-certificate.pem";
const SELF_SIGNED_KEY: &str = "self-signed-key.pem";
/// What people see who look at the certificate.
const SELF_SIGNED_BY: &str = "relay-agent trial";
/// The longest common name, in bytes (RFC 5280, appendix A.1).
const MAX_COMMON_NAME: usize = 64;

/// TLS settings of the relay, replaced as a whole when the files change.
pub struct ServerTls {
    current: ArcSwap<ServerConfig>,
    certificate: PathBuf,
    key: PathBuf,
    /// When the files were last changed, by their own word.
    changed: Mutex<Changed>,
    pin: Option<TlsPin>,
    health: Mutex<CertificateHealth>,
}

/// How the certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateHealth {
    /// When the one in use expires, as far as it can be read.
    pub expires_at: Option<SystemTime>,
    /// The new one that cannot be used.
    pub refused: Option<RefusedCertificate>,
}

/// A certificate that cannot be used; the one before it still is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCertificate {
    /// Since when there is such a one.
    pub since: SystemTime,
    /// Why it cannot be used.
    pub why: String,
}

type Changed = (Option<SystemTime>, Option<SystemTime>);

impl ServerTls {
    /// Uses a certificate chain and its key, both PEM.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let changed = changed(certificate, key);
        let (configuration, health) = read_both(certificate, key)?;
        Ok(Self {
            current: ArcSwap::from_pointee(configuration),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            changed: Mutex::new(changed),
            pin: None,
            health: Mutex::new(health),
        })
    }

    /// Uses a self-signed certificate for `host`, made at the first start and kept in `directory`, and
    /// pins its key in invitations. For trials: no authority vouches for it.
    ///
    /// # Errors
    /// [`TlsError`] when it can neither be read nor made.
    pub fn self_signed(directory: &Path, host: &str) -> Result<Self, TlsError> {
        let certificate = directory.join(SELF_SIGNED_CERTIFICATE);
        let key = directory.join(SELF_SIGNED_KEY);
        if !certificate.exists() || !key.exists() {
            make_self_signed(host, &certificate, &key)?;
        }
        let mut tls = Self::from_files(&certificate, &key)?;
        tls.pin = Some(pin_of(&certificate)?);
        Ok(tls)
    }

    /// The pin that invitations carry; `None` when an authority vouches for the certificate.
    #[must_use]
    pub const fn pin(&self) -> Option<TlsPin> {
        self.pin
    }

    /// How the certificate is.
    #[must_use]
    pub fn health(&self) -> CertificateHealth {
        let health = self.health.lock();
        health.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes new files up; returns whether there were any. On an error the old stay in use.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let now = changed(&self.certificate, &self.key);
        if *self.changed.lock().unwrap_or_else(PoisonError::into_inner) == now {
            return Ok(false);
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let (configuration, new) =
            read_both(&self.certificate, &self.key).inspect_err(|error| {
                let since = health.refused.take().map(|refused| refused.since);
                health.refused = Some(RefusedCertificate {
                    since: since.unwrap_or_else(SystemTime::now),
                    why: chain(error).to_string(),
                });
            })?;
        *health = new;
        self.current.store(Arc::new(configuration));
        *self.changed.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(true)
    }

    /// Answers a TLS handshake. The caller sets the deadline.
    ///
    /// # Errors
    /// What rustls or the socket says.
    pub async fn accept(&self, tcp: LateTcp) -> io::Result<Stream> {
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let stream = acceptor.accept(ReadAhead::new(tcp)).await?;
        Ok(Stream::Server(Box::new(stream)))
    }
}

fn configuration(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, TlsError> {
    let mut configuration = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(TlsError::Unusable)?;
    configuration.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(configuration)
}

impl fmt::Debug for ServerTls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

fn read_both(
    certificate: &Path,
    key: &Path,
) -> Result<(ServerConfig, CertificateHealth), TlsError> {
    let certificates = read_certificates(certificate)?;
    let health = CertificateHealth {
        expires_at: certificates.first().and_then(|first| expires_at(first)),
        refused: None,
    };
    Ok((configuration(certificates, read_key(key)?)?, health))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = || TlsError::Content {
        path: path.to_owned(),
        expected: "PEM certificate",
    };
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(_) => Err(content()),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = zeroize::Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::Content {
        path: path.to_owned(),
        expected: "PEM private key",
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The times of last change; `None` where a file cannot be seen, which counts as a change when it comes back.
fn changed(certificate: &Path, key: &Path) -> Changed {
    let modified = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|data| data.modified())
            .ok()
    };
    (modified(certificate), modified(key))
}

fn make_self_signed(host: &str, certificate: &Path, key: &Path) -> Result<(), TlsError> {
    let host = host.trim_matches(['[', ']']).to_owned();
    let failed = |error: rcgen::Error| TlsError::SelfSigned(error.to_string());
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::OrganizationName, SELF_SIGNED_BY);
    if host.len() <= MAX_COMMON_NAME {
        name.push(rcgen::DnType::CommonName, host.as_str());
    }
    let mut parameters = rcgen::CertificateParams::new(vec![host]).map_err(failed)?;
    parameters.distinguished_name = name;
    let signing_key = rcgen::KeyPair::generate().map_err(failed)?;
    let made = parameters.self_signed(&signing_key).map_err(failed)?;
    let key_pem = zeroize::Zeroizing::new(signing_key.serialize_pem());
    atomic_file::write(key, key_pem.as_bytes(), 0o600).map_err(TlsError::Keep)?;
    atomic_file::write(certificate, made.pem().as_bytes(), 0o644).map_err(TlsError::Keep)
}

fn pin_of(certificate: &Path) -> Result<TlsPin, TlsError> {
    let content = || TlsError::Content {
        path: certificate.to_owned(),
        expected: "PEM certificate",
    };
    let certificates = read_certificates(certificate)?;
    let first = certificates.first().ok_or_else(content)?;
    let parsed = webpki::EndEntityCert::try_from(first).map_err(|_| content())?;
    Ok(TlsPin::of_public_key(&parsed.subject_public_key_info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_self_signed_certificate_is_made_once_and_keeps_its_pin() {
        let directory = tempfile::tempdir().unwrap();
        let first = ServerTls::self_signed(directory.path(), "relay.example.com").unwrap();
        let second = ServerTls::self_signed(directory.path(), "relay.example.com").unwrap();
        assert!(first.pin().is_some());
        assert_eq!(first.pin(), second.pin());
    }

    #[test]
    fn a_self_signed_certificate_says_for_whom_it_is_and_that_it_is_for_a_trial() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("cert"), directory.path().join("key"));
        let long = format!("{}.example.com", "a".repeat(60));
        for host in ["relay.example.com", "192.0.2.1", &long] {
            make_self_signed(host, &certificate, &key).unwrap();
            let made = read_certificates(&certificate).unwrap();
            let holds = |text: &str| made[0].windows(text.len()).any(|it| it == text.as_bytes());
            assert!(holds("relay-agent trial"));
            assert!(!holds("rcgen"));
            ServerTls::from_files(&certificate, &key).unwrap();
        }
        make_self_signed("relay.example.com", &certificate, &key).unwrap();
        let made = read_certificates(&certificate).unwrap();
        // In the subject, the issuer and the alternative names.
        let name = b"relay.example.com";
        assert_eq!(
            made[0].windows(name.len()).filter(|it| it == name).count(),
            3
        );
    }

    #[test]
    fn changed_files_are_taken_up_and_broken_ones_leave_the_old_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("cert"), directory.path().join("key"));
        make_self_signed("one.example.com", &certificate, &key).unwrap();
        let tls = ServerTls::from_files(&certificate, &key).unwrap();
        assert!(!tls.reload_if_changed().unwrap());

        let before = tls.current.load_full();
        std::fs::write(&certificate, "not a certificate").unwrap();
        set_modified(&certificate, 1);
        assert!(matches!(
            tls.reload_if_changed(),
            Err(TlsError::Content { .. })
        ));
        assert!(Arc::ptr_eq(&before, &tls.current.load_full()));
        let refused = tls.health().refused.unwrap();
        assert!(refused.why.contains("PEM certificate"), "{}", refused.why);

        make_self_signed("two.example.com", &certificate, &key).unwrap();
        set_modified(&certificate, 2);
        assert!(tls.reload_if_changed().unwrap());
        assert!(!Arc::ptr_eq(&before, &tls.current.load_full()));
        assert_eq!(tls.health().refused, None);
        assert!(tls.health().expires_at.is_some());
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let result = ServerTls::from_files(&missing, &missing);
        assert!(matches!(result, Err(TlsError::Read { path, .. }) if path == missing));
    }

    fn set_modified(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        std::fs::File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
}
