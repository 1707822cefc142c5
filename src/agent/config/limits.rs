//! The limits of a rule that allows: `max_body`, `max_response`, `response_timeout`, `rate`, `max_in_flight`.

use super::audit::Size;
use super::upstream::{
    DEFAULT_MAX_IN_FLIGHT, DEFAULT_RESPONSE_TIMEOUT, MAX_IN_FLIGHT_CEILING, TIMEOUT_RANGE,
};
use crate::agent::policy::Limits;
use crate::config_file::Section;

/// Each is asked for, and none has a default: without it the upstream's own limit stands, or none.
pub(super) fn check(section: &mut Section<'_>) -> Limits {
    let size = |section: &mut Section<'_>, key| {
        let size = section.optional_parsed(key);
        size.map(|Size(bytes)| bytes)
    };
    let has_timeout = section.has("response_timeout");
    let has_max_in_flight = section.has("max_in_flight");
    Limits {
        max_body: size(section, "max_body"),
        max_response: size(section, "max_response"),
        response_timeout: has_timeout
            .then(|| section.duration("response_timeout", DEFAULT_RESPONSE_TIMEOUT, TIMEOUT_RANGE)),
        rate: section.optional_parsed("rate"),
        max_in_flight: has_max_in_flight.then(|| {
            let range = 1..=MAX_IN_FLIGHT_CEILING;
            section.number("max_in_flight", DEFAULT_MAX_IN_FLIGHT, range)
        }),
    }
}
