//! The way through a proxy: HTTP CONNECT (RFC 9110, section 9.3.6) or SOCKS5 (RFC 1928, 1929).
//!
//! Never shows a password, and never sends one to anything but the proxy it belongs to.

use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::service::Service;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;

use super::{DialError, connect_directly};
use crate::body::BodyError;

/// What a proxy that was reached said instead of opening the way.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// It wants a user and password (407), or another than it got.
    #[error("it wants to know who is asking (407); it offers {offered}")]
    Authentication {
        /// The schemes in `Proxy-Authenticate`.
        offered: String,
    },
    /// It refuses this target.
    #[error("it answered {0}")]
    Refused(StatusCode),
    /// It answered, but not as an HTTP proxy does.
    #[error("it does not answer as an HTTP proxy does")]
    NotAProxy(#[source] hyper::Error),
    /// The SOCKS5 conversation failed.
    #[error("the SOCKS5 conversation failed")]
    Socks(#[source] BodyError),
    /// Its URL is of a kind that is not supported.
    #[error("{0} proxies are not supported, only http and socks5")]
    Scheme(String),
}

/// Failed before the proxy, or at it.
pub(super) enum OpenError {
    Reach(Box<DialError>),
    Refused(ProxyError),
}

/// The proxy as `host:port`, for people; without user and password.
pub(super) fn name(intercept: &Intercept) -> String {
    let uri = intercept.uri();
    format!("{}:{}", uri.host().unwrap_or_default(), port(uri))
}

/// Opens a TCP connection to `target` (`host:port`) through the proxy.
pub(super) async fn open(intercept: &Intercept, target: &str) -> Result<TcpStream, OpenError> {
    match intercept.uri().scheme_str() {
        Some("http") => open_by_connect(intercept, target).await,
        Some("socks5" | "socks5h") => open_by_socks(intercept, target)
            .await
            .map_err(OpenError::Refused),
        other => {
            let scheme = other.unwrap_or("unnamed").to_owned();
            Err(OpenError::Refused(ProxyError::Scheme(scheme)))
        }
    }
}

async fn open_by_connect(intercept: &Intercept, target: &str) -> Result<TcpStream, OpenError> {
    let uri = intercept.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let tcp = connect_directly(host, port(uri))
        .await
        .map_err(|error| OpenError::Reach(Box::new(error)))?;
    connect_request(tcp, target, intercept.basic_auth())
        .await
        .map_err(OpenError::Refused)
}

async fn connect_request(
    tcp: TcpStream,
    target: &str,
    authorization: Option<&HeaderValue>,
) -> Result<TcpStream, ProxyError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
        .await
        .map_err(ProxyError::NotAProxy)?;
    // Ends by itself: with the upgrade, or when the sender is dropped.
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::new(Empty::<bytes::Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse().unwrap_or_default();
    if let Ok(host) = HeaderValue::from_str(target) {
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(authorization) = authorization {
        request
            .headers_mut()
            .insert(header::PROXY_AUTHORIZATION, authorization.clone());
    }
    let response = sender
        .send_request(request)
        .await
        .map_err(ProxyError::NotAProxy)?;
    match response.status() {
        status if status.is_success() => {}
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            return Err(ProxyError::Authentication {
                offered: schemes(response.headers()),
            });
        }
        status => return Err(ProxyError::Refused(status)),
    }
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(ProxyError::NotAProxy)?;
    // Nothing can have been read past the proxy's answer: the relay speaks only when spoken to.
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => Ok(parts.io.into_inner()),
        Err(_) => Err(ProxyError::Refused(StatusCode::OK)),
    }
}

async fn open_by_socks(intercept: &Intercept, target: &str) -> Result<TcpStream, ProxyError> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let mut socks = SocksV5::new(intercept.uri().clone(), http);
    if let Some((user, password)) = intercept.raw_auth() {
        socks = socks.with_auth(user.to_owned(), password.to_owned());
    }
    let uri = Uri::builder()
        .scheme("https")
        .authority(target)
        .path_and_query("/")
        .build();
    let uri = uri.map_err(|error| ProxyError::Socks(Box::new(error)))?;
    let connected = TowerToHyperService::new(socks).call(uri).await;
    connected
        .map(TokioIo::into_inner)
        .map_err(|error| ProxyError::Socks(Box::new(error)))
}

fn port(uri: &Uri) -> u16 {
    let default = if uri
        .scheme_str()
        .is_some_and(|scheme| scheme.starts_with("socks"))
    {
        1080
    } else {
        80
    };
    uri.port_u16().unwrap_or(default)
}

/// The names of the schemes that a proxy offers.
fn schemes(headers: &http::HeaderMap) -> String {
    let offers = headers.get_all(header::PROXY_AUTHENTICATE);
    let names: Vec<&str> = offers
        .iter()
        .filter_map(|offer| offer.to_str().ok()?.split_whitespace().next())
        .collect();
    if names.is_empty() {
        "no scheme".to_owned()
    } else {
        names.join(", ")
    }
}
