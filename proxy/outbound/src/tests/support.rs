//! Outbound side of an application, and simulated sidecars of other workloads.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    num::NonZeroU16,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use proxy_discovery::{Discovery, Script};
use proxy_http::{
    Body, client,
    server::{self, Serving},
    tap::Registry,
};
use proxy_metrics::Metrics;
use proxy_model::{
    Backend, ClientAddr, ClientPolicy, ClientProtocol, Endpoint, Hint, Id, Meta, OrigDstAddr, OutboundTarget,
    TlsIdentity,
    outbound::{Action, Dispatch, Distribution, FailureAccrual, Grpc, Http, Load, Opaque, RouteBackend, TcpRoute},
    route::{GrpcMatch, HttpMatch, Route, Rule, Timeouts},
};
use proxy_tls::{Alpn, Anchors, Credentials, Engine, ServerStream, Tls};
use proxy_transport::{PrefixedIo, header::Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, LocalSet, spawn_local},
};
use tokio_util::sync::CancellationToken;

use crate::{Breakers, Budgets, Config, Deps, Worker};

/// Address that the application dials.
pub(super) const WEB: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 1)), 80);
/// Identity of the workload there.
pub(super) const WEB_ID: &str = "web.ns.serviceaccount.identity.linkerd.cluster.local";
const API_ID: &str = "api.ns.serviceaccount.identity.linkerd.cluster.local";
/// Port of the applications; never dialed, because the sidecars listen elsewhere.
const APPLICATION_PORT: u16 = 8080;

/// Runs a test on one thread, as a worker does: once with each TLS engine.
pub(super) fn run(test: impl AsyncFn()) {
    for engine in Engine::ALL {
        ENGINE.set(*engine);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let test = async {
            tokio::time::timeout(Duration::from_secs(30), test())
                .await
                .expect("the test timed out");
        };
        runtime.block_on(LocalSet::new().run_until(test));
    }
}

thread_local! {
    /// Engine of the workloads that a test creates.
    static ENGINE: Cell<Engine> = const { Cell::new(Engine::ALL[0]) };
}

/// Outbound side of an application.
pub(super) struct Mesh {
    ca: CertifiedIssuer<'static, KeyPair>,
    pub(super) worker: Rc<Worker>,
    pub(super) metrics: Metrics,
    pub(super) script: Script,
    pub(super) tap: Registry,
    pub(super) drain: CancellationToken,
    /// Breaker of the policies that the test sets from now on.
    pub(super) accrual: Cell<Option<FailureAccrual>>,
    sidecars: Cell<u8>,
    deps: Deps,
}

impl Mesh {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Creates an outbound side whose configuration `change` adjusts.
    pub(super) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            failfast: Duration::from_millis(400),
            detect_timeout: Duration::from_millis(200),
            ..Config::default()
        };
        change(&mut config);
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an anchor");
        let (discovery, script) = Discovery::scripted();
        let metrics = Metrics::default();
        let tap = Registry::default();
        let deps = Deps {
            discovery,
            tls: workload(&ca, API_ID),
            metrics: metrics.recorder(),
            tap: tap.clone(),
            budgets: Budgets::default(),
            breakers: Breakers::default(),
            config,
        };
        let worker = Worker::new(deps.clone());
        let drain = CancellationToken::new();
        Self {
            ca,
            worker,
            metrics,
            script,
            tap,
            drain,
            accrual: Cell::default(),
            sidecars: Cell::new(1),
            deps,
        }
    }

    /// Opens a connection of the application to [`WEB`], as redirected to the proxy.
    pub(super) async fn connect(&self) -> TcpStream {
        self.connect_to(WEB).await
    }

    pub(super) async fn connect_to(&self, target: SocketAddr) -> TcpStream {
        self.connect_by(&self.worker, target).await
    }

    /// Creates a further worker of the same process.
    pub(super) fn another_worker(&self) -> Rc<Worker> {
        Worker::new(Deps {
            metrics: self.metrics.recorder(),
            ..self.deps.clone()
        })
    }

    /// Opens a connection of the application that `worker` serves.
    pub(super) async fn connect_by(&self, worker: &Rc<Worker>, target: SocketAddr) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (worker, drain) = (worker.clone(), self.drain.clone());
        spawn_local(async move {
            let (socket, peer) = listener.accept().await.expect("a client");
            worker.serve(socket, OrigDstAddr(target), ClientAddr(peer), drain).await;
        });
        TcpStream::connect(addr).await.expect("it listens")
    }

    /// Opens an HTTP/1 connection of the application.
    pub(super) async fn http1(&self) -> client::Http1 {
        client::http1(self.connect().await).await.expect("a connection")
    }

    /// Opens an HTTP/2 connection of the application.
    pub(super) async fn http2(&self) -> client::Http2 {
        client::http2(self.connect().await, &Default::default())
            .await
            .expect("a connection")
    }

    /// Returns a free loopback address for a pod.
    fn pod(&self) -> SocketAddr {
        self.sidecars.set(self.sidecars.get() + 1);
        SocketAddr::from(([127, 0, 0, self.sidecars.get()], 0))
    }

    /// Starts a sidecar that serves every session by `serve`.
    pub(super) async fn sidecar<F, Fut>(&self, serve: F) -> Sidecar
    where
        F: Fn(Header, Io) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind(self.pod()).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let tls = workload(&self.ca, WEB_ID);
        let (serve, connections) = (Rc::new(serve), Rc::new(Cell::new(0)));
        let counted = connections.clone();
        let task = spawn_local(async move {
            let mut sessions = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                counted.set(counted.get() + 1);
                let (tls, serve) = (tls.clone(), serve.clone());
                sessions.spawn_local(async move {
                    let mut accepted = tls.accept(socket, Alpn::TransportHeader).await.expect("mesh TLS");
                    assert_eq!(accepted.client_id.as_ref().map(Id::as_str), Some(API_ID));
                    let (header, rest) = Header::read(&mut accepted.io).await.expect("a header");
                    serve(header, PrefixedIo::new(rest, accepted.io)).await;
                });
            }
        });
        let mut endpoint = Endpoint::bare(SocketAddr::new(addr.ip(), APPLICATION_PORT));
        endpoint.identity = Some(TlsIdentity::dns(WEB_ID).expect("an id"));
        endpoint.hint = Hint::Http2;
        endpoint.opaque_transport_port = NonZeroU16::new(addr.port());
        endpoint.labels = Arc::new(BTreeMap::from([("pod".to_owned(), format!("web-{}", addr.ip()))]));
        Sidecar {
            endpoint,
            connections,
            task: task.abort_handle(),
        }
    }

    /// Starts a sidecar whose application answers by `answer` in HTTP/2.
    pub(super) async fn web<F, Fut>(&self, answer: F) -> Sidecar
    where
        F: Fn(Request<Body>) -> Fut + 'static,
        Fut: Future<Output = Result<Response<Body>, proxy_http::Error>> + 'static,
    {
        let answer = Rc::new(answer);
        self.sidecar(move |_, io| {
            let answer = answer.clone();
            async move {
                let service = move |request| answer(request);
                let (metrics, drain) = (Metrics::default().recorder(), CancellationToken::new());
                let _ = server::http2(io, service, Serving::new(&metrics, &drain)).await;
            }
        })
        .await
    }

    /// Starts a sidecar whose application answers with a text and counts its requests.
    pub(super) async fn text(&self, text: &'static str) -> (Sidecar, Rc<Cell<usize>>) {
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        let sidecar = self
            .web(move |_| {
                counted.set(counted.get() + 1);
                async move { Ok(Response::new(Body::Full(Bytes::from_static(text.as_bytes())))) }
            })
            .await;
        (sidecar, count)
    }

    /// Starts a sidecar that accepts requests, never answers them, and counts them.
    pub(super) async fn hung(&self) -> (Sidecar, Rc<Cell<usize>>) {
        let count = Rc::new(Cell::new(0));
        let counted = count.clone();
        let sidecar = self
            .web(move |_| {
                counted.set(counted.get() + 1);
                std::future::pending()
            })
            .await;
        (sidecar, count)
    }

    /// Starts an HTTP/1 application without a sidecar, which echoes the request body.
    pub(super) async fn plain(&self, seen: impl Fn(&Request<Body>) + 'static) -> Endpoint {
        let listener = TcpListener::bind(self.pod()).await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let seen = Rc::new(seen);
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let seen = seen.clone();
                spawn_local(async move {
                    let service = move |request: Request<Body>| {
                        seen(&request);
                        async move { Ok::<_, Infallible>(Response::new(request.into_body())) }
                    };
                    let (metrics, drain) = (Metrics::default().recorder(), CancellationToken::new());
                    let _ = server::http1(socket, service, Serving::new(&metrics, &drain)).await;
                });
            }
        });
        Endpoint::bare(addr)
    }

    /// Routes [`WEB`] to services by weight.
    pub(super) fn split(&self, services: &[(&str, u32)]) {
        self.policy(distribution(services), Timeouts::default());
    }

    /// Routes [`WEB`] by `distribution`, for any protocol.
    pub(super) fn policy(&self, distribution: Distribution, timeouts: Timeouts) {
        let action = Action {
            distribution,
            timeouts,
            retry: None,
            allow_l5d_request_headers: false,
        };
        self.action(action);
    }

    /// Gives [`WEB`] one route that matches everything.
    pub(super) fn action(&self, action: Action) {
        self.rule(Rule {
            matches: Vec::new(),
            filters: Vec::new(),
            action,
        });
    }

    /// Gives [`WEB`] one route of this rule.
    pub(super) fn rule(&self, rule: Rule<HttpMatch, Action>) {
        let opaque = Opaque {
            routes: vec![TcpRoute {
                meta: Meta::default_named("opaq"),
                snis: Vec::new(),
                rules: vec![Rule {
                    matches: vec![()],
                    filters: Vec::new(),
                    action: rule.action.distribution.clone(),
                }],
            }],
        };
        let http = Http {
            routes: vec![route(rule)],
            failure_accrual: self.accrual.get(),
        };
        let timeout = Duration::from_secs(10);
        self.protocol(ClientProtocol::Detect {
            timeout,
            http1: http.clone(),
            http2: http,
            opaque,
        });
    }

    /// Gives [`WEB`] one gRPC route of this rule.
    pub(super) fn grpc_rule(&self, rule: Rule<GrpcMatch, Action>) {
        self.protocol(ClientProtocol::Grpc(Grpc {
            routes: vec![route(rule)],
            failure_accrual: None,
        }));
    }

    fn protocol(&self, protocol: ClientProtocol) {
        let meta = Meta::resource("core", "Service", "ns", "web").with_port(80);
        let policy = ClientPolicy {
            meta,
            protocol,
            targets: None,
        };
        self.script.outbound(&OutboundTarget::Addr(WEB), policy, None);
    }

    /// Routes [`WEB`] to one service with these endpoints.
    pub(super) fn service(&self, endpoints: &[&Endpoint]) {
        self.split(&[(SERVICE, 1)]);
        self.script.endpoints(SERVICE, endpoints.iter().copied().cloned());
    }

    /// Sums the series of a family whose labels contain all of `with`.
    pub(super) fn count(&self, family: &str, with: &[&str]) -> u64 {
        let text = self.metrics.render();
        let lines = text.lines().filter(|line| {
            line.strip_prefix(family)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && with.iter().all(|label| line.contains(label))
        });
        lines
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .and_then(|n| n.parse::<f64>().ok())
                    .expect("a number") as u64
            })
            .sum()
    }
}

/// The service behind [`WEB`].
pub(super) const SERVICE: &str = "web.ns.svc.cluster.local:80";

/// Connection accepted by a sidecar.
pub(super) type Io = PrefixedIo<ServerStream<TcpStream>>;

/// Sidecar of another workload. It stops, with its connections, when killed or dropped.
pub(super) struct Sidecar {
    pub(super) endpoint: Endpoint,
    /// Number of accepted connections.
    pub(super) connections: Rc<Cell<usize>>,
    task: AbortHandle,
}

impl Sidecar {
    /// Stops it at once.
    pub(super) fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.kill();
    }
}

fn route<M>(rule: Rule<M, Action>) -> Route<M, Action> {
    Route {
        meta: Meta::default_named("http"),
        hosts: Vec::new(),
        rules: vec![rule],
        authorizations: Vec::new(),
    }
}

/// Services by weight.
pub(super) fn distribution(services: &[(&str, u32)]) -> Distribution {
    Distribution::RandomAvailable(services.iter().map(|(path, weight)| (backend(path), *weight)).collect())
}

fn backend(path: &str) -> RouteBackend {
    let (name, _) = path.split_once('.').unwrap_or((path, ""));
    let load = Load::PeakEwma(proxy_core::balance::DEFAULT);
    let backend = Backend {
        meta: Meta::resource("core", "Service", "ns", name).with_port(80),
        dispatch: Some(Dispatch::Balance {
            path: path.into(),
            load,
        }),
        queue: None,
    };
    RouteBackend {
        backend: Arc::new(backend),
        filters: Vec::new(),
    }
}

/// GET request of the application.
pub(super) fn get(path: &str) -> Request<Body> {
    Request::get(path)
        .header("host", "web.ns")
        .body(Body::Empty)
        .expect("valid")
}

/// POST request of the application with a body.
pub(super) fn post(path: &str, body: &'static str) -> Request<Body> {
    let body = Body::Full(Bytes::from_static(body.as_bytes()));
    Request::post(path).header("host", "web.ns").body(body).expect("valid")
}

/// Reads status and text of a response.
pub(super) async fn read(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

/// Values that a test records.
pub(super) type Seen<T> = Rc<RefCell<Vec<T>>>;

fn workload(ca: &CertifiedIssuer<'static, KeyPair>, name: &str) -> Tls {
    let ends = SystemTime::now() + Duration::from_secs(3600);
    let Id::Dns(dns) = name.parse().expect("an id") else {
        panic!("a DNS name")
    };
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::DnsName((*dns).try_into().expect("ASCII"))];
    params.not_after = ends.into();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, ca).expect("a leaf");
    let anchors = Anchors::from_pem(&ca.pem()).expect("one");
    let tls = Tls::with_engine(name.parse().expect("an id"), anchors, ENGINE.get()).expect("anchors");
    tls.publish(&Credentials::new(
        leaf.der().to_vec(),
        Vec::new(),
        key.serialize_der(),
        ends,
    ))
    .expect("valid credentials");
    tls
}
