//! When a certificate expires: the one field that its owner should hear of before strangers do.
//!
//! Reads just so much of X.509 (RFC 5280, section 4.1; DER of X.690) as leads to `notAfter`. Judges nothing: what cannot be
//! read has no known end. The certificate is the relay's own, not a stranger's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate in DER form expires.
pub(super) fn expires_at(certificate: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (body, _) = element(certificate, SEQUENCE)?;
    let rest = element(body, VERSION).map_or(body, |(_, rest)| rest);
    // Serial number, algorithm and issuer come before.
    let rest = skip(skip(skip(rest)?)?)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let not_after = skip(validity)?;
    let text = |tag| {
        let (value, _) = element(not_after, tag)?;
        std::str::from_utf8(value).ok()?.strip_suffix('Z')
    };
    match (text(UTC_TIME), text(GENERALIZED_TIME)) {
        // Years of two digits: from 50 on of the last century (RFC 5280, section 4.1.2.5.1).
        (Some(short), _) if short.is_char_boundary(2) => {
            let century = if short.get(..2)? < "50" { "20" } else { "19" };
            time(&format!("{century}{short}"))
        }
        (_, Some(long)) => time(long),
        _ => None,
    }
}

/// The contents of the element that `bytes` begin with, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    (*first == tag).then(|| contents(rest)).flatten()
}

/// What follows the element that `bytes` begin with, whatever it is.
fn skip(bytes: &[u8]) -> Option<&[u8]> {
    let (_, rest) = contents(bytes.get(1..)?)?;
    Some(rest)
}

/// A length, and so many bytes.
fn contents(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = match usize::from(*first) {
        short @ 0..=0x7f => (short, rest),
        // No certificate has gigabytes; 0x80 stands for no length at all, which DER does not have.
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(long - 0x80)?;
            let length = digits
                .iter()
                .fold(0, |length, digit| length << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYYYMMDDHHMMSS`, in UTC.
fn time(text: &str) -> Option<SystemTime> {
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (date, day) = text.split_at(8);
    let (year, month) = date.split_at(4);
    let (month, date) = month.split_at(2);
    let (hour, minute) = day.split_at(2);
    let (minute, second) = minute.split_at(2);
    let written = format!("{year}-{month}-{date}T{hour}:{minute}:{second}Z");
    // Certificates without an end have the year 9999 (RFC 5280, section 4.1.2.5), which fits.
    let time = humantime::parse_rfc3339(&written).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> Vec<u8> {
        let mut parameters =
            rcgen::CertificateParams::new(vec!["relay.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms() {
        let at = |text| humantime::parse_rfc3339(text).ok();
        assert_eq!(expires_at(&certificate(2031)), at("2031-02-28T00:00:00Z"));
        // From 2050 on the longer form.
        assert_eq!(expires_at(&certificate(2075)), at("2075-02-28T00:00:00Z"));
    }

    #[test]
    fn what_is_no_certificate_has_no_end_and_does_no_harm() {
        let whole = certificate(2031);
        for length in 0..whole.len().min(200) {
            let _ = expires_at(&whole[..length]);
        }
        for place in 0..whole.len().min(200) {
            let mut broken = whole.clone();
            broken[place] ^= 0xff;
            let _ = expires_at(&broken);
        }
        assert_eq!(expires_at(b"not a certificate"), None);
        assert_eq!(expires_at(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
