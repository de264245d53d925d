//! Clients: each makes one exchange and compares it byte for byte.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    grpc::{Chunk, PATH},
    serve::GREETING,
};

/// Longest time for one exchange.
const EXCHANGE: Duration = Duration::from_secs(120);

/// Longest time until a datagram is echoed.
const DATAGRAMS: Duration = Duration::from_secs(10);

/// Address to connect to.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// `host:port`.
    target: String,
}

/// A gRPC exchange.
#[derive(clap::Args)]
pub(crate) struct Grpc {
    #[command(flatten)]
    to: Target,
    /// Messages each way.
    #[arg(long, default_value_t = 200)]
    messages: u64,
    /// Bytes of each message.
    #[arg(long, default_value_t = 4096)]
    bytes: usize,
}

/// An upload.
#[derive(clap::Args)]
pub(crate) struct Upload {
    #[command(flatten)]
    to: Target,
    /// Bytes of the body.
    #[arg(long, default_value_t = 100 * 1024 * 1024)]
    bytes: u64,
}

/// A TCP exchange.
#[derive(clap::Args)]
pub(crate) struct Tcp {
    #[command(flatten)]
    to: Target,
    /// The server sends a greeting first.
    #[arg(long)]
    speaks_first: bool,
    /// Bytes each way.
    #[arg(long, default_value_t = 4 * 1024 * 1024)]
    bytes: usize,
}

/// Connections to many ports.
#[derive(clap::Args)]
pub(crate) struct Scan {
    /// IP address.
    host: IpAddr,
    /// First port.
    #[arg(long)]
    from: u16,
    /// Number of ports.
    #[arg(long)]
    count: u16,
    /// Seconds that the connections are held.
    #[arg(long)]
    seconds: u64,
}

/// A pseudo-random byte sequence that is the same in each run.
fn pattern(bytes: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..bytes)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

/// Streams chunks both ways; each answer must arrive before the next chunk is sent.
pub(crate) async fn grpc(args: Grpc) -> anyhow::Result<()> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", args.to.target))?;
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await?);
    grpc.ready().await?;
    let (tx, rx) = tokio::sync::mpsc::channel(8);
    let codec = tonic_prost::ProstCodec::<Chunk, Chunk>::default();
    let request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(rx));
    let path = http::uri::PathAndQuery::from_static(PATH);
    let chunk = |number| Chunk {
        number,
        data: pattern(args.bytes, number),
    };
    // The first message goes before the response's headers: both directions must flow on their own.
    tx.send(chunk(0)).await?;
    let response = grpc.streaming(request, path, codec).await?;
    let headers = response.metadata().clone().into_headers();
    let mut answers = response.into_inner();
    let exchange = async {
        for number in 0..args.messages {
            let answer = answers.message().await?.context("the stream ended early")?;
            ensure!(answer == chunk(number), "message {number} came back changed");
            if number + 1 < args.messages {
                tx.send(chunk(number + 1)).await?;
            }
        }
        drop(tx);
        ensure!(answers.message().await?.is_none(), "a message too many");
        anyhow::Ok(())
    };
    tokio::time::timeout(EXCHANGE, exchange).await??;
    let headers = headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.to_string(), serde_json::Value::from(value))
    });
    let headers: serde_json::Map<_, _> = headers.collect();
    println(&serde_json::json!({ "messages": args.messages, "bytes": args.bytes, "headers": headers }));
    Ok(())
}

/// Echoes text and binary messages of several sizes.
pub(crate) async fn web_socket(args: Target) -> anyhow::Result<()> {
    let stream = TcpStream::connect(&args.target).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{}/ws", args.target), stream).await?;
    let exchange = async {
        for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            let message = Message::binary(pattern(size, size as u64));
            socket.send(message.clone()).await?;
            let answer = socket.next().await.context("the socket ended early")??;
            ensure!(answer == message, "a message of {size} bytes came back changed");
        }
        socket.send(Message::text("bye")).await?;
        ensure!(
            socket.next().await.context("the socket ended early")?? == Message::text("bye"),
            "text changed"
        );
        socket.close(None).await?;
        anyhow::Ok(())
    };
    tokio::time::timeout(EXCHANGE, exchange).await??;
    println(&serde_json::json!({ "messages": 8 }));
    Ok(())
}

/// Sends a chunked body and compares length and digest with what the server read.
pub(crate) async fn upload(args: Upload) -> anyhow::Result<()> {
    const PART: usize = 64 * 1024;
    let part = Bytes::from(pattern(PART, 1));
    let mut hash = digest::Context::new(&digest::SHA256);
    let sizes = move |i: u64| (args.bytes - i * PART as u64).min(PART as u64) as usize;
    let parts = args.bytes.div_ceil(PART as u64);
    for i in 0..parts {
        hash.update(&part[..sizes(i)]);
    }
    let body =
        StreamBody::new(stream::iter((0..parts).map(move |i| {
            Ok::<_, std::convert::Infallible>(Frame::data(part.slice(..sizes(i))))
        })));
    let stream = TcpStream::connect(&args.to.target).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let uri: Uri = "/upload".parse()?;
    let request = Request::post(uri).header("host", &args.to.target).body(body)?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        ensure!(
            response.status() == 200,
            "the upload was answered {}",
            response.status()
        );
        let answer: serde_json::Value = serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?;
        ensure!(
            answer["bytes"] == args.bytes,
            "{} of {} bytes arrived",
            answer["bytes"],
            args.bytes
        );
        ensure!(
            answer["sha256"] == hex::encode(hash.finish()),
            "the bytes arrived changed"
        );
        println(&answer);
        anyhow::Ok(())
    };
    tokio::time::timeout(EXCHANGE, exchange).await??;
    drop(sender);
    connection.await??;
    Ok(())
}

/// Echoes bytes through an opaque connection, half-closes, and expects the end of the stream.
pub(crate) async fn tcp(args: Tcp) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(&args.to.target).await?;
    let exchange = async {
        if args.speaks_first {
            let mut greeting = vec![0; GREETING.len()];
            stream.read_exact(&mut greeting).await.context("no greeting came")?;
            ensure!(greeting == GREETING, "the greeting came changed");
        }
        let sent = pattern(args.bytes, 7);
        let (mut read, mut write) = stream.split();
        let mut received = Vec::with_capacity(args.bytes);
        let (wrote, came) = tokio::join!(
            async {
                write.write_all(&sent).await?;
                write.shutdown().await
            },
            read.read_to_end(&mut received)
        );
        wrote?;
        came?;
        if received != sent {
            bail!(
                "{} of {} bytes came back, or came back changed",
                received.len(),
                sent.len()
            );
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(EXCHANGE, exchange).await??;
    println(&serde_json::json!({ "bytes": args.bytes }));
    Ok(())
}

/// Sends a datagram until it is echoed: one may be lost.
pub(crate) async fn udp(args: Target) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(&args.target).await?;
    let sent = pattern(512, 11);
    let exchange = async {
        let mut received = [0; 1024];
        loop {
            socket.send(&sent).await?;
            let answer = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut received)).await;
            if let Ok(length) = answer {
                ensure!(received[..length?] == sent, "the datagram came back changed");
                return Ok(());
            }
        }
    };
    tokio::time::timeout(DATAGRAMS, exchange).await??;
    println(&serde_json::json!({ "bytes": sent.len() }));
    Ok(())
}

/// Holds a silent connection to each of many ports; counts those that opened, and the bytes that came.
pub(crate) async fn scan(args: Scan) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    for port in args.from..args.from.saturating_add(args.count) {
        connections.spawn(async move {
            let mut stream = TcpStream::connect((args.host, port)).await.ok()?;
            let mut received = Vec::new();
            let reading = stream.read_to_end(&mut received);
            let _ = tokio::time::timeout(Duration::from_secs(args.seconds), reading).await;
            Some(received.len())
        });
    }
    let received: Vec<_> = connections.join_all().await.into_iter().flatten().collect();
    let bytes: usize = received.iter().sum();
    println(&serde_json::json!({ "opened": received.len(), "bytes": bytes }));
    Ok(())
}

/// Prints the result to stdout, where the test reads it.
#[expect(clippy::print_stdout, reason = "the result of a client is its output")]
pub(crate) fn println(value: &serde_json::Value) {
    println!("{value}");
}
