//! The admin server: `/ready`, `/live`, `/metrics`, and a program's own endpoints.

mod snapshot;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use snapshot::Snapshots;

use crate::{
    Error,
    serve::{Plain, Refusals, Server, limits::ADMIN_BODY_BYTES},
};

/// Readiness of the process. Once ready, it stays so.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Marks the process as ready.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Returns true once the process is ready.
    pub fn is_ready(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Endpoints of the admin server.
#[derive(Clone)]
pub struct Admin {
    ready: Readiness,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    refusals: Refusals,
    more: Router,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// Readiness, and metrics in Prometheus' text format.
    pub fn new(ready: Readiness, metrics: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self {
            ready,
            metrics: Arc::new(metrics),
            refusals: Refusals::default(),
            more: Router::new(),
        }
    }

    /// Adds a program's own endpoints.
    #[must_use]
    pub fn with(mut self, more: Router) -> Self {
        self.more = self.more.merge(more);
        self
    }

    /// Adds the refusals of a program's servers to `/metrics`.
    #[must_use]
    pub fn with_refusals(self, refusals: Refusals) -> Self {
        Self { refusals, ..self }
    }

    /// Services of plaintext connections.
    pub fn plain(&self) -> Plain {
        let snapshots = Snapshots::new(Arc::clone(&self.metrics), self.refusals.clone());
        let own = Router::new().route("/metrics", get(metrics)).with_state(snapshots);
        let probes = self.probes();
        Plain {
            service: probes
                .clone()
                .merge(own)
                .merge(self.more.clone())
                .layer(DefaultBodyLimit::max(ADMIN_BODY_BYTES.value)),
            probes: probes.fallback(async || (StatusCode::SERVICE_UNAVAILABLE, "too many connections\n")),
        }
    }

    fn probes(&self) -> Router {
        Router::new()
            .route("/ready", get(ready))
            .route("/live", get(async || "live\n"))
            .with_state(self.clone())
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.ready.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(snapshots): State<Snapshots>, headers: HeaderMap) -> Response {
    let snapshot = snapshots.get();
    let plain = (header::CONTENT_TYPE, "text/plain");
    let accepts = |value: &str| value.split(',').any(|coding| coding.trim().starts_with("gzip"));
    let accepted = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .any(|value| value.to_str().is_ok_and(accepts));
    let zipped = if accepted { snapshot.gzip() } else { None };
    match zipped {
        Some(bytes) => ([plain, (header::CONTENT_ENCODING, "gzip")], bytes).into_response(),
        None => ([plain], snapshot.plain()).into_response(),
    }
}

/// Binds an address.
pub async fn listen(addr: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(addr)
        .await
        .map_err(|source| Error::Listen { addr, source })
}

/// Serves HTTP/1 and HTTP/2 without TLS until `stop`.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> Result<(), Error> {
    if let Ok(addr) = listener.local_addr() {
        tracing::info!(%addr, "Admin interface");
    }
    let refusals = admin.refusals.clone();
    let server = Server::new("admin", move |limit| refusals.count(limit));
    let Ok(()) = server.serve(listener, admin.plain(), stop).await;
    Ok(())
}
#[cfg(test)]
mod tests {
    use std::io::Read;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn request(addr: SocketAddr, path: &str, more: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(addr).await.expect("serves");
        let head = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).await.expect("open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an answer");
        answer
    }

    async fn text(addr: SocketAddr, path: &str) -> String {
        String::from_utf8(request(addr, path, "").await).expect("text")
    }

    struct Served {
        addr: SocketAddr,
        ready: Readiness,
        refusals: Refusals,
        stop: CancellationToken,
        server: tokio::task::JoinHandle<Result<(), Error>>,
    }

    async fn served() -> Served {
        let listener = listen("127.0.0.1:0".parse().expect("valid")).await;
        let listener = listener.expect("a free port");
        let (addr, ready) = (listener.local_addr().expect("bound"), Readiness::default());
        let (refusals, stop) = (Refusals::default(), CancellationToken::new());
        let own = Router::new().route("/own", get(async || "mine"));
        let admin = Admin::new(ready.clone(), || "up 1\n# EOF\n".to_owned());
        let admin = admin.with(own).with_refusals(refusals.clone());
        let server = tokio::spawn(serve(listener, admin, stop.clone()));
        Served {
            addr,
            ready,
            refusals,
            stop,
            server,
        }
    }

    #[tokio::test]
    async fn answers_probes_and_the_programs_own_endpoints() {
        let Served {
            addr,
            ready,
            stop,
            server,
            ..
        } = served().await;
        let before = text(addr, "/ready").await;
        assert!(
            before.starts_with("HTTP/1.1 503") && before.ends_with("not ready\n"),
            "{before}"
        );
        ready.set();
        assert!(text(addr, "/ready").await.ends_with("\r\n\r\nready\n"));
        assert!(text(addr, "/live").await.ends_with("live\n"));
        assert!(text(addr, "/own").await.ends_with("mine"));
        assert!(text(addr, "/other").await.starts_with("HTTP/1.1 404"));
        stop.cancel();
        server.await.expect("no panic").expect("ended well");
    }

    #[tokio::test]
    async fn serves_metrics_with_refusals_plain_or_zipped() {
        let Served { addr, refusals, .. } = served().await;
        assert!(text(addr, "/metrics").await.ends_with("\r\n\r\nup 1\n# EOF\n"));
        refusals.count(ADMIN_BODY_BYTES.row());
        let zipped = request(addr, "/metrics", "accept-encoding: deflate, gzip;q=1\r\n").await;
        let body = zipped.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&zipped[body..])
            .read_to_string(&mut plain)
            .expect("gzip");
        assert!(
            plain.starts_with("up 1\n") && plain.ends_with("{limit=\"ADMIN_BODY_BYTES\"} 1\n# EOF\n"),
            "{plain}"
        );
    }
}
