//! One secret in the form in which it is sent: a header, a bearer token, a password, a query parameter.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};

use super::mask::spellings;
use super::query;
use super::renewed::{Flight, Now, Renewed};
use super::source::{Reading, Source};
use super::{CredentialError, NotRenewed};
use crate::secret::Secret;

/// What a value in `Authorization` begins with when it is user name and password in base64.
const BASIC: &[u8] = b"basic";

/// A secret and its form.
#[derive(Debug)]
pub(super) struct Placement {
    form: Form,
    source: Source,
    made: Mutex<Option<Arc<Made>>>,
}

/// In which form a secret is sent.
#[derive(Debug)]
pub(super) enum Form {
    /// The whole value of this header.
    Header(HeaderName),
    /// `Authorization: Bearer …`.
    Bearer,
    /// `Authorization: Basic …`, the password of this user.
    Basic(String),
    /// A parameter of this name in the query.
    Parameter(String),
}

/// A secret in its form.
#[derive(Debug)]
pub(super) struct Made {
    reading: Arc<Reading>,
    renewed: Option<Arc<Renewed>>,
    /// What is sent.
    pub(super) piece: Piece,
    /// What an answer must not hold: each spelling that gives the secret away, longest first.
    pub(super) telling: Vec<Secret<Vec<u8>>>,
}

/// How far a secret is.
pub(super) enum Progress {
    /// It can be sent.
    Made(Arc<Made>),
    /// It is being fetched.
    Fetching(Flight),
}

/// What is sent.
#[derive(Debug)]
pub(super) enum Piece {
    /// A header; its value is marked as sensitive and prints nothing.
    Header(HeaderName, HeaderValue),
    /// A parameter of the query: its name, which needs no escapes, `=` and its value, with escapes.
    Parameter(Secret<String>),
}

/// What is wrong with a secret.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is not to be had.
    Missing(Arc<CredentialError>),
    /// The next one is not to be had; the last one is still good.
    NotRenewed(NotRenewed),
}

impl Placement {
    /// What can be had at once is looked at, so that a missing file is told at start.
    pub(super) fn open(form: Form, source: Source) -> Result<Self, CredentialError> {
        let placement = Self {
            form,
            source,
            made: Mutex::default(),
        };
        if placement.source.renewed().is_none() {
            placement.now()?;
        }
        Ok(placement)
    }

    /// The name of the header that is set, if it is one.
    pub(super) fn header(&self) -> Option<&str> {
        match &self.form {
            Form::Header(name) => Some(name.as_str()),
            Form::Bearer | Form::Basic(_) => Some("authorization"),
            Form::Parameter(_) => None,
        }
    }

    /// The name of the parameter that is added, if it is one.
    pub(super) fn parameter(&self) -> Option<&str> {
        match &self.form {
            Form::Parameter(name) => Some(name),
            Form::Header(_) | Form::Bearer | Form::Basic(_) => None,
        }
    }

    /// The secret in its form, made anew when the secret has changed.
    pub(super) fn now(&self) -> Result<Progress, CredentialError> {
        let reading = match self.source.now()? {
            Now::Ready(reading) => reading,
            Now::Fetching(flight) => return Ok(Progress::Fetching(flight)),
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(made) if Arc::ptr_eq(&made.reading, &reading) => {
                Ok(Progress::Made(Arc::clone(made)))
            }
            _ => {
                let renewed = self.source.renewed().map(Arc::clone);
                let new = Arc::new(self.form.make(reading, renewed)?);
                Ok(Progress::Made(Arc::clone(made.insert(new))))
            }
        }
    }

    /// What is wrong with the secret, as far as is known. Fetches nothing.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let Some(renewed) = self.source.renewed() else {
            return self
                .now()
                .err()
                .map(|error| Trouble::Missing(Arc::new(error)));
        };
        let (error, usable_for) = renewed.failure()?;
        Some(if usable_for.is_zero() {
            Trouble::Missing(error)
        } else {
            Trouble::NotRenewed(NotRenewed { error, usable_for })
        })
    }
}

impl Made {
    /// An upstream answered 401: what was fetched may have ended before its time.
    pub(super) fn was_refused(&self) {
        if let Some(renewed) = &self.renewed {
            renewed.was_refused(&self.reading);
        }
    }
}

#[cfg(test)]
impl Placement {
    pub(super) const fn source(&self) -> &Source {
        &self.source
    }
}

impl Form {
    fn make(
        &self,
        reading: Arc<Reading>,
        renewed: Option<Arc<Renewed>>,
    ) -> Result<Made, CredentialError> {
        let secret = reading.expose();
        let (piece, telling) = match self {
            Self::Header(name) => {
                let value = sensitive(&reading, secret)?;
                (Piece::Header(name.clone(), value), within(secret))
            }
            Self::Bearer => {
                let whole = Secret::new([b"Bearer ", secret].concat());
                let value = sensitive(&reading, whole.expose())?;
                (Piece::Header(AUTHORIZATION, value), spellings([secret]))
            }
            Self::Basic(username) => {
                let pair = Secret::new([username.as_bytes(), b":", secret].concat());
                let whole = Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())));
                let value = sensitive(&reading, whole.expose().as_bytes())?;
                let telling = spellings([pair.expose(), secret]);
                (Piece::Header(AUTHORIZATION, value), telling)
            }
            Self::Parameter(name) => {
                let value = Secret::new(query::escape(secret));
                let escaped = Secret::new(format!("{name}={}", value.expose()));
                (Piece::Parameter(escaped), spellings([secret]))
            }
        };
        Ok(Made {
            reading,
            renewed,
            piece,
            telling,
        })
    }
}

fn sensitive(reading: &Reading, bytes: &[u8]) -> Result<HeaderValue, CredentialError> {
    let refused = |_| CredentialError::Unusable(reading.origin().to_owned());
    let mut value = HeaderValue::from_bytes(bytes).map_err(refused)?;
    value.set_sensitive(true);
    Ok(value)
}

/// What gives a header's value away: all of it, what stands after a scheme such as `Bearer`, and, where
/// that is user name and password in base64, both of them and the password.
fn within(value: &[u8]) -> Vec<Secret<Vec<u8>>> {
    let mut parts = value.splitn(2, |byte| *byte == b' ');
    let (Some(scheme), Some(token)) = (parts.next(), parts.next()) else {
        return spellings([value]);
    };
    let token = token.trim_ascii();
    let is_basic = scheme.eq_ignore_ascii_case(BASIC);
    let pair = STANDARD
        .decode(token)
        .or_else(|_| STANDARD_NO_PAD.decode(token));
    let Some(pair) = pair.ok().filter(|_| is_basic).map(Secret::new) else {
        return spellings([value, token]);
    };
    let pair = pair.expose().as_slice();
    let password = pair.splitn(2, |byte| *byte == b':').nth(1);
    spellings([value, token, pair, password.unwrap_or_default()])
}
