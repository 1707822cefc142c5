//! The words for requests that are refused before anything of them is looked at.

use http::header::CONNECTION;
use http::{HeaderValue, Response, StatusCode};

use super::host::Ambiguous;
use crate::body::Body;
use crate::problem::Problem;
use crate::relay::strict::Malformed;

/// The answer to a request that is not HTTP as the relay takes it. The connection ends with it.
pub(super) fn malformed(why: Malformed) -> Response<Body> {
    use StatusCode as S;
    let (status, code, title, remedy) = match why {
        Malformed::TargetTooLong => (
            S::URI_TOO_LONG,
            "target-too-long",
            "The request's target is too long",
            "Send long values in the body.",
        ),
        Malformed::HeadTooLarge | Malformed::TooManyHeaders => (
            S::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "head-too-large",
            "The request's head is too large",
            "Look for cookies that grow.",
        ),
        Malformed::RequestLine
        | Malformed::Version
        | Malformed::Fragment
        | Malformed::Target
        | Malformed::BareLineFeed
        | Malformed::Folded
        | Malformed::HeaderName
        | Malformed::HeaderValue
        | Malformed::Length
        | Malformed::SeveralLengths
        | Malformed::Coding
        | Malformed::LengthAndCoding => (
            S::BAD_REQUEST,
            "malformed-request",
            "The request is not HTTP/1.1 as RFC 9112 has it",
            "Programs on the way could read it differently, so it is not guessed at: correct the client, \
             or the proxy before the relay.",
        ),
    };
    let mut response = answer(
        status,
        code,
        title,
        &format!("{}. {remedy}", sentence(&why.to_string())),
    );
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// The answer to a request whose body turned out to be malformed after its head was passed on.
pub(super) fn malformed_body() -> Response<Body> {
    let detail = "The sizes and ends of lines of its chunks are not as RFC 9112, section 7.1, has them. The service may have seen its beginning. Correct the client, or the proxy before the relay.";
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed-body",
        "The request's body is malformed",
    )
    .proxy_status("relay", "http_request_error", detail)
    .detail(detail)
    .member("delivery", "unknown")
    .into_response()
}

/// The answer to a request of which nobody can say for which host it is.
pub(super) fn ambiguous_host(why: Ambiguous) -> Response<Body> {
    let detail = format!(
        "{}. Send the relay's host and port once, as they stand in the URL.",
        sentence(&why.to_string())
    );
    let title = "The request does not say plainly for which host it is";
    answer(StatusCode::BAD_REQUEST, "ambiguous-host", title, &detail)
}

fn answer(
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: &str,
) -> Response<Body> {
    Problem::new(status, code, title)
        .proxy_status("relay", "http_request_error", detail)
        .detail(detail)
        .member("delivery", "not-sent")
        .into_response()
}

/// A fragment as the beginning of a sentence.
fn sentence(fragment: &str) -> String {
    let mut characters = fragment.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
