//! Events of a proxy's tap in the form of the API.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderMap;
use proxy_model::{
    Labels,
    tap::{Direction, StreamEnd, TapEvent, TapEventKind},
};
use viz_api::tap::{Header, Peer, RequestInit, ResponseEnd, ResponseInit, StreamId};

/// Returns whether it is the first event of a request.
pub(crate) fn is_first(event: &TapEvent) -> bool {
    matches!(event.kind, TapEventKind::RequestInit { .. })
}

/// Encodes an event of observation `base` at `pod`.
pub(crate) fn encode(event: &TapEvent, base: u32, pod: &str) -> viz_api::TapEvent {
    let request = &event.request;
    let direction = match request.direction {
        Direction::Inbound => "INBOUND",
        Direction::Outbound => "OUTBOUND",
    };
    let mut out = viz_api::TapEvent {
        source: Some(peer(request.source, &request.source_labels)),
        destination: Some(peer(request.destination, &request.destination_labels)),
        route_meta: labels(&request.route_labels),
        proxy_direction: direction.to_owned(),
        pod: pod.to_owned(),
        ..viz_api::TapEvent::default()
    };
    let id = StreamId {
        base,
        stream: event.stream,
    };
    match &event.kind {
        TapEventKind::RequestInit { headers } => {
            out.request_init_event = Some(RequestInit {
                id,
                method: request.method.to_string(),
                scheme: request.scheme.clone(),
                authority: request.authority.clone(),
                path: request.path.clone(),
                headers: encode_headers(headers.as_ref()),
            });
        }
        TapEventKind::ResponseInit {
            since_request,
            status,
            headers,
        } => {
            out.response_init_event = Some(ResponseInit {
                id,
                since_request_init: nanos(*since_request),
                http_status: *status,
                headers: encode_headers(headers.as_ref()),
            });
        }
        TapEventKind::ResponseEnd {
            since_request,
            since_response,
            response_bytes,
            end,
            trailers,
        } => {
            let (grpc_status_code, reset_error_code) = match end {
                StreamEnd::Complete => (None, None),
                StreamEnd::Grpc(code) => (Some(*code), None),
                StreamEnd::Reset(code) => (None, Some(*code)),
            };
            out.response_end_event = Some(ResponseEnd {
                id,
                since_request_init: nanos(*since_request),
                since_response_init: nanos(*since_response),
                response_bytes: *response_bytes,
                trailers: encode_headers(trailers.as_ref()),
                grpc_status_code,
                reset_error_code,
            });
        }
    }
    out
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

fn peer(addr: SocketAddr, metadata: &Labels) -> Peer {
    Peer {
        ip: addr.ip().to_string(),
        port: addr.port(),
        metadata: labels(metadata),
    }
}

fn labels(labels: &Labels) -> BTreeMap<String, String> {
    BTreeMap::clone(labels)
}

fn encode_headers(headers: Option<&HeaderMap>) -> Vec<Header> {
    let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let text = value.to_str().ok().map(str::to_owned);
        let value_bin = text.is_none().then(|| BASE64_STANDARD.encode(value.as_bytes()));
        Header {
            name: name.to_string(),
            value_str: text,
            value_bin,
        }
    };
    headers.into_iter().flatten().map(header).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proxy_model::tap::TapRequest;

    use super::*;

    #[test]
    fn events_have_the_form_of_linkerd() {
        let request = TapRequest {
            direction: Direction::Outbound,
            source: ([10, 0, 0, 1], 5555).into(),
            source_labels: Labels::default(),
            destination: ([10, 0, 0, 2], 8080).into(),
            destination_labels: Arc::new([("tls".to_owned(), "true".to_owned())].into()),
            route_labels: Labels::default(),
            method: http::Method::GET,
            scheme: "http".into(),
            authority: "web".into(),
            path: "/x".into(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            "x",
            http::HeaderValue::from_bytes(b"\xff").expect("opaque bytes are valid"),
        );
        let kind = TapEventKind::ResponseInit {
            since_request: Duration::from_micros(5),
            status: 200,
            headers: Some(headers),
        };
        let event = TapEvent {
            request: Arc::new(request),
            stream: 7,
            kind,
        };
        let json = serde_json::to_value(encode(&event, 3, "vote/web-1")).expect("plain values");
        assert_eq!(
            json["destination"],
            serde_json::json!({"ip": "10.0.0.2", "port": 8080, "metadata": {"tls": "true"}})
        );
        assert_eq!(json["proxyDirection"], "OUTBOUND");
        let init = &json["responseInitEvent"];
        assert_eq!(
            (&init["sinceRequestInit"], &init["httpStatus"]),
            (&5000.into(), &200.into())
        );
        assert_eq!(init["id"], serde_json::json!({"base": 3, "stream": 7}));
        assert_eq!(init["headers"][0], serde_json::json!({"name": "x", "valueBin": "/w=="}));
    }
}
