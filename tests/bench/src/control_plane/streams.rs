//! Clients: many streams over few connections on one thread, which record the time of each message.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use prost::Message as _;
use proxy_api::{DestinationRequest, InboundRequest, OutboundRequest, encode};
use proxy_model::OutboundTarget;
use tests_harness::cluster::{
    destination::Program,
    objects::{self, Kind, NAMESPACE, PODS},
};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::wire::{Call, Connection};

/// Timeout of all streams for a message.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two checks.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Came {
    /// Time of the last message of each stream; none before the first.
    last: Vec<Option<Instant>>,
    failed: Option<String>,
}

/// Open streams, closed when dropped.
pub(crate) struct Streams {
    came: Arc<Mutex<Came>>,
    /// File in which the kernel accounts for the thread.
    usage: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Streams {
    /// Opens streams and waits for the first message of each.
    pub(crate) async fn open(program: &Program, kind: Kind, number: usize, connections: usize) -> Result<Self> {
        let addr = match kind {
            Kind::Endpoints | Kind::Profile => program.destination,
            Kind::Outbound | Kind::Inbound => program.policy,
        };
        let since = Instant::now();
        let connections = connections.min(number);
        let mut calls: Vec<Vec<Call>> = (0..connections).map(|_| vec![]).collect();
        for stream in 0..number {
            let (path, message) = question(kind, stream, number);
            let call = Call {
                number: stream,
                path,
                message,
            };
            calls[stream % connections].push(call);
        }
        let came = Arc::new(Mutex::new(Came {
            last: vec![None; number],
            failed: None,
        }));
        let (stop, stopped) = oneshot::channel::<()>();
        let (at, usage) = oneshot::channel();
        let told = came.clone();
        let thread = std::thread::spawn(move || {
            // Who asks is gone only when the benchmark ends.
            let _ = at.send(std::fs::read_link("/proc/thread-self"));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread");
            runtime.block_on(async move {
                let mut open = JoinSet::new();
                for calls in calls {
                    let told = told.clone();
                    open.spawn(async move {
                        let connection = Connection::new(addr, calls).await?;
                        connection.run(|streams| note(&told, streams)).await
                    });
                }
                tokio::select! {
                    Some(Ok(Err(error))) = open.join_next() => lock(&told).failed = Some(format!("{error:#}")),
                    _ = stopped => {}
                }
            });
        });
        let streams = Self {
            came,
            usage: PathBuf::from("/proc").join(usage.await??),
            stop: Some(stop),
            thread: Some(thread),
        };
        streams.until_all(since).await?;
        Ok(streams)
    }

    /// Waits until every stream has a message after `since`; returns the time of each.
    pub(crate) async fn until_all(&self, since: Instant) -> Result<Vec<Duration>> {
        let missing = || {
            let came = lock(&self.came);
            ensure!(came.failed.is_none(), "{}", came.failed.clone().unwrap_or_default());
            Ok(came.last.iter().filter(|at| at.is_none_or(|at| at < since)).count())
        };
        let all = async {
            while missing()? > 0 {
                sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        match timeout(PATIENCE, all).await {
            Ok(done) => done?,
            Err(_) => bail!("{} streams have no message after {PATIENCE:?}", missing()?),
        }
        let came = lock(&self.came);
        Ok(came.last.iter().flatten().map(|at| at.duration_since(since)).collect())
    }

    /// CPU time that the clients have used.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let text = std::fs::read_to_string(self.usage.join("schedstat"))?;
        let used = text.split(' ').next().and_then(|used| used.parse().ok());
        Ok(Duration::from_nanos(
            used.context("a thread's schedstat is not as expected")?,
        ))
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A failure has been reported.
            let _ = thread.join();
        }
    }
}

fn lock(came: &Mutex<Came>) -> MutexGuard<'_, Came> {
    came.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(came: &Mutex<Came>, streams: &[(usize, Instant)]) {
    let mut came = lock(came);
    for (stream, at) in streams {
        came.last[*stream] = Some(*at);
    }
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
