//! Frames of HTTP/2, written one by one: header blocks are literals, and nothing is checked.

use std::{collections::BTreeMap, io, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout, timeout_at},
};

use super::Io;

/// Bytes before the first frame.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame header.
const HEAD: usize = 9;
/// Output that is written at once.
const FULL: usize = 64 * 1024;
/// Time for a write: a server that has stopped reading is an answer.
const WRITE: Duration = Duration::from_secs(2);

/// Kinds of frames.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0;
    /// HEADERS.
    pub const HEADERS: u8 = 1;
    /// PRIORITY.
    pub const PRIORITY: u8 = 2;
    /// RST_STREAM.
    pub const RESET: u8 = 3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 4;
    /// PING.
    pub const PING: u8 = 6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 7;
    /// WINDOW_UPDATE.
    pub const WINDOW_UPDATE: u8 = 8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 9;
}

/// Flag: acknowledgement, of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Flag: last frame of a stream.
pub const END_STREAM: u8 = 1;
/// Flag: last frame of a header block.
pub const END_HEADERS: u8 = 4;

/// Frame of the server.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Kind.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// Stream; 0 is the connection.
    pub stream: u32,
    /// Payload.
    pub payload: Bytes,
}

/// Connection.
#[derive(Debug)]
pub struct Http2<I> {
    io: I,
    input: BytesMut,
    output: Vec<u8>,
    next: u32,
}

impl<I: Io> Http2<I> {
    /// Writes the preface and SETTINGS.
    pub async fn open(io: I, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut new = Self {
            io,
            input: BytesMut::new(),
            output: PREFACE.to_vec(),
            next: 1,
        };
        new.settings(settings).await?;
        new.flush().await?;
        Ok(new)
    }

    /// Connection underneath.
    pub fn into_io(self) -> I {
        self.io
    }

    /// Writes SETTINGS.
    pub async fn settings(&mut self, settings: &[(u16, u32)]) -> io::Result<()> {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.frame(kind::SETTINGS, 0, 0, &payload).await
    }

    /// Writes a frame; it leaves with others or by [`Http2::flush`].
    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.output.extend(&(payload.len() as u32).to_be_bytes()[1..]);
        self.output.extend([kind, flags]);
        self.output.extend(stream.to_be_bytes());
        self.output.extend(payload);
        if self.output.len() < FULL {
            return Ok(());
        }
        self.flush().await
    }

    /// Writes everything.
    pub async fn flush(&mut self) -> io::Result<()> {
        let written = timeout(WRITE, self.io.write_all(&self.output)).await;
        self.output.clear();
        written??;
        timeout(WRITE, self.io.flush()).await?
    }

    /// Opens a stream with a request; returns its number.
    pub async fn request(&mut self, fields: &[(&str, &str)], flags: u8) -> io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        self.frame(kind::HEADERS, END_HEADERS | flags, stream, &block(fields))
            .await?;
        Ok(stream)
    }

    /// Opens a stream with `GET path`.
    pub async fn get(&mut self, path: &str) -> io::Result<u32> {
        self.request(&fields("GET", path), END_STREAM).await
    }

    /// Resets a stream.
    pub async fn reset(&mut self, stream: u32) -> io::Result<()> {
        const CANCEL: u32 = 8;
        self.frame(kind::RESET, 0, stream, &CANCEL.to_be_bytes()).await
    }

    /// Opens the window of a stream, or of the connection.
    pub async fn window(&mut self, stream: u32, more: u32) -> io::Result<()> {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes()).await
    }

    /// Reads a frame; none at the end of the connection.
    pub async fn read(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = take(&mut self.input) {
                return Ok(Some(frame));
            }
            if self.io.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads until the server closes, or `wait` is over.
    pub async fn drain(&mut self, wait: Duration) -> Drained {
        let deadline = Instant::now() + wait;
        let mut drained = Drained::default();
        loop {
            match timeout_at(deadline, self.read()).await {
                Ok(Ok(Some(frame))) => drained.note(&frame),
                Ok(Ok(None) | Err(_)) => {
                    drained.is_closed = true;
                    return drained;
                }
                Err(_) => return drained,
            }
        }
    }

    /// Sends a gRPC request, as the sidecar of a meshed client passes it on, and reads until its first message.
    pub async fn grpc(&mut self, path: &str, client: &str, message: &[u8]) -> io::Result<Bytes> {
        let call = [
            &fields("POST", path)[..],
            &[
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("l5d-client-id", client),
            ],
        ]
        .concat();
        let stream = self.request(&call, 0).await?;
        let length = (message.len() as u32).to_be_bytes();
        let body = [&[0][..], &length, message].concat();
        self.frame(kind::DATA, END_STREAM, stream, &body).await?;
        self.flush().await?;
        while let Some(frame) = self.read().await? {
            match frame.kind {
                kind::DATA if frame.stream == stream && frame.payload.len() > 5 => return Ok(frame.payload.slice(5..)),
                kind::HEADERS if frame.stream == stream && frame.flags & END_STREAM != 0 => break,
                kind::RESET if frame.stream == stream => break,
                kind::GOAWAY => break,
                kind::PING if frame.flags & ACK == 0 => {
                    self.frame(kind::PING, ACK, 0, &frame.payload).await?;
                    self.flush().await?;
                }
                _ => {}
            }
        }
        Err(io::Error::other("the call was refused"))
    }
}

/// Frames of a server until it closed.
#[derive(Clone, Debug, Default)]
pub struct Drained {
    /// Frames by their kind.
    pub frames: BTreeMap<u8, usize>,
    /// Error code of GOAWAY.
    pub goaway: Option<u32>,
    /// SETTINGS.
    pub settings: BTreeMap<u16, u32>,
    /// The server closed the connection.
    pub is_closed: bool,
}

impl Drained {
    fn note(&mut self, frame: &Frame) {
        *self.frames.entry(frame.kind).or_default() += 1;
        match frame.kind {
            kind::GOAWAY if frame.payload.len() >= 8 => {
                let code: Option<[u8; 4]> = frame.payload[4..8].try_into().ok();
                self.goaway = code.map(u32::from_be_bytes);
            }
            kind::SETTINGS if frame.flags & ACK == 0 => {
                let pairs = frame.payload.chunks_exact(6);
                self.settings
                    .extend(pairs.map(|mut pair| (pair.get_u16(), pair.get_u32())));
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Drained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        let count = |kind: u8| self.frames.get(&kind).copied().unwrap_or_default();
        if let Some(code) = self.goaway {
            write!(f, "GOAWAY {}, ", NAMES.get(code as usize).unwrap_or(&"?"))?;
        }
        let (headers, resets) = (count(kind::HEADERS), count(kind::RESET));
        write!(f, "{headers} HEADERS, {resets} RST_STREAM, ")?;
        f.write_str(if self.is_closed { "closed" } else { "open" })
    }
}

/// Fields of a request.
pub fn fields<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a"),
    ]
}

/// Header block of literals that are not indexed.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

/// Literal that enters the dynamic table, from which one byte refers to it.
pub fn indexed(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0x40];
    string(&mut block, name.as_bytes());
    string(&mut block, value.as_bytes());
    block
}

/// String without Huffman coding.
fn string(block: &mut Vec<u8>, text: &[u8]) {
    const PREFIX: usize = 0x7f;
    if text.len() < PREFIX {
        block.push(text.len() as u8);
    } else {
        block.push(PREFIX as u8);
        let mut rest = text.len() - PREFIX;
        while rest >= 0x80 {
            block.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        block.push(rest as u8);
    }
    block.extend(text);
}

fn take(input: &mut BytesMut) -> Option<Frame> {
    let [a, b, c, kind, flags, stream @ ..] = *input.first_chunk::<HEAD>()?;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if input.len() < HEAD + length {
        return None;
    }
    input.advance(HEAD);
    Some(Frame {
        kind,
        flags,
        stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        payload: input.split_to(length).freeze(),
    })
}
