//! Tests of the messages of viz, in and out.

use super::*;
use crate::Kind;

#[test]
fn a_request_of_linkerds_command_line_is_read() {
    let http = |kind| Match {
        kind: Some(MatchKind::Http(HttpMatch { kind: Some(kind) })),
    };
    let to = ResourceSelection {
        resource: Some(ResourceName {
            namespace: "vote".into(),
            kind: "deployment".into(),
            name: "voting".into(),
        }),
        label_selector: String::new(),
    };
    let to = Match {
        kind: Some(MatchKind::Destinations(to)),
    };
    let matches = vec![
        to,
        http(HttpMatchKind::Path("/a".into())),
        http(HttpMatchKind::Method("GET".into())),
    ];
    let all = MatchKind::All(MatchSeq { matches });
    let mut wire = TapByResourceRequest {
        target: Some(ResourceSelection {
            resource: Some(ResourceName {
                namespace: "vote".into(),
                kind: "deployment".into(),
                name: "web".into(),
            }),
            label_selector: "app=web".into(),
        }),
        matches: Some(Match { kind: Some(all) }),
        max_rps: 50.0,
        extract: Some(Extract {}),
    };
    let read = decode(&wire.encode_to_vec()).expect("valid");
    assert_eq!(read.resource, Resource::named(Kind::Deployment, "web"));
    assert_eq!(
        (read.namespace.as_deref(), read.labels.as_deref()),
        (Some("vote"), Some("app=web"))
    );
    assert_eq!(
        (read.path.as_deref(), read.method.as_deref()),
        (Some("/a"), Some("GET"))
    );
    assert_eq!((read.max_rps, read.headers), (Some(50), true));
    assert_eq!(read.to, Some(Resource::named(Kind::Deployment, "voting")));

    let not = MatchKind::Not(Box::default());
    wire.matches = Some(Match { kind: Some(not) });
    assert!(decode(&wire.encode_to_vec()).is_err_and(|e| e.to_string().starts_with("invalid field match:")));
    assert!(decode(b"\xff\xff").is_err());
}

#[test]
fn an_event_has_its_length_before_it() {
    let event = tap::TapEvent {
        source: Some(Peer {
            ip: "10.0.0.1".into(),
            port: 80,
            ..Peer::default()
        }),
        proxy_direction: "INBOUND".into(),
        request_init_event: Some(tap::RequestInit {
            method: "POST".into(),
            path: "/x".into(),
            ..tap::RequestInit::default()
        }),
        ..tap::TapEvent::default()
    };
    let bytes = encode(&event);
    let (length, rest) = bytes.split_first_chunk::<4>().expect("a length");
    assert_eq!(u32::from_le_bytes(*length) as usize, rest.len());
    let read = Event::decode(rest).expect("a message");
    let source = read.source.expect("a source");
    assert_eq!(source.ip.and_then(|ip| ip.kind), Some(IpKind::V4(0x0a00_0001)));
    assert_eq!((source.port, read.proxy_direction), (80, 1));
    let Some(HttpKind::RequestInit(init)) = read.http.and_then(|http| http.kind) else {
        panic!("a request's head")
    };
    assert_eq!(init.method.and_then(|m| m.kind), Some(RegisteredKind::Known(1)));
}
