//! Time that an overloaded endpoint asks its clients to wait.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use crate::classify::is_grpc;

/// Returns the wait that a response asks for: `retry-after` of a 429 or 503 (seconds or a date), or
/// `grpc-retry-pushback-ms` of the gRPC statuses 8 and 14. Other responses say nothing about load.
pub fn hint(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if let Some(code) = grpc_status(status, headers) {
        let pushback = || text(headers, "grpc-retry-pushback-ms")?.parse().ok();
        return matches!(code, 8 | 14)
            .then(pushback)
            .flatten()
            .map(Duration::from_millis);
    }
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let value = text(headers, header::RETRY_AFTER.as_str())?;
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// gRPC status in the head of a gRPC response.
pub(crate) fn grpc_status(status: StatusCode, headers: &HeaderMap) -> Option<u32> {
    (status == StatusCode::OK && is_grpc(headers)).then(|| text(headers, "grpc-status")?.parse().ok())?
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let value = |text: &&'static str| http::HeaderValue::from_static(text);
        pairs
            .iter()
            .map(|(name, text)| (http::HeaderName::from_static(name), value(text)))
            .collect()
    }

    #[test]
    fn only_overload_hints() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = headers(&[("retry-after", " 7 ")]);
        for (status, wait) in [
            (429, Some(7)),
            (503, Some(7)),
            (500, None),
            (502, None),
            (504, None),
            (200, None),
        ] {
            let status = StatusCode::from_u16(status).expect("valid");
            assert_eq!(hint(status, &seconds, now), wait.map(Duration::from_secs), "{status}");
        }
        // A date in the past asks for nothing, and junk is ignored.
        for (text, wait) in [
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let found = hint(StatusCode::SERVICE_UNAVAILABLE, &headers(&[("retry-after", text)]), now);
            assert_eq!(found, wait.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn grpc_has_a_hint_of_its_own() {
        let now = SystemTime::UNIX_EPOCH;
        let grpc = |code, kind| {
            headers(&[
                ("content-type", kind),
                ("grpc-status", code),
                ("grpc-retry-pushback-ms", "250"),
            ])
        };
        for (code, found) in [("8", true), ("14", true), ("13", false), ("0", false)] {
            let wait = hint(StatusCode::OK, &grpc(code, "application/grpc+proto"), now);
            assert_eq!(wait, found.then_some(Duration::from_millis(250)), "{code}");
        }
        assert_eq!(hint(StatusCode::OK, &grpc("8", "text/plain"), now), None);
    }
}
