//! Live requests: one observation at the proxy of each matching pod, merged into one stream.
//!
//! A proxy reports a limited number of requests per observation. To limit the rate, an observation lasts for a second
//! and is then repeated, as in Linkerd.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::StreamExt;
use proxy_api::{Kind as Code, Observation};
use proxy_model::tap::{TapMatch, TextMatch};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    metadata::{Ascii, MetadataValue},
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use viz_api::{Kind, Problem, Resource, TapRequest, tap::Peer};
use viz_query::{Error, Objects, Pod, objects::LabelSelector};

use crate::{event, metrics::Metrics, rejection::Rejection};

/// Concurrent taps; each observes many proxies.
const TAPS: usize = 16;
/// Lines buffered for one reader; more are dropped and counted, so that a slow terminal cannot exhaust memory.
const LINES: usize = 1024;
/// Pods of one tap; each takes a connection.
const PODS: usize = 200;
/// Default requests per second of a tap, as in Linkerd.
const RPS: u32 = 100;
/// Length of an observation.
const OBSERVATION: Duration = Duration::from_secs(1);
/// Timeout of connecting to a proxy.
const CONNECT: Duration = Duration::from_secs(2);
/// Time between two attempts at a proxy that fails.
const RETRY: Duration = Duration::from_secs(1);

/// Running taps.
#[derive(Clone)]
pub(crate) struct Taps {
    free: Arc<Semaphore>,
    objects: watch::Receiver<Arc<Objects>>,
    metrics: Metrics,
    stop: CancellationToken,
}

/// Encoding of events.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A JSON object per line, errors included.
    Lines,
    /// Linkerd's protobuf messages, which have no place for errors.
    Messages,
}

impl Encoding {
    fn media_type(self) -> &'static str {
        match self {
            Self::Lines => viz_api::cluster::LINES,
            Self::Messages => viz_api::wire::MESSAGES,
        }
    }
}

impl Taps {
    pub(crate) fn new(objects: watch::Receiver<Arc<Objects>>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self {
            free: Arc::new(Semaphore::new(TAPS)),
            objects,
            metrics,
            stop,
        }
    }

    /// Starts a tap; the body of the response is the events.
    pub(crate) fn start(&self, request: &TapRequest, encoding: Encoding) -> Result<Response, Rejection> {
        let bad = |text: String| Rejection(StatusCode::BAD_REQUEST, text);
        let objects = Arc::clone(&self.objects.borrow());
        let matches = matches(request, &objects).map_err(bad)?;
        let pods = pods(request, &objects)?;
        let permit = Arc::clone(&self.free).try_acquire_owned();
        let permit = permit.map_err(|_| {
            Rejection(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("too many taps: at most {TAPS} run at a time"),
            )
        })?;
        let limit = (request.max_rps.unwrap_or(RPS) / pods.len() as u32).max(1);
        let (lines, receiver) = mpsc::channel(LINES);
        let tap = Arc::new(Tap {
            observation: Observation {
                limit,
                matches,
                headers: request.headers,
            },
            encoding,
            objects: self.objects.clone(),
            lines,
            metrics: self.metrics.clone(),
            lost: AtomicU64::new(0),
            bases: AtomicU32::new(0),
            answering: AtomicUsize::new(pods.len()),
            refused: CancellationToken::new(),
        });
        tokio::spawn(run(tap, pods, permit, self.stop.clone()));
        let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>));
        Ok(([(header::CONTENT_TYPE, encoding.media_type())], body).into_response())
    }
}

/// Returns the pods to observe.
fn pods(request: &TapRequest, objects: &Objects) -> Result<Vec<Arc<Pod>>, Rejection> {
    let selector = request
        .labels
        .as_deref()
        .map(LabelSelector::parse)
        .transpose()
        .map_err(Error::Selector)?;
    let wanted = |pod: &&Arc<Pod>| {
        pod.is_running()
            && pod.metrics_addr().is_some()
            && pod.belongs_to(&request.resource, request.namespace.as_deref())
            && selector.as_ref().is_none_or(|s| s.matches(&pod.labels))
    };
    let meshed = objects.pods.iter().filter(wanted);
    let (pods, untapped): (Vec<_>, Vec<_>) = meshed.cloned().partition(|pod| pod.tap_addr().is_some());
    if let Some(pod) = untapped.first().filter(|_| pods.is_empty()) {
        let text = format!(
            "cannot tap {}: the proxy of {}/{} was started without tap (annotation viz.linkerd.io/disable-tap, or \
             before tap was enabled: restart it)",
            request.resource, pod.key.namespace, pod.key.name
        );
        return Err(Rejection(StatusCode::NOT_FOUND, text));
    }
    let place = request
        .namespace
        .as_deref()
        .map_or_else(String::new, |ns| format!(" in namespace {ns}"));
    match pods.len() {
        0 => Err(Rejection(
            StatusCode::NOT_FOUND,
            format!("no meshed pod of {} is running{place}", request.resource),
        )),
        n if n > PODS => {
            let text = format!(
                "{} has {n} pods{place}, more than the {PODS} of one tap: name one, or select by label",
                request.resource
            );
            Err(Rejection(StatusCode::BAD_REQUEST, text))
        }
        _ => Ok(pods),
    }
}

/// Returns the match of a tap.
fn matches(request: &TapRequest, objects: &Objects) -> Result<TapMatch, String> {
    if matches!(request.resource.kind, Kind::Service | Kind::Authority) {
        return Err(format!(
            "{} cannot be tapped: only pods, their owners and namespaces can",
            request.resource.kind
        ));
    }
    if request.max_rps == Some(0) {
        return Err("invalid --max-rps 0: it would show nothing".to_owned());
    }
    let mut all = Vec::new();
    if let Some(scheme) = &request.scheme {
        all.push(TapMatch::Scheme(scheme.clone()));
    }
    if let Some(method) = &request.method {
        let method = method
            .to_ascii_uppercase()
            .parse()
            .map_err(|_| format!("invalid --method {method:?}: not an HTTP method"))?;
        all.push(TapMatch::Method(method));
    }
    if let Some(authority) = &request.authority {
        all.push(TapMatch::Authority(TextMatch::Exact(authority.clone())));
    }
    if let Some(path) = &request.path {
        all.push(TapMatch::Path(TextMatch::Prefix(path.clone())));
    }
    if let Some(to) = &request.to {
        all.push(destination(
            to,
            request.to_namespace.as_ref().or(request.namespace.as_ref()),
            objects,
        )?);
    }
    Ok(TapMatch::All(all))
}

/// Match of a destination by the labels that discovery gives it; a split service has those of its leaves.
fn destination(to: &Resource, namespace: Option<&String>, objects: &Objects) -> Result<TapMatch, String> {
    let Some(name) = &to.name else {
        return Err(format!("invalid --to {to}: name one, as in --to {to}/NAME"));
    };
    let label = |key: &str, value: &str| TapMatch::DestinationLabel(key.to_owned(), value.to_owned());
    if to.kind == Kind::Authority {
        return Ok(TapMatch::Authority(TextMatch::Exact(name.clone())));
    }
    if to.kind == Kind::Namespace {
        return Ok(label("namespace", name));
    }
    let mut names = vec![label(to.kind.label(), name)];
    if to.kind == Kind::Service {
        let split = objects
            .splits
            .iter()
            .filter(|s| s.apex == *name && namespace.is_none_or(|n| *n == s.namespace));
        names.extend(
            split
                .flat_map(|s| &s.leaves)
                .map(|(leaf, _)| label(to.kind.label(), leaf)),
        );
    }
    let mut all = vec![TapMatch::Any(names)];
    all.extend(namespace.map(|n| label("namespace", n)));
    Ok(TapMatch::All(all))
}

/// One tap.
struct Tap {
    observation: Observation,
    encoding: Encoding,
    objects: watch::Receiver<Arc<Objects>>,
    lines: mpsc::Sender<Bytes>,
    metrics: Metrics,
    /// Lines lost since the last one sent.
    lost: AtomicU64,
    bases: AtomicU32,
    /// Proxies that have not refused this tap.
    answering: AtomicUsize,
    /// Cancelled once every proxy has refused it.
    refused: CancellationToken,
}

/// Runs until the reader disconnects, every proxy has refused or the program stops; then releases the permit.
async fn run(tap: Arc<Tap>, pods: Vec<Arc<Pod>>, _permit: OwnedSemaphorePermit, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    for pod in pods {
        tasks.spawn(observe_pod(Arc::clone(&tap), pod));
    }
    tokio::select! {
        () = tap.lines.closed() => {}
        () = tap.refused.cancelled() => {}
        () = stop.cancelled() => {}
    }
}

async fn observe_pod(tap: Arc<Tap>, pod: Arc<Pod>) {
    let Some(address) = pod.tap_addr() else { return };
    let Ok(service) = connect(address, pod.identity.as_deref()) else {
        return;
    };
    let name = format!("{}/{}", pod.key.namespace, pod.key.name);
    let mut failing = false;
    loop {
        let began = Instant::now();
        match observe(&tap, service.clone(), &name, began).await {
            Ok(()) => {
                failing = false;
                tokio::time::sleep_until(began + OBSERVATION).await;
            }
            Err(error) => {
                // Reported once: a pod that was replaced fails for as long as the tap runs.
                if !std::mem::replace(&mut failing, true) {
                    tap.send_problem(format!("{name}: {}", describe(&error)));
                }
                // Asking again changes nothing: a sidecar or a right of ours is missing.
                if matches!(error.kind(), Code::Unauthenticated | Code::PermissionDenied) {
                    return tap.count_refusal();
                }
                sleep(RETRY).await;
            }
        }
    }
}

/// Error of a proxy in words. A call in plaintext says that no sidecar carried it.
fn describe(error: &proxy_api::Error) -> String {
    if error.kind() != Code::Unauthenticated {
        return error.to_string();
    }
    format!(
        "{error}: mesh-viz was probably started without a sidecar; restart it \
         (kubectl rollout restart deploy/mesh-viz, in its namespace)"
    )
}

type Service = InterceptedService<Channel, RequireId>;

fn connect(addr: SocketAddr, identity: Option<&str>) -> Result<Service, tonic::transport::Error> {
    let channel = Endpoint::from_shared(format!("http://{addr}"))?
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .connect_lazy();
    Ok(InterceptedService::new(
        channel,
        RequireId(identity.and_then(|id| id.parse().ok())),
    ))
}

/// Requires the identity of the server, by a header to our own sidecar.
#[derive(Clone)]
struct RequireId(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for RequireId {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        if let Some(id) = &self.0 {
            request.metadata_mut().insert("l5d-require-id", id.clone());
        }
        Ok(request)
    }
}

/// Runs an observation until its second is over and its requests are used up, or the proxy ends it.
async fn observe(tap: &Tap, service: Service, pod: &str, began: Instant) -> Result<(), proxy_api::Error> {
    let mut events = proxy_api::client::observe(service, &tap.observation).await?;
    let base = tap.bases.fetch_add(1, Relaxed);
    let mut seen = 0;
    loop {
        let exhausted = seen >= tap.observation.limit;
        let next = events.next();
        let event = if exhausted {
            // Requests in the sample may still end; after its second there are no new ones.
            match timeout_at(began + OBSERVATION, next).await {
                Ok(event) => event,
                Err(_) => return Ok(()),
            }
        } else {
            next.await
        };
        match event {
            None => return Ok(()),
            Some(Err(error)) => return Err(error),
            Some(Ok(event)) => {
                seen += u32::from(event::is_first(&event));
                tap.send_event(event::encode(&event, base, pod));
            }
        }
    }
}

impl Tap {
    fn send_event(&self, mut event: viz_api::TapEvent) {
        let objects = Arc::clone(&self.objects.borrow());
        for peer in event.source.iter_mut().chain(&mut event.destination) {
            name(peer, &objects);
        }
        event.dropped = self.lost.swap(0, Relaxed);
        let sent = match self.encoding {
            Encoding::Lines => self.send(line(&event)),
            Encoding::Messages => self.send(viz_api::wire::encode(&event)),
        };
        if !sent {
            self.lost.fetch_add(event.dropped + 1, Relaxed);
        }
    }

    fn count_refusal(&self) {
        if self.answering.fetch_sub(1, Relaxed) == 1 {
            self.refused.cancel();
        }
    }

    fn send_problem(&self, error: String) {
        match self.encoding {
            Encoding::Lines => {
                self.send(line(&Problem { error }));
            }
            Encoding::Messages => tracing::warn!(error, "tap failed"),
        }
    }

    fn send(&self, bytes: Vec<u8>) -> bool {
        let sent = self.lines.try_send(bytes.into()).is_ok();
        self.metrics.tap_dropped.inc_by(u64::from(!sent));
        sent
    }
}

fn line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("rows are plain values");
    text.push(b'\n');
    text
}

/// Adds the owner of the address where the proxy does not know it: it knows a client by its identity only.
fn name(peer: &mut Peer, objects: &Objects) {
    let Ok(ip) = peer.ip.parse() else { return };
    if peer.metadata.contains_key(Kind::Pod.label()) {
        return;
    }
    let mut pods = objects.pods.iter().filter(|pod| pod.ip == Some(ip) && pod.is_running());
    // Several pods with one address are in the host network.
    let (Some(pod), None) = (pods.next(), pods.next()) else {
        return;
    };
    let owners = pod.owners.iter().map(|(kind, name)| (*kind, name.as_str()));
    let own = [(Kind::Namespace, &*pod.key.namespace), (Kind::Pod, &*pod.key.name)];
    for (kind, name) in own.into_iter().chain(owners) {
        let label = peer.metadata.entry(kind.label().to_owned());
        label.or_insert_with(|| name.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> TapRequest {
        TapRequest::new(text.parse().expect("a resource"))
    }

    #[test]
    fn combines_filters_into_one_match() {
        let mut tap = request("deploy/web");
        tap.method = Some("post".into());
        tap.path = Some("/api".into());
        tap.to = Some("deploy/emoji".parse().expect("valid"));
        tap.namespace = Some("vote".into());
        let TapMatch::All(all) = matches(&tap, &Objects::default()).expect("valid") else {
            panic!("all of them")
        };
        assert_eq!(all[0], TapMatch::Method(http::Method::POST));
        assert_eq!(all[1], TapMatch::Path(TextMatch::Prefix("/api".into())));
        let label = |k: &str, v: &str| TapMatch::DestinationLabel(k.into(), v.into());
        let to = TapMatch::All(vec![
            TapMatch::Any(vec![label("deployment", "emoji")]),
            label("namespace", "vote"),
        ]);
        assert_eq!(all[2], to);
    }

    #[test]
    fn rejects_resources_that_cannot_be_tapped() {
        let reason = |tap: &TapRequest| matches(tap, &Objects::default()).expect_err("rejected");
        assert!(reason(&request("svc/web")).contains("service cannot be tapped"));
        let unnamed = TapRequest {
            to: Some(Resource::all(Kind::Pod)),
            ..request("deploy/web")
        };
        assert!(reason(&unnamed).contains("--to pod/NAME"));
        let error = pods(&request("deploy/web"), &Objects::default())
            .map(|_| ())
            .expect_err("no pod");
        assert_eq!(
            (error.0, error.1.as_str()),
            (StatusCode::NOT_FOUND, "no meshed pod of deployment/web is running")
        );
    }

    /// Serves a proxy's tap that refuses every observation as `no_tls_from_remote`.
    async fn refusing_proxy() -> SocketAddr {
        let refuse = || async {
            [
                ("content-type", "application/grpc"),
                ("grpc-status", "16"),
                ("grpc-message", "no_tls_from_remote"),
            ]
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(refuse)).await });
        addr
    }

    #[tokio::test]
    async fn a_tap_that_every_proxy_refuses_says_why_and_ends() {
        let addr = refusing_proxy().await;
        let pod = Pod {
            key: viz_query::PodKey {
                namespace: "vote".into(),
                name: "web-1".into(),
            },
            ip: Some(addr.ip()),
            admin_port: 4191,
            tap_port: Some(addr.port()),
            owners: vec![(Kind::Deployment, "web".to_owned())],
            labels: Default::default(),
            phase: "Running".to_owned(),
            ready: true,
            meshed: true,
            identity: None,
        };
        let objects = Objects {
            pods: vec![Arc::new(pod)],
            ..Objects::default()
        };
        let (_objects, objects) = watch::channel(Arc::new(objects));
        let taps = Taps::new(objects, Metrics::new(), CancellationToken::new());
        let response = taps.start(&request("deploy/web"), Encoding::Lines);
        let body = response.unwrap_or_else(|r| panic!("{}", r.1)).into_body();
        let whole = tokio::time::timeout(Duration::from_secs(20), axum::body::to_bytes(body, 1 << 20));
        let text = whole.await.expect("the tap ends").expect("lines");
        let text = String::from_utf8_lossy(&text);
        assert!(
            text.contains("vote/web-1: Unauthenticated: no_tls_from_remote"),
            "{text}"
        );
        assert!(text.contains("kubectl rollout restart deploy/mesh-viz"), "{text}");
    }
}
