//! Clients: many streams over few connections, which count messages and note when each came.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use proxy_api::{DestinationRequest, InboundRequest, OutboundRequest, encode};
use proxy_model::OutboundTarget;
use tokio::{net::TcpStream, sync::Notify, task::JoinSet, time::timeout};

use super::{
    objects::{self, Kind, NAMESPACE, PODS},
    program::Program,
};

/// Time for all streams to have a message.
const PATIENCE: Duration = Duration::from_secs(20);
/// Calls under way while streams are opened.
const AT_ONCE: usize = 64;

#[derive(Default)]
struct Came {
    /// When each stream got its last message; none before the first.
    last: Mutex<Vec<Option<Instant>>>,
    changed: Notify,
}

impl Came {
    fn last(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Open streams; they close with this.
pub(crate) struct Streams {
    came: Arc<Came>,
    tasks: JoinSet<()>,
}

impl Streams {
    /// Opens streams and waits for the first message of each.
    pub(crate) async fn open(program: &Program, kind: Kind, number: usize, connections: usize) -> Result<Self> {
        let addr = match kind {
            Kind::Endpoints | Kind::Profile => program.destination,
            Kind::Outbound | Kind::Inbound => program.policy,
        };
        let came = Arc::new(Came::default());
        came.last().resize(number, None);
        let mut streams = Self {
            came,
            tasks: JoinSet::new(),
        };
        let mut senders = vec![];
        for _ in 0..connections.min(number) {
            senders.push(streams.connect(addr).await?);
        }
        let mut opening = JoinSet::new();
        let since = Instant::now();
        for stream in 0..number {
            let sender = senders[stream % senders.len()].clone();
            opening.spawn(call(sender, kind, stream, number));
            if opening.len() >= AT_ONCE {
                streams.opened(opening.join_next().await)?;
            }
        }
        while let Some(opened) = opening.join_next().await {
            streams.opened(Some(opened))?;
        }
        streams.until_all(since).await?;
        Ok(streams)
    }

    async fn connect(&mut self, addr: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
        let io = TcpStream::connect(addr).await?;
        io.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        self.tasks.spawn(async move {
            // It ends with the benchmark, or each of its streams says why.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn opened(&mut self, opened: Option<Result<Result<(usize, Incoming)>, tokio::task::JoinError>>) -> Result<()> {
        let (stream, body) = opened.context("nothing was opened")???;
        let came = self.came.clone();
        self.tasks.spawn(read(stream, body, came));
        Ok(())
    }

    /// Waits until every stream got a message after `since`; says how long each waited.
    pub(crate) async fn until_all(&self, since: Instant) -> Result<Vec<Duration>> {
        let all = async {
            loop {
                let changed = self.came.changed.notified();
                let missing = self.came.last().iter().any(|at| at.is_none_or(|at| at < since));
                if !missing {
                    return;
                }
                changed.await;
            }
        };
        if timeout(PATIENCE, all).await.is_err() {
            let missing = self
                .came
                .last()
                .iter()
                .filter(|at| at.is_none_or(|at| at < since))
                .count();
            bail!("{missing} streams have no message after {PATIENCE:?}");
        }
        let last = self.came.last();
        Ok(last.iter().flatten().map(|at| at.duration_since(since)).collect())
    }
}

/// Notes each message of a stream.
async fn read(stream: usize, mut body: Incoming, came: Arc<Came>) {
    let mut buffer = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Some(data) = frame.data_ref() else { return };
        buffer.put_slice(data);
        let mut whole = false;
        while let Some(length) = buffer.get(1..5) {
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            if buffer.len() < 5 + length {
                break;
            }
            let _ = buffer.split_to(5 + length);
            whole = true;
        }
        if whole {
            buffer = BytesMut::new();
            came.last()[stream] = Some(Instant::now());
            came.changed.notify_one();
        }
    }
}

async fn call(mut sender: SendRequest<Full<Bytes>>, kind: Kind, stream: usize, of: usize) -> Result<(usize, Incoming)> {
    let (path, message) = question(kind, stream, of);
    let mut body = BytesMut::with_capacity(5 + message.len());
    body.put_u8(0);
    body.put_u32(message.len() as u32);
    body.put_slice(&message);
    let request = Request::post(format!("http://control-plane{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(body.freeze()))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let refused = response.headers().get("grpc-message").cloned();
    ensure!(refused.is_none(), "a stream was refused: {refused:?}");
    Ok((stream, response.into_body()))
}

fn question(kind: Kind, stream: usize, of: usize) -> (&'static str, Vec<u8>) {
    let token = objects::token(stream);
    let destination = |path: &str| {
        let (path, context) = (path.to_owned(), token.clone());
        encode::get_destination(&DestinationRequest { path, context }).encode_to_vec()
    };
    match kind {
        Kind::Endpoints => (
            "/io.linkerd.proxy.destination.Destination/Get",
            destination(&format!("web.{NAMESPACE}.svc.cluster.local:80")),
        ),
        Kind::Profile => (
            "/io.linkerd.proxy.destination.Destination/GetProfile",
            destination("10.9.0.1:80"),
        ),
        Kind::Outbound => {
            let target = OutboundTarget::Addr("10.9.0.1:80".parse().expect("an address"));
            let request = OutboundRequest {
                workload: token,
                target,
            };
            let message = encode::traffic_spec(&request).encode_to_vec();
            ("/io.linkerd.proxy.outbound.OutboundPolicies/Watch", message)
        }
        Kind::Inbound => {
            // Every port of every pod has a policy of its own, as sidecars ask.
            let pod = stream % PODS.min(of);
            let request = InboundRequest {
                workload: format!(r#"{{"ns":"{NAMESPACE}","pod":"web-{pod}"}}"#),
                port: 8_000 + u16::try_from(stream / PODS).unwrap_or(0),
            };
            let message = encode::port_spec(&request).encode_to_vec();
            ("/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort", message)
        }
    }
}
