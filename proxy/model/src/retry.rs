//! Grammars of retry conditions, as annotations and request headers write them.

use crate::route::GrpcRetry;

/// Parses `5xx,gateway-error,404,500-503` to inclusive ranges of statuses.
pub fn statuses(text: &str) -> Option<Vec<(u16, u16)>> {
    let status = |text: &str| {
        let status = text.trim().parse::<u16>().ok();
        status.filter(|status| (100..600).contains(status))
    };
    let item = |item: &str| match item.trim() {
        "5xx" => Some((500, 599)),
        "gateway-error" => Some((502, 504)),
        item => {
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            status(low).zip(status(high)).filter(|(low, high)| low <= high)
        }
    };
    text.split(',').map(item).collect()
}

/// Parses `cancelled,unavailable`.
pub fn grpc_codes(text: &str) -> Option<GrpcRetry> {
    let mut codes = GrpcRetry::default();
    for item in text.split(',') {
        match item.trim() {
            "cancelled" => codes.cancelled = true,
            "deadline-exceeded" => codes.deadline_exceeded = true,
            "resource-exhausted" => codes.resource_exhausted = true,
            "internal" => codes.internal = true,
            "unavailable" => codes.unavailable = true,
            _ => return None,
        }
    }
    Some(codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_names_numbers_and_ranges() {
        let all = statuses("5xx, gateway-error,404,500-503");
        assert_eq!(all, Some(vec![(500, 599), (502, 504), (404, 404), (500, 503)]));
        for bad in ["", "4xx", "99", "600", "503-500", "500,"] {
            assert_eq!(statuses(bad), None, "{bad}");
        }
    }

    #[test]
    fn grpc_codes_are_names() {
        let codes = grpc_codes("cancelled, unavailable").expect("valid");
        assert!(codes.cancelled && codes.unavailable && !codes.internal);
        assert!(grpc_codes("").is_none() && grpc_codes("unknown").is_none());
    }
}
