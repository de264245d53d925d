//! Requests that one side could read as one and the other as two, or whose path or host the two could read differently.
//!
//! The application records what arrives, byte by byte; what arrives is read strictly.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::sleep,
};

use crate::{
    place::RECORDER_PORT,
    raw::{
        http1::{exchange, request_lines, statuses},
        http2::{END_HEADERS, END_STREAM, Http2, block, kind},
    },
    target::{Listener, Target},
};

use Must::{One, Refused};

/// Time for an answer.
const ANSWER: Duration = Duration::from_millis(300);

/// Fate that a message must have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Must {
    /// The application never hears of it.
    Refused,
    /// It arrives as one request, or not at all.
    One,
}

/// Bodies with a request inside.
const INSIDE: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// Heads behind `POST / HTTP/1.1`, each followed by [`INSIDE`].
const HEADS: &[(&str, &str, Must)] = &[
    (
        "length and coding",
        "content-length: 40\r\ntransfer-encoding: chunked",
        One,
    ),
    (
        "coding and length",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        One,
    ),
    ("two lengths", "content-length: 5\r\ncontent-length: 40", Refused),
    ("two lengths in one", "content-length: 5, 40", Refused),
    ("a sign", "content-length: +5", Refused),
    ("a negative length", "content-length: -5", Refused),
    ("a hexadecimal length", "content-length: 0x5", Refused),
    (
        "a length that overflows",
        "content-length: 18446744073709551621",
        Refused,
    ),
    (
        "two codings",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        Refused,
    ),
    ("an unknown coding", "transfer-encoding: xchunked", Refused),
    ("chunked is not last", "transfer-encoding: chunked, identity", Refused),
    (
        "blank before the colon",
        "transfer-encoding : chunked\r\ncontent-length: 5",
        Refused,
    ),
    (
        "a folded coding",
        "x: a\r\n transfer-encoding: chunked\r\ncontent-length: 5",
        Refused,
    ),
    (
        "a control character",
        "transfer-encoding: \x0bchunked\r\ncontent-length: 5",
        Refused,
    ),
    (
        "a carriage return",
        "x: a\rtransfer-encoding: chunked\r\ncontent-length: 5",
        Refused,
    ),
    ("a NUL", "x: a\0b\r\ncontent-length: 5", Refused),
    ("a name with a blank", "content length: 5", Refused),
    ("an underscore", "content_length: 0\r\ncontent-length: 43", One),
    ("two hosts", "host: b\r\ncontent-length: 0", Refused),
];

/// Whole messages.
const MESSAGES: &[(&str, &str, Must)] = &[
    (
        "HTTP/1.0 with a coding",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Refused,
    ),
    (
        "a chunk that overflows",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        One,
    ),
    (
        "a chunk with a sign",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n+0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        One,
    ),
    (
        "a chunk without its end",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        One,
    ),
    (
        "lines of a chunk end in LF",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\n\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        One,
    ),
    (
        "a length in trailers",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 50\r\n\r\n",
        One,
    ),
    ("no host", "GET /smuggled HTTP/1.1\r\n\r\n", Refused),
    (
        "a host with a path",
        "GET /smuggled HTTP/1.1\r\nhost: a/b\r\n\r\n",
        Refused,
    ),
    (
        "blanks in the request line",
        "GET  /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        Refused,
    ),
    (
        "an unknown version",
        "GET /smuggled HTTP/1.7\r\nhost: a\r\n\r\n",
        Refused,
    ),
    (
        "a control character in the path",
        "GET /smug\x01gled HTTP/1.1\r\nhost: a\r\n\r\n",
        Refused,
    ),
    (
        "CONNECT to another host",
        "CONNECT other:22 HTTP/1.1\r\nhost: other:22\r\n\r\nSSH-2.0-smuggled\r\n",
        One,
    ),
];

/// HTTP/2 message: name, fields, data, and the fate that it must have.
type Message = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    Must,
);

/// HTTP/2 messages.
const STREAMS: &[Message] = &[
    (
        "a line end in a value",
        &[("x", "a\r\n\r\nGET /smuggled HTTP/1.1")],
        "",
        Refused,
    ),
    ("a NUL in a value", &[("x", "a\0b")], "", Refused),
    ("a colon in a name", &[("x:y", "a")], "", Refused),
    ("a blank in a name", &[("x y", "a")], "", Refused),
    ("upper case", &[("X", "a")], "", Refused),
    (
        "two lengths",
        &[("content-length", "1"), ("content-length", "2")],
        "x",
        Refused,
    ),
    ("a length with a sign", &[("content-length", "+1")], "x", Refused),
    (
        "more data than its length",
        &[("content-length", "1")],
        "xGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        One,
    ),
    ("less data than its length", &[("content-length", "90")], "x", One),
    (
        "a coding",
        &[("transfer-encoding", "chunked")],
        "0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        Refused,
    ),
    ("a connection", &[("connection", "close")], "", Refused),
    ("te other than trailers", &[("te", "chunked")], "", Refused),
    ("another path", &[(":path", "/smuggled")], "", Refused),
    ("a pseudo-header of responses", &[(":status", "200")], "", Refused),
    ("an unknown pseudo-header", &[(":x", "a")], "", Refused),
];

/// The same, with two names of the host.
const HOSTS: &[Message] = &[
    ("a host that is not the authority", &[("host", "b")], "", One),
    ("two hosts", &[("host", "a"), ("host", "b")], "", One),
];

/// Fields of a request before those of [`STREAMS`]. The last one asks for HTTP/1 toward the application, as a proxy of
/// the mesh does.
const FIRST: [(&str, &str); 5] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "a"),
    ("l5d-orig-proto", "HTTP/1.1"),
];

/// Bytes that a connection has received, shared with the task that reads it.
type Received = Rc<RefCell<Vec<u8>>>;

/// Application that records what it is sent, by connection.
struct Recorder {
    connections: Rc<RefCell<Vec<Received>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Recorder {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, RECORDER_PORT)).await?;
        let connections: Rc<RefCell<Vec<_>>> = Rc::default();
        let all = Rc::clone(&connections);
        let accepting = tokio::task::spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let seen = Rc::default();
                all.borrow_mut().push(Rc::clone(&seen));
                tokio::task::spawn_local(record(socket, seen));
            }
        });
        Ok(Self { connections, accepting })
    }

    /// Takes what arrived: request lines, or what was not HTTP. Bytes that a port without routes of its own passes on
    /// as they are were not a request for the proxy either, and are left out.
    async fn take(&self, sent: &[u8]) -> Vec<Result<String, String>> {
        sleep(Duration::from_millis(30)).await;
        let mut lines = Vec::new();
        for bytes in self.connections.borrow().iter() {
            let bytes = bytes.take();
            match request_lines(&bytes) {
                _ if bytes.is_empty() || sent.starts_with(&bytes) => {}
                Ok(read) => lines.extend(read.into_iter().map(Ok)),
                Err(error) => lines.push(Err(error)),
            }
        }
        lines
    }
}

/// Answers each whole request.
async fn record(mut socket: tokio::net::TcpStream, seen: Rc<RefCell<Vec<u8>>>) {
    let mut bytes = [0; 16 * 1024];
    let (mut all, mut answered) = (Vec::new(), 0);
    while let Ok(count @ 1..) = socket.read(&mut bytes).await {
        seen.borrow_mut().extend_from_slice(&bytes[..count]);
        all.extend_from_slice(&bytes[..count]);
        let whole = request_lines(&all).map_or(0, |lines| lines.len());
        for _ in answered..whole {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if socket.write_all(answer).await.is_err() {
                return;
            }
        }
        answered = answered.max(whole);
    }
}

/// Runs in a `LocalSet`, whose tasks are the application.
async fn with_recorder<F>(target: &Target, run: F) -> Result<String>
where
    F: AsyncFnOnce(&Target, &Recorder) -> Result<Vec<String>>,
{
    let to = SocketAddr::new(target.to.ip(), RECORDER_PORT);
    let target = Target { to, ..target.clone() };
    let local = tokio::task::LocalSet::new();
    let wrong = local
        .run_until(async {
            let recorder = Recorder::start().await?;
            let plain = exchange(
                &mut target.connect().await?,
                b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
                ANSWER,
            )
            .await;
            if statuses(&plain) != [200] || recorder.take(b"").await.len() != 1 {
                bail!("a plain request does not arrive");
            }
            run(&target, &recorder).await
        })
        .await?;
    if wrong.is_empty() {
        return Ok("each was refused, or arrived as one request".to_owned());
    }
    bail!("{}", wrong.join("; "))
}

/// Judges what arrived at the application.
fn judge(name: &str, must: Must, arrived: &[Result<String, String>]) -> Option<String> {
    let cut = |error: &String| error.ends_with("without an end");
    let smuggled = arrived
        .iter()
        .any(|line| matches!(line, Ok(line) if line.contains("smuggled") || !line.ends_with("@a")));
    let unclear = arrived.iter().any(|line| matches!(line, Err(error) if !cut(error)));
    let wrong = smuggled && must == One || unclear || must == Refused && !arrived.is_empty() || arrived.len() > 1;
    wrong.then(|| format!("{name}: {arrived:?}"))
}

pub(super) async fn http1(target: &Target) -> Result<String> {
    with_recorder(target, async |target: &Target, recorder: &Recorder| {
        let heads = HEADS.iter().map(|(name, head, must)| {
            (
                *name,
                format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{INSIDE}"),
                *must,
            )
        });
        let messages = MESSAGES
            .iter()
            .map(|(name, text, must)| (*name, (*text).to_owned(), *must));
        let mut wrong = Vec::new();
        for (name, text, must) in heads.chain(messages) {
            let mut stream = target.connect().await?;
            exchange(&mut stream, text.as_bytes(), ANSWER).await;
            wrong.extend(judge(name, must, &recorder.take(text.as_bytes()).await));
        }
        Ok(wrong)
    })
    .await
}

pub(super) async fn http2(target: &Target) -> Result<String> {
    streams(target, STREAMS).await
}

pub(super) async fn hosts(target: &Target) -> Result<String> {
    streams(target, HOSTS).await
}

async fn streams(target: &Target, all: &[Message]) -> Result<String> {
    with_recorder(target, async |target: &Target, recorder: &Recorder| {
        let mut wrong = Vec::new();
        for (name, more, data, must) in all {
            let mut connection = Http2::open(target.connect().await?, &[]).await?;
            let fields = [&FIRST[..], more].concat();
            let end = if data.is_empty() { END_STREAM } else { 0 };
            connection
                .frame(kind::HEADERS, END_HEADERS | end, 1, &block(&fields))
                .await?;
            if !data.is_empty() {
                connection.frame(kind::DATA, END_STREAM, 1, data.as_bytes()).await?;
            }
            connection.flush().await?;
            connection.drain(ANSWER).await;
            wrong.extend(judge(name, *must, &recorder.take(b"").await));
        }
        Ok(wrong)
    })
    .await
}

/// Upgrades that would carry requests past policy, and bytes behind an upgrade that was not accepted.
pub(super) async fn upgrade(target: &Target) -> Result<String> {
    debug_assert_eq!(target.listener, Listener::Inbound);
    const UPGRADES: [&str; 4] = [
        "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__",
        "upgrade: websocket, h2c\r\nconnection: upgrade",
        "upgrade: websocket\r\nupgrade: h2c\r\nconnection: upgrade",
        "upgrade: H2C\r\nconnection: Upgrade",
    ];
    with_recorder(target, async |target: &Target, recorder: &Recorder| {
        let mut wrong = Vec::new();
        for upgrade in UPGRADES {
            let behind = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
            let text = format!("GET / HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n\r\n{behind}");
            let answer = exchange(&mut target.connect().await?, text.as_bytes(), ANSWER).await;
            let bytes: Vec<u8> = recorder
                .connections
                .borrow()
                .iter()
                .flat_map(|seen| seen.borrow().clone())
                .collect();
            let arrived = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            if arrived.contains("h2c") || arrived.contains("http2-settings") || statuses(&answer).contains(&101) {
                wrong.push(format!("{upgrade}: {arrived}"));
            }
            recorder.take(b"").await;
        }
        Ok(wrong)
    })
    .await
}
