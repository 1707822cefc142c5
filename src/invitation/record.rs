//! The fields between header and checksum, version 1. The table is in `docs/invitation-code.md`.
//!
//! One form for given values: what is read is what would be written, or it is refused.

use super::{Invitation, InvitationError, Mode, RelayUrl, TlsPin};
use crate::identity::{ConnectionId, PublicKey, SigningKey};
use crate::name::Name;
use crate::secret::Secret;

/// The version of the record that this module writes and reads.
pub(super) const VERSION: u8 = 1;

/// The relay speaks TLS.
const FLAG_TLS: u8 = 1;
/// A TLS pin is there.
const FLAG_PIN: u8 = 2;
/// The connection has a name other than the default.
const FLAG_NAME: u8 = 4;
/// The only mode there is.
const MODE_SCRIPT: u8 = 1;
/// More bytes than a record can have (three names, an address, the fixed fields), so that the buffer never moves.
const CAPACITY: usize = 1024;

/// The record of an invitation. Secret: it holds the one-time key.
pub(super) fn write(invitation: &Invitation) -> Secret<Vec<u8>> {
    let own_name = has_own_name(invitation);
    let flags = [
        (invitation.relay_url.is_tls(), FLAG_TLS),
        (invitation.tls_pin.is_some(), FLAG_PIN),
        (own_name, FLAG_NAME),
    ];
    let flags = flags
        .iter()
        .filter(|(is_set, _)| *is_set)
        .fold(0, |all, (_, flag)| all | flag);
    let mode = match invitation.mode {
        Mode::Script => MODE_SCRIPT,
    };
    let mut bytes = Vec::with_capacity(CAPACITY);
    bytes.extend_from_slice(invitation.connection.as_bytes());
    bytes.extend_from_slice(invitation.one_time_key.seed().expose());
    bytes.extend_from_slice(invitation.relay_identity.as_bytes());
    bytes.extend_from_slice(&invitation.expires.to_be_bytes());
    bytes.push(flags);
    bytes.push(mode);
    if let Some(pin) = &invitation.tls_pin {
        bytes.extend_from_slice(pin.as_bytes());
    }
    write_text(&mut bytes, &invitation.relay_url.address());
    write_text(&mut bytes, invitation.local.as_str());
    write_text(&mut bytes, invitation.remote.as_str());
    if own_name {
        write_text(&mut bytes, invitation.name.as_str());
    }
    Secret::new(bytes)
}

/// Reads a record whose checksum was right.
pub(super) fn read(bytes: &[u8]) -> Result<Invitation, InvitationError> {
    let mut reader = Reader { rest: bytes };
    let connection = ConnectionId::from_bytes(reader.array("connection id")?);
    let one_time_key = SigningKey::from_seed(reader.array("one-time key")?)
        .map_err(|_| damaged("one-time key"))?;
    let relay_identity = PublicKey::from_bytes(reader.array("relay identity")?);
    let expires = u64::from_be_bytes(reader.array("expiry")?);
    let [flags] = reader.array("flags")?;
    let [mode] = reader.array("mode")?;
    let has = |flag: u8| flags & flag != 0;
    let is_known = flags & !(FLAG_TLS | FLAG_PIN | FLAG_NAME) == 0;
    if !is_known || has(FLAG_PIN) && !has(FLAG_TLS) {
        return Err(damaged("flags"));
    }
    let mode = match mode {
        MODE_SCRIPT => Mode::Script,
        _ => return Err(damaged("mode")),
    };
    let tls_pin = if has(FLAG_PIN) {
        Some(TlsPin::from_bytes(reader.array("TLS pin")?))
    } else {
        None
    };
    let relay_url = RelayUrl::from_address(has(FLAG_TLS), reader.text("relay address")?)
        .ok_or_else(|| damaged("relay address"))?;
    let local = reader.name("public side's short name")?;
    let remote = reader.name("private side's short name")?;
    let name = if has(FLAG_NAME) {
        reader.name("connection name")?
    } else {
        Name::of_connection(&local, &remote).map_err(|_| damaged("connection name"))?
    };
    if !reader.rest.is_empty() {
        return Err(damaged("end"));
    }
    let invitation = Invitation {
        relay_url,
        connection,
        one_time_key,
        relay_identity,
        tls_pin,
        name,
        local,
        remote,
        mode,
        expires,
    };
    if has(FLAG_NAME) != has_own_name(&invitation) {
        return Err(damaged("connection name"));
    }
    Ok(invitation)
}

/// Whether the connection's name is not the one that follows from the short names.
fn has_own_name(invitation: &Invitation) -> bool {
    Name::of_connection(&invitation.local, &invitation.remote)
        .map_or(true, |default| default != invitation.name)
}

/// Writes the length and the text. Addresses have at most 255 bytes and names 64, so the length fits.
fn write_text(bytes: &mut Vec<u8>, text: &str) {
    debug_assert!(text.len() <= usize::from(u8::MAX));
    bytes.push(text.len() as u8);
    bytes.extend_from_slice(text.as_bytes());
}

const fn damaged(field: &'static str) -> InvitationError {
    InvitationError::DamagedField { field }
}

/// What is still to be read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], InvitationError> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| damaged(field))?;
        self.rest = rest;
        Ok(*array)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, InvitationError> {
        let [length] = self.array(field)?;
        let (text, rest) = self
            .rest
            .split_at_checked(usize::from(length))
            .ok_or_else(|| damaged(field))?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| damaged(field))
    }

    fn name(&mut self, field: &'static str) -> Result<Name, InvitationError> {
        self.text(field)?.parse().map_err(|_| damaged(field))
    }
}
