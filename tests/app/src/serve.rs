//! Servers. Each drains on SIGTERM: it stops accepting, finishes open requests, and exits.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::grpc;

/// Greeting of the server-first server.
pub(crate) const GREETING: &[u8] = b"220 mesh-test ready\r\n";

/// Duration of a `/slow` request.
const SLOW: Duration = Duration::from_secs(1);
/// Requests for `/flaky`, every second of which fails.
static FLAKY: AtomicU64 = AtomicU64::new(0);
/// Set by a request for `/hang`: further requests are accepted and never answered.
static HUNG: AtomicBool = AtomicBool::new(false);

/// Ports; 0 leaves a server out.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// HTTP/1.
    #[arg(long, default_value_t = 8080)]
    http: u16,
    /// gRPC.
    #[arg(long, default_value_t = 8081)]
    grpc: u16,
    /// Opaque echo.
    #[arg(long, default_value_t = 9000)]
    echo: u16,
    /// Opaque echo after a greeting.
    #[arg(long, default_value_t = 9001)]
    greet: u16,
    /// Time that each HTTP/1 response takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Echo of datagrams.
    #[arg(long, default_value_t = 0)]
    udp: u16,
}

/// Runs the servers until SIGTERM or SIGINT, then drains.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let drain = CancellationToken::new();
    let tasks = TaskTracker::new();
    let delay = Duration::from_millis(args.delay_ms);
    for (port, kind) in [
        (args.http, Kind::Http(delay)),
        (args.grpc, Kind::Grpc),
        (args.echo, Kind::Echo { greet: false }),
        (args.greet, Kind::Echo { greet: true }),
    ] {
        if port != 0 {
            let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await?;
            tasks.spawn(accept(listener, kind, tasks.clone(), drain.clone()));
        }
    }
    if args.udp != 0 {
        let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], args.udp))).await?;
        // Each datagram is answered at once, so there is nothing to drain.
        tokio::spawn(echo_datagrams(socket));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    drain.cancel();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Protocol of a listener.
#[derive(Copy, Clone)]
enum Kind {
    Http(Duration),
    Grpc,
    Echo { greet: bool },
}

async fn accept(listener: TcpListener, kind: Kind, tasks: TaskTracker, drain: CancellationToken) {
    loop {
        let stream = tokio::select! {
            () = drain.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        drop(stream.set_nodelay(true));
        tasks.spawn(connection(stream, kind, drain.clone()));
    }
}

async fn connection(stream: TcpStream, kind: Kind, drain: CancellationToken) {
    match kind {
        Kind::Http(delay) => http1(stream, delay, drain).await,
        Kind::Grpc => grpc2(stream, drain).await,
        Kind::Echo { greet } => drop(echo(stream, greet).await),
    }
}

async fn http1(stream: TcpStream, delay: Duration, drain: CancellationToken) {
    let service = service_fn(move |request| respond(request, delay));
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

async fn grpc2(stream: TcpStream, drain: CancellationToken) {
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service_fn(grpc::serve));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => {}
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

async fn respond(request: Request<Incoming>, delay: Duration) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(delay).await;
    if request.uri().path() == "/hang" {
        HUNG.store(true, Relaxed);
    } else if HUNG.load(Relaxed) {
        std::future::pending::<()>().await;
    }
    Ok(match request.uri().path() {
        "/upload" => upload(request).await,
        "/ws" => web_socket(request),
        "/flaky" if FLAKY.fetch_add(1, Relaxed).is_multiple_of(2) => status(StatusCode::SERVICE_UNAVAILABLE),
        "/slow" => {
            tokio::time::sleep(SLOW).await;
            echo_head(&request)
        }
        "/fail" => status(StatusCode::INTERNAL_SERVER_ERROR),
        _ => echo_head(&request),
    })
}

/// Answers with the pod's name and the received headers, so that a test sees what the application sees.
fn echo_head(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let headers = request.headers().iter();
    let headers: Vec<_> = headers
        .map(|(k, v)| (k.as_str(), String::from_utf8_lossy(v.as_bytes())))
        .collect();
    let body = serde_json::json!({
        "pod": std::env::var("HOSTNAME").unwrap_or_default(),
        "method": request.method().as_str(),
        "uri": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": headers,
    });
    Response::new(Full::from(body.to_string()))
}

async fn upload(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut bytes = 0_u64;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => {
                bytes += data.len() as u64;
                hash.update(&data);
            }
            Ok(Err(_trailers)) => {}
            Err(_) => return status(StatusCode::BAD_REQUEST),
        }
    }
    let sha256 = hex::encode(hash.finish());
    Response::new(Full::from(
        serde_json::json!({ "bytes": bytes, "sha256": sha256 }).to_string(),
    ))
}

fn status(code: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = code;
    response
}

/// Accepts a WebSocket and echoes its messages.
fn web_socket(mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    use tokio_tungstenite::tungstenite::{handshake::derive_accept_key, protocol::Role};
    let Some(key) = request.headers().get("sec-websocket-key").cloned() else {
        return status(StatusCode::BAD_REQUEST);
    };
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(&mut request).await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        let mut socket = tokio_tungstenite::WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() || ((message.is_text() || message.is_binary()) && socket.send(message).await.is_err())
            {
                break;
            }
        }
        drop(socket.close(None).await);
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-accept", derive_accept_key(key.as_bytes()))
        .body(Full::default())
        .expect("static headers are valid")
}

async fn echo(mut stream: TcpStream, greet: bool) -> std::io::Result<()> {
    if greet {
        stream.write_all(GREETING).await?;
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

async fn echo_datagrams(socket: UdpSocket) -> std::io::Result<()> {
    let mut buffer = vec![0; 2048];
    loop {
        let (n, from) = socket.recv_from(&mut buffer).await?;
        socket.send_to(&buffer[..n], from).await?;
    }
}
