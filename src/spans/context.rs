//! `traceparent` (W3C Trace Context): who is above a span, and who is below.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
/// Version, trace, span and flags of version 00, with hyphens between.
const LENGTH: usize = 55;
/// The flag that says that the call is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) trace: [u8; 16],
    pub(super) span: [u8; 8],
    pub(super) is_sampled: bool,
}

impl Context {
    /// What the headers say; nothing when they say nothing, or nothing that can be used.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACE_PARENT).iter();
        let (only, None) = (all.next()?, all.next()) else {
            return None;
        };
        Self::read(only.to_str().ok()?)
    }

    fn read(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let [version] = bytes::<1>(parts.next()?)?;
        // Of later versions what is known of this one is read (section 4.3 of the recommendation).
        let is_whole = match version {
            0xff => false,
            0 => more.is_empty(),
            _ => more.is_empty() || more.starts_with('-'),
        };
        let trace = bytes::<16>(parts.next()?)?;
        let span = bytes::<8>(parts.next()?)?;
        let [flags] = bytes::<1>(parts.next()?)?;
        let is_named = trace != [0; 16] && span != [0; 8];
        (is_whole && is_named && parts.next().is_none()).then_some(Self {
            trace,
            span,
            is_sampled: flags & SAMPLED != 0,
        })
    }

    /// Says so in the headers, from which `above` was read.
    pub(super) fn write(self, headers: &mut HeaderMap, above: Option<Self>) {
        let flags = u8::from(self.is_sampled);
        let text = format!(
            "00-{}-{}-{flags:02x}",
            digits(&self.trace),
            digits(&self.span)
        );
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACE_PARENT, value);
        }
        if above.is_none() {
            // It belongs to the trace that nobody could read.
            headers.remove(TRACE_STATE);
        }
    }
}

/// As both `traceparent` and OTLP's JSON write bytes.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So many bytes in lower-case hexadecimal digits.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 2 * N || !text.bytes().all(is_digit) {
        return None;
    }
    let mut read = [0; N];
    for (byte, digits) in read.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_as_the_recommendation_says() {
        let read = Context::read(GOOD).unwrap();
        assert_eq!(digits(&read.trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(digits(&read.span), "00f067aa0ba902b7");
        assert!(read.is_sampled);
        assert!(
            !Context::read(&GOOD.replace("-01", "-02"))
                .unwrap()
                .is_sampled
        );
        assert!(Context::read(&format!("cc{}-what-comes", &GOOD[2..])).is_some());
        for bad in [
            "",
            &GOOD[1..],
            &format!("{GOOD}-more"),
            &format!("ff{}", &GOOD[2..]),
            &format!("cc{}.more", &GOOD[2..]),
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(Context::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_a_state_that_belongs_to_nothing_ends() {
        let context = Context::read(GOOD).unwrap();
        for (above, states) in [(Some(context), 1), (None, 0)] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACE_STATE, HeaderValue::from_static("a=1"));
            context.write(&mut headers, above);
            assert_eq!(Context::of(&headers), Some(context));
            assert_eq!(headers.get_all(TRACE_STATE).iter().count(), states);
            headers.append(TRACE_PARENT, HeaderValue::from_static(GOOD));
            assert_eq!(Context::of(&headers), None, "two say nothing");
        }
    }
}
