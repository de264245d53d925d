//! The client's functions against an in-process server: values arrive, a broken message does not end a stream, an error
//! keeps its kind, and tap's events are joined with their request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream, stream::BoxStream};
use http::{HeaderMap, Method};
use proxy_api::{
    Error, Kind, Observation, client, decode, encode,
    wire::{
        destination::{DestinationProfile, GetDestination, Update, destination_server as destination},
        tap::{ObserveRequest, TapEvent as WireEvent, tap_server as tap},
    },
};
use proxy_model::{
    Endpoint, EndpointUpdate,
    tap::{Direction, StreamEnd, TapEvent, TapEventKind, TapMatch, TapRequest},
};
use tonic::{Request, Response, Status, transport::Channel};

struct Server;

type Answer<W> = Result<Response<BoxStream<'static, Result<W, Status>>>, Status>;

fn endpoint() -> Endpoint {
    Endpoint::bare("10.0.0.1:8080".parse().expect("addr"))
}

#[tonic::async_trait]
impl destination::Destination for Server {
    type GetStream = BoxStream<'static, Result<Update, Status>>;
    type GetProfileStream = BoxStream<'static, Result<DestinationProfile, Status>>;

    async fn get(&self, request: Request<GetDestination>) -> Answer<Update> {
        let request = decode::get_destination(request.into_inner());
        if request.path != "web.ns:80" {
            return Err(Error::status(Kind::NotFound, format!("no {}", request.path)).into());
        }
        assert_eq!(request.context, "token\n", "passed on as it is");
        let broken = Update { update: None };
        let messages = [
            encode::add(&Default::default(), [&endpoint()]),
            broken,
            encode::remove([endpoint().addr]),
        ];
        let end = Err(Status::failed_precondition("enough"));
        Ok(Response::new(
            stream::iter(messages.map(Ok).into_iter().chain([end])).boxed(),
        ))
    }

    async fn get_profile(&self, _: Request<GetDestination>) -> Answer<DestinationProfile> {
        Ok(Response::new(stream::iter([Ok(DestinationProfile::default())]).boxed()))
    }
}

/// Two requests; the first event of the second is missing.
fn events() -> Vec<TapEvent> {
    let request = Arc::new(TapRequest {
        direction: Direction::Outbound,
        source: "10.0.0.9:1234".parse().expect("addr"),
        source_labels: Default::default(),
        destination: "10.0.0.1:8080".parse().expect("addr"),
        destination_labels: Arc::new([("tls".to_owned(), "true".to_owned())].into()),
        route_labels: Default::default(),
        method: Method::POST,
        scheme: "http".into(),
        authority: "web.ns".into(),
        path: "/vote?x=1".into(),
    });
    let mut headers = HeaderMap::new();
    headers.append("x-a", "1".parse().expect("value"));
    headers.append("x-a", "2".parse().expect("value"));
    let since_request = Duration::from_millis(3);
    let event = |stream, kind| TapEvent {
        request: request.clone(),
        stream,
        kind,
    };
    let init = |status| TapEventKind::ResponseInit {
        since_request,
        status,
        headers: None,
    };
    vec![
        event(
            0,
            TapEventKind::RequestInit {
                headers: Some(headers.clone()),
            },
        ),
        event(1, init(503)),
        event(0, init(200)),
        event(
            0,
            TapEventKind::ResponseEnd {
                since_request,
                since_response: Duration::from_millis(1),
                response_bytes: 42,
                end: StreamEnd::Grpc(14),
                trailers: Some(headers),
            },
        ),
    ]
}

#[tonic::async_trait]
impl tap::Tap for Server {
    type ObserveStream = BoxStream<'static, Result<WireEvent, Status>>;

    async fn observe(&self, request: Request<ObserveRequest>) -> Answer<WireEvent> {
        let observation = decode::observe_request(request.into_inner())?;
        assert!(observation.headers && observation.limit == 2);
        let wire: Vec<_> = events().iter().map(|event| Ok(encode::tap_event(event, 7))).collect();
        Ok(Response::new(stream::iter(wire).boxed()))
    }
}

async fn serve() -> Channel {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("bind");
    let addr = listener.local_addr().expect("address");
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tonic::transport::Server::builder()
        .add_service(destination::DestinationServer::new(Server))
        .add_service(tap::TapServer::new(Server));
    tokio::spawn(server.serve_with_incoming(incoming));
    Channel::from_shared(format!("http://{addr}"))
        .expect("URI")
        .connect()
        .await
        .expect("connected")
}

#[tokio::test]
async fn a_broken_message_does_not_end_a_stream_but_a_status_does() {
    let channel = serve().await;
    let updates = client::get(channel, "web.ns:80", "token\n").await.expect("accepted");
    let updates: Vec<_> = updates.collect().await;
    let add = EndpointUpdate::Add {
        labels: Default::default(),
        endpoints: vec![endpoint()],
    };
    assert_eq!(updates[0], Ok(add));
    assert!(matches!(&updates[1], Err(error @ Error::Invalid { field, .. }) if field == "update" && !error.is_final()));
    assert_eq!(updates[2], Ok(EndpointUpdate::Remove(vec![endpoint().addr])));
    assert_eq!(updates[3], Err(Error::status(Kind::FailedPrecondition, "enough")));
    assert_eq!(updates.len(), 4);
}

#[tokio::test]
async fn errors_keep_their_kind_and_an_empty_profile_is_valid() {
    let channel = serve().await;
    let refused = client::get(channel.clone(), "none:80", "")
        .await
        .map(|_| ())
        .expect_err("refused");
    assert_eq!(refused, Error::status(Kind::NotFound, "no none:80"));
    let unserved = client::watch_inbound(channel.clone(), "w", 80)
        .await
        .map(|_| ())
        .expect_err("refused");
    assert_eq!(unserved.kind(), Kind::Unimplemented);
    let profiles: Vec<_> = client::get_profile(channel, "web.ns:80", "")
        .await
        .expect("accepted")
        .collect()
        .await;
    assert_eq!(profiles, [Ok(Default::default())]);
}

#[tokio::test]
async fn events_are_joined_with_their_request() {
    let observation = Observation {
        matches: TapMatch::All(Vec::new()),
        limit: 2,
        headers: true,
    };
    let seen = client::observe(serve().await, &observation).await.expect("accepted");
    let seen: Vec<TapEvent> = seen.map(|event| event.expect("event")).collect().await;
    let sent: Vec<TapEvent> = events().into_iter().filter(|event| event.stream == 0).collect();
    assert_eq!(format!("{seen:?}"), format!("{sent:?}"));
}
