//! TLS as the side that begins: towards relays, and towards upstreams.

use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, PeerIncompatible,
    RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{ReadAhead, Stream, TlsError, provider};
use crate::invitation::TlsPin;

/// What a client may speak once TLS stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The link and redeeming: TLS 1.3, HTTP/1.1 for the upgrade.
    Link,
    /// Upstreams of all ages: TLS 1.2 as well; HTTP/1.1, which the agent's pool speaks.
    Upstream,
}

/// TLS settings of a client. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    settings: Arc<Settings>,
}

struct Settings {
    /// What the administrator added.
    extra: RootCertStore,
    purpose: Purpose,
    /// Made when first needed: the system's roots take time and memory, and a pin needs none of
    /// them. `None` when there are no roots at all.
    by_authority: OnceLock<Option<Arc<ClientConfig>>>,
}

impl ClientTls {
    /// Trusts the system's roots, and those in the PEM files `extra_ca` beside them.
    ///
    /// # Errors
    /// [`TlsError::Read`] or [`TlsError::Content`] for the file.
    pub fn new<'a>(
        extra_ca: impl IntoIterator<Item = &'a Path>,
        purpose: Purpose,
    ) -> Result<Self, TlsError> {
        let mut extra = RootCertStore::empty();
        for path in extra_ca {
            add_file(&mut extra, path)?;
        }
        let by_authority = OnceLock::new();
        Ok(Self {
            settings: Arc::new(Settings {
                extra,
                purpose,
                by_authority,
            }),
        })
    }

    /// Begins TLS with `host`. With a pin the key must be the pinned one, and the authorities do not matter.
    ///
    /// # Errors
    /// [`TlsError`], the verification failures told apart.
    pub async fn connect(
        &self,
        host: &str,
        pin: Option<TlsPin>,
        tcp: TcpStream,
    ) -> Result<Stream, TlsError> {
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| TlsError::HostName(host.to_owned()))?;
        let configuration = match pin {
            Some(pin) => {
                let verifier = PinVerifier {
                    pin,
                    provider: provider(),
                };
                Arc::new(configuration(self.settings.purpose, Arc::new(verifier)))
            }
            None => self.settings.by_authority().ok_or(TlsError::NoRoots)?,
        };
        let connecting =
            TlsConnector::from(configuration).connect(name, ReadAhead::new(tcp.into()));
        let stream = connecting.await.map_err(|error| explain(host, error))?;
        Ok(Stream::Client(Box::new(stream)))
    }
}

impl Settings {
    fn by_authority(&self) -> Option<Arc<ClientConfig>> {
        let make = || {
            let mut roots = self.extra.clone();
            let system = rustls_native_certs::load_native_certs();
            for error in &system.errors {
                tracing::debug!(%error, "a trusted root of the system was passed over");
            }
            roots.add_parsable_certificates(system.certs);
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
            // The builder fails only when there are no roots.
            let verifier = builder.build().ok()?;
            Some(Arc::new(configuration(self.purpose, verifier)))
        };
        self.by_authority.get_or_init(make).clone()
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let file = std::fs::File::open(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let content = || TlsError::Content {
        path: path.to_owned(),
        expected: "PEM certificate",
    };
    let mut added = 0;
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        roots
            .add(certificate.map_err(|_| content())?)
            .map_err(|_| content())?;
        added += 1;
    }
    if added == 0 { Err(content()) } else { Ok(()) }
}

fn configuration(purpose: Purpose, verifier: Arc<dyn ServerCertVerifier>) -> ClientConfig {
    let (versions, protocols): (&[&rustls::SupportedProtocolVersion], &[&[u8]]) = match purpose {
        Purpose::Link => (&[&rustls::version::TLS13], &[b"http/1.1"]),
        Purpose::Upstream => (
            &[&rustls::version::TLS13, &rustls::version::TLS12],
            &[b"http/1.1"],
        ),
    };
    #[expect(
        clippy::expect_used,
        reason = "the provider has suites of both versions"
    )]
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("the provider supports TLS 1.2 and 1.3");
    let mut configuration = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    configuration.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    configuration
}

/// Tells the failures apart that a person can do something about.
fn explain(host: &str, error: std::io::Error) -> TlsError {
    let host = host.to_owned();
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if inner.is_some_and(is_too_old) {
        let source = error;
        return TlsError::TooOld { host, source };
    }
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else {
        return TlsError::Handshake(error);
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls adds certificate errors"
    )]
    match fault {
        CertificateError::UnknownIssuer => TlsError::UnknownIssuer { host },
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsError::WrongHost { host }
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => TlsError::WrongTime { host },
        CertificateError::ApplicationVerificationFailure => TlsError::WrongPin { host },
        _ => TlsError::Handshake(error),
    }
}

/// Whether there is no common version: the other side said so, or answered with an old one.
const fn is_too_old(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::AlertReceived(AlertDescription::ProtocolVersion)
            | rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                    | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            )
    )
}

/// Accepts exactly one key, whoever signed its certificate. The handshake's signature, which proves
/// that the other side holds the key, is verified as always.
#[derive(Debug)]
struct PinVerifier {
    pin: TlsPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if TlsPin::of_public_key(&certificate.subject_public_key_info()) == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let fault = CertificateError::ApplicationVerificationFailure;
        Err(rustls::Error::InvalidCertificate(fault))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A server that speaks TLS 1.2 alone.
    async fn of_yesterday() -> TcpStream {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes());
        let configuration = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let _ = TlsAcceptor::from(Arc::new(configuration)).accept(tcp).await;
        });
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_without_tls_1_3_is_told_from_other_failures() {
        let tls = ClientTls::new([], Purpose::Link).unwrap();
        let pin = TlsPin::of_public_key(&[]);
        let error = tls
            .connect("localhost", Some(pin), of_yesterday().await)
            .await;
        assert!(matches!(error, Err(TlsError::TooOld { .. })), "{error:?}");
    }
}
