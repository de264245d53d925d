//! The admin server: `/ready`, `/live`, `/metrics`, and what a program adds to them.

use std::{
    fmt,
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Whether the process can do its work. Once it can it stays so.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// It can.
    pub fn set(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it can.
    pub fn is_ready(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// What the admin server tells.
#[derive(Clone)]
pub struct Admin {
    ready: Readiness,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
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
            more: Router::new(),
        }
    }

    /// Adds a program's own endpoints.
    #[must_use]
    pub fn with(mut self, more: Router) -> Self {
        self.more = self.more.merge(more);
        self
    }

    /// The endpoints, for a program that serves them itself.
    pub fn router(&self) -> Router {
        let own = Router::new()
            .route("/ready", get(ready))
            .route("/live", get(async || "live\n"))
            .route("/metrics", get(metrics))
            .with_state(self.clone());
        own.merge(self.more.clone())
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.ready.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let text = (admin.metrics)();
    let plain = (header::CONTENT_TYPE, "text/plain");
    let accepts = |value: &str| value.split(',').any(|coding| coding.trim().starts_with("gzip"));
    let accepted = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .any(|value| value.to_str().is_ok_and(accepts));
    if !accepted {
        return ([plain], text).into_response();
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    match gzip.write_all(text.as_bytes()).and_then(|()| gzip.finish()) {
        Ok(bytes) => ([plain, (header::CONTENT_ENCODING, "gzip")], bytes).into_response(),
        Err(_) => ([plain], text).into_response(),
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
    let served = axum::serve(listener, admin.router()).with_graceful_shutdown(stop.cancelled_owned());
    served.await.map_err(Error::Serve)
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

    #[tokio::test]
    async fn readiness_liveness_metrics_and_the_programs_own() {
        let listener = listen("127.0.0.1:0".parse().expect("valid"))
            .await
            .expect("a free port");
        let (addr, ready, stop) = (
            listener.local_addr().expect("bound"),
            Readiness::default(),
            CancellationToken::new(),
        );
        let own = Router::new().route("/own", get(async || "mine"));
        let admin = Admin::new(ready.clone(), || "up 1\n".to_owned()).with(own);
        let server = tokio::spawn(serve(listener, admin, stop.clone()));

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
        assert!(text(addr, "/metrics").await.ends_with("\r\n\r\nup 1\n"));

        let zipped = request(addr, "/metrics", "accept-encoding: deflate, gzip;q=1\r\n").await;
        let body = zipped.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&zipped[body..])
            .read_to_string(&mut plain)
            .expect("gzip");
        assert_eq!(plain, "up 1\n");

        stop.cancel();
        server.await.expect("no panic").expect("ended well");
    }
}
