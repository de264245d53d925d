//! A workload in one process: its application, its inbound side, and clients with and without mesh TLS.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use hyper::body::Incoming;
use proxy_discovery::{Discovery, Script};
use proxy_http::{
    Body, client,
    server::{self, Serving},
    tap::Registry,
};
use proxy_metrics::{BuildInfo, Metrics};
use proxy_model::{
    Authentication, Authorization, ClientAddr, Id, Meta, NetworkMatch, OrigDstAddr, ServerPolicy, ServerProtocol,
    TlsIdentity,
};
use proxy_tls::{Alpn, Anchors, ClientStream, Credentials, Engine, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};
use tokio_util::sync::CancellationToken;

use crate::{Config, Deps, RateLimits, Worker};

/// Identity of the workload.
pub(super) const WEB: &str = "web.ns.serviceaccount.identity.linkerd.cluster.local";
/// Identity of its client.
pub(super) const API: &str = "api.ns.serviceaccount.identity.linkerd.cluster.local";
/// Address that is not this host, so that the localhost authorization does not apply.
pub(super) const STRANGER: &str = "10.0.0.9:4242";
/// Upper bound for a response, even on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// Runs a test on one thread, as a worker does: once with each TLS engine.
pub(super) fn run(test: impl AsyncFn()) {
    for engine in Engine::ALL {
        ENGINE.set(*engine);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(LocalSet::new().run_until(test()));
    }
}

thread_local! {
    /// Engine of the workloads that a test creates.
    static ENGINE: Cell<Engine> = const { Cell::new(Engine::ALL[0]) };
}

/// Inbound side of a workload.
pub(super) struct Web {
    ca: CertifiedIssuer<'static, KeyPair>,
    pub(super) worker: Rc<Worker>,
    pub(super) metrics: Metrics,
    pub(super) script: Script,
    pub(super) tap: Registry,
    pub(super) drain: CancellationToken,
    pub(super) client: ClientAddr,
}

impl Web {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an anchor");
        let (discovery, script) = Discovery::scripted();
        let metrics = Metrics::new(BuildInfo::default());
        let tap = Registry::default();
        let worker = Worker::new(Deps {
            discovery,
            tls: workload(&ca, WEB),
            metrics: metrics.recorder(),
            tap: tap.clone(),
            rate_limits: RateLimits::default(),
            config: Config {
                detect_timeout: Duration::from_millis(300),
                ..Config::default()
            },
        });
        let client = ClientAddr(STRANGER.parse().expect("valid"));
        Self {
            ca,
            worker,
            metrics,
            script,
            tap,
            drain: CancellationToken::new(),
            client,
        }
    }

    /// Listens for connections to `target`, as redirection would deliver them.
    pub(super) async fn listen(&self, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (worker, drain, client) = (self.worker.clone(), self.drain.clone(), self.client);
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                spawn_local(worker.clone().serve(socket, OrigDstAddr(target), client, drain.clone()));
            }
        });
        addr
    }

    /// Opens a plaintext connection to `target`.
    pub(super) async fn connect(&self, target: SocketAddr) -> TcpStream {
        TcpStream::connect(self.listen(target).await).await.expect("it listens")
    }

    /// Creates another workload of the same mesh.
    pub(super) fn workload(&self, name: &str) -> Tls {
        workload(&self.ca, name)
    }

    /// Creates a client that presents no leaf.
    pub(super) fn without_leaf(&self) -> Tls {
        let anchors = Anchors::from_pem(&self.ca.pem()).expect("one certificate");
        Tls::with_engine(API.parse().expect("an id"), anchors, ENGINE.get()).expect("anchors")
    }

    /// Opens a mesh TLS connection to `target`, as [`API`].
    pub(super) async fn connect_tls(&self, target: SocketAddr, alpn: Alpn) -> ClientStream<TcpStream> {
        let io = self.connect(target).await;
        let web = TlsIdentity::dns(WEB).expect("an id");
        self.workload(API)
            .connect(io, &web, alpn)
            .await
            .expect("valid credentials")
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
    let credentials = Credentials::new(leaf.der().to_vec(), Vec::new(), key.serialize_der(), ends);
    tls.publish(&credentials).expect("valid credentials");
    tls
}

/// Policy that allows every client.
pub(super) fn open(protocol: ServerProtocol) -> ServerPolicy {
    policy(protocol, vec![authorization(Authentication::Unauthenticated)])
}

/// Policy with these authorizations.
pub(super) fn policy(protocol: ServerProtocol, authorizations: Vec<Authorization>) -> ServerPolicy {
    let labels = [("group", "policy.linkerd.io"), ("kind", "server"), ("name", "web")];
    let labels = labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    ServerPolicy {
        protocol,
        authorizations,
        labels,
        server_ips: Vec::new(),
    }
}

/// Authorization for every network.
pub(super) fn authorization(authentication: Authentication) -> Authorization {
    let networks = vec![NetworkMatch {
        net: "0.0.0.0/0".parse().expect("a network"),
        except: Vec::new(),
    }];
    let meta = Some(Meta::default_named("test"));
    Authorization {
        networks,
        authentication,
        labels: Default::default(),
        meta,
    }
}

/// Detection without routes.
pub(super) fn detect() -> ServerProtocol {
    ServerProtocol::Detect {
        timeout: None,
        routes: Vec::new(),
        rate_limit: None,
    }
}

/// Starts an HTTP/1 application.
pub(super) async fn http1_app<F, R>(answer: F) -> SocketAddr
where
    F: Fn(Request<Body>) -> R + Clone + 'static,
    R: Future<Output = Response<Body>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            };
            spawn_local(async move {
                let (metrics, drain) = (Metrics::default().recorder(), CancellationToken::new());
                server::http1(socket, service, Serving::new(&metrics, &drain)).await
            });
        }
    });
    addr
}

/// Starts an HTTP/2 application.
pub(super) async fn http2_app<F, R>(answer: F) -> SocketAddr
where
    F: Fn(Request<Body>) -> R + Clone + 'static,
    R: Future<Output = Response<Body>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            };
            spawn_local(async move {
                let (metrics, drain) = (Metrics::default().recorder(), CancellationToken::new());
                server::http2(socket, service, Serving::new(&metrics, &drain)).await
            });
        }
    });
    addr
}

/// Sends one HTTP/1 request over its own plaintext connection.
pub(super) async fn get(io: TcpStream, mut request: Request<Body>) -> Response<Incoming> {
    let mut client = client::http1(io).await.expect("a connection");
    client.send(&mut request).await.expect("an answer")
}

/// Builds a bare GET.
pub(super) fn request(path: &str) -> Request<Body> {
    Request::builder()
        .uri(path)
        .header("host", "web")
        .body(Body::Empty)
        .expect("valid")
}
