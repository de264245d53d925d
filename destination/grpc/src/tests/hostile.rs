//! Hostile clients of a real server: requests that never end, and more streams than a share.

use std::{net::SocketAddr, sync::Mutex as StdMutex, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use linkerd2_proxy_api::destination::GetDestination;
use prost::Message as _;
use proxy_model::limits::{Limit, Value};
use proxy_process::serve::Server;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{service, services, slice};
use crate::{ClientLimits, limits};

const GET: &str = "/io.linkerd.proxy.destination.Destination/Get";

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A server on a port, and the limits that have refused something.
struct Served {
    addr: SocketAddr,
    refusals: std::sync::Arc<StdMutex<Vec<&'static str>>>,
}

async fn serve(limits: ClientLimits) -> Served {
    let service = services(vec![service("web"), slice("web", 1..=2)]).with_client_limits(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let refusals = std::sync::Arc::<StdMutex<Vec<&'static str>>>::default();
    let seen = refusals.clone();
    let server = Server::new("test", move |limit: Limit<Value>| {
        seen.lock().expect("unpoisoned").push(limit.name);
    });
    tokio::spawn(service.serve(server, listener));
    Served { addr, refusals }
}

impl Served {
    fn refused(&self, name: &str) -> usize {
        let refusals = self.refusals.lock().expect("unpoisoned");
        refusals.iter().filter(|refusal| **refusal == name).count()
    }
}

async fn connect(addr: SocketAddr) -> SendRequest<Body> {
    let socket = TcpStream::connect(addr).await.expect("a connection");
    socket.set_nodelay(true).expect("a socket");
    let io = TokioIo::new(socket);
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
    let (client, connection) = handshake.expect("HTTP/2");
    tokio::spawn(connection);
    client
}

fn request(identity: &str, body: Body) -> Request<Body> {
    let request = Request::post(format!("http://control-plane{GET}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let request = match identity {
        "" => request,
        identity => request.header("l5d-client-id", identity),
    };
    request.body(body).expect("a request")
}

/// The one message of a request.
fn whole() -> Body {
    let message = GetDestination {
        path: "web.a.svc.cluster.local:80".to_owned(),
        ..GetDestination::default()
    };
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).expect("the buffer grows");
    Full::new(bytes.freeze()).boxed()
}

/// A body that begins and never ends.
fn endless() -> Body {
    struct Endless(Option<Bytes>);
    impl hyper::body::Body for Endless {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
            match self.0.take() {
                Some(bytes) => std::task::Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None => std::task::Poll::Pending,
            }
        }
    }
    Endless(Some(Bytes::from_static(&[0, 0, 0, 16, 0, 1, 2, 3]))).boxed()
}

async fn send(client: &mut SendRequest<Body>, request: Request<Body>) -> Response<Incoming> {
    client.ready().await.expect("open");
    let answer = timeout(Duration::from_secs(20), client.send_request(request)).await;
    answer.expect("in time").expect("an answer")
}

fn status(response: &Response<Incoming>) -> &str {
    let status = response.headers().get("grpc-status");
    status.map_or("streaming", |status| status.to_str().expect("a number"))
}

/// Asserts that a client is answered, with the endpoints of the Service.
async fn assert_answered(addr: SocketAddr, identity: &str) {
    let mut client = connect(addr).await;
    let mut response = send(&mut client, request(identity, whole())).await;
    assert_eq!(status(&response), "streaming");
    let first = timeout(Duration::from_secs(5), response.body_mut().frame()).await;
    let data = first
        .expect("in time")
        .expect("open")
        .expect("valid")
        .into_data()
        .expect("a message");
    assert!(data.len() > 50, "{data:?}");
}

#[tokio::test]
async fn unfinished_requests_time_out_while_others_are_answered() {
    let served = serve(ClientLimits::default()).await;
    let mut attacker = connect(served.addr).await;
    let mut unfinished = Vec::new();
    for _ in 0..limits::DESTINATION_READS_PER_CLIENT.value + 10 {
        attacker.ready().await.expect("open");
        unfinished.push(tokio::spawn(attacker.send_request(request("attacker", endless()))));
    }
    assert_answered(served.addr, "web").await;
    let mut statuses = std::collections::BTreeMap::<String, usize>::new();
    for answer in unfinished {
        let answer = timeout(limits::DESTINATION_REQUEST_TIME.value * 3, answer).await;
        let answer = answer.expect("in time").expect("no panic").expect("an answer");
        *statuses.entry(status(&answer).to_owned()).or_default() += 1;
    }
    // DEADLINE_EXCEEDED for those that were read, RESOURCE_EXHAUSTED for the others.
    let expected = [
        ("4".to_owned(), limits::DESTINATION_READS_PER_CLIENT.value),
        ("8".to_owned(), 10),
    ];
    assert_eq!(statuses, expected.into());
    assert_eq!(
        served.refused("DESTINATION_REQUEST_TIME"),
        limits::DESTINATION_READS_PER_CLIENT.value
    );
    assert_eq!(served.refused("DESTINATION_READS_PER_CLIENT"), 10);
}

#[tokio::test]
async fn watches_beyond_the_share_of_an_identity_are_refused_while_others_are_answered() {
    const OWN: usize = 1_000;
    let served = serve(ClientLimits {
        per_identity: Limit {
            value: OWN,
            ..limits::DESTINATION_STREAMS_PER_IDENTITY
        },
        ..ClientLimits::default()
    })
    .await;
    // Several connections are one client.
    let mut open = Vec::new();
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..4 {
        let mut attacker = connect(served.addr).await;
        for _ in 0..1_024 {
            let response = send(&mut attacker, request("attacker", whole())).await;
            match status(&response) {
                "streaming" => answered += 1,
                "8" => refused += 1,
                other => panic!("{other}"),
            }
            open.push(response);
        }
        open.push(send(&mut attacker, request("web", whole())).await);
    }
    assert_eq!((answered, refused), (OWN, 4_096 - OWN));
    assert_eq!(served.refused("DESTINATION_STREAMS_PER_IDENTITY"), 4_096 - OWN);
    assert_answered(served.addr, "web").await;
    assert_answered(served.addr, "").await;
    // The share comes back with the streams.
    drop(open);
    let again = async {
        loop {
            let mut client = connect(served.addr).await;
            if status(&send(&mut client, request("attacker", whole())).await) == "streaming" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), again).await.expect("room again");
}

#[tokio::test]
async fn clients_without_identity_share_a_few_streams() {
    let served = serve(ClientLimits::default()).await;
    let mut client = connect(served.addr).await;
    let mut open = Vec::new();
    for _ in 0..limits::DESTINATION_STREAMS_WITHOUT_IDENTITY.value {
        open.push(send(&mut client, request("", whole())).await);
    }
    assert!(open.iter().all(|response| status(response) == "streaming"));
    assert_eq!(status(&send(&mut client, request("", whole())).await), "8");
    assert_eq!(served.refused("DESTINATION_STREAMS_WITHOUT_IDENTITY"), 1);
    assert_answered(served.addr, "web").await;
}

#[tokio::test]
async fn malformed_and_huge_requests_are_refused_with_a_status() {
    let served = serve(ClientLimits::default()).await;
    let mut client = connect(served.addr).await;
    let huge = vec![0; limits::REQUEST_BYTES.value as usize + 6];
    for (body, code) in [
        (vec![], "3"),
        (vec![0, 0, 0, 0], "3"),
        (vec![0, 255, 255, 255, 255, 1], "3"),
        (vec![1, 0, 0, 0, 0], "12"),
        (vec![0, 0, 0, 0, 2, 0xff, 0xff], "3"),
        (huge, "8"),
    ] {
        let body = Full::new(Bytes::from(body)).boxed();
        assert_eq!(status(&send(&mut client, request("attacker", body)).await), code);
    }
    assert_eq!(served.refused("REQUEST_BYTES"), 1);
    assert_answered(served.addr, "attacker").await;
}
