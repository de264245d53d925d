//! HTTP/2 connection with many gRPC streams that only counts messages. It shares two cores with the measured program,
//! so it does no more than find the end of each message.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame header.
const HEAD: usize = 9;
/// Calls of one connection without a first message.
const AT_ONCE: usize = 64;
/// Initial window of the server for calls, HTTP/2's default.
const WINDOW: i64 = 65_535;
/// Window for the server, per stream and in total: it is never updated.
const ROOM: u32 = 0x7fff_0000;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Call with its number and request.
pub(crate) struct Call {
    pub(crate) number: usize,
    pub(crate) path: &'static str,
    pub(crate) message: Vec<u8>,
}

/// Position of a stream in its messages.
#[derive(Clone, Debug, Default)]
struct Messages {
    /// Bytes read of the five in front of a message.
    have: u8,
    length: [u8; 4],
    left: usize,
    any: bool,
}

impl Messages {
    /// Reads data; returns whether a message ended.
    fn take(&mut self, mut data: &[u8]) -> bool {
        let mut whole = false;
        while let Some((first, rest)) = data.split_first() {
            if self.have < 5 {
                if let Some(at) = self.have.checked_sub(1) {
                    self.length[usize::from(at)] = *first;
                }
                self.have += 1;
                self.left = u32::from_be_bytes(self.length) as usize;
                data = rest;
            } else {
                let part = self.left.min(data.len());
                self.left -= part;
                data = &data[part..];
            }
            if self.have == 5 && self.left == 0 {
                self.have = 0;
                whole = true;
            }
        }
        whole
    }
}

/// Connection.
pub(crate) struct Connection {
    socket: TcpStream,
    /// Identity, another one for each connection: each has a share of the streams.
    client: String,
    waiting: VecDeque<Call>,
    /// Streams in the order of their calls, with their numbers.
    streams: Vec<(usize, Messages)>,
    unanswered: usize,
    window: i64,
    input: BytesMut,
    output: Vec<u8>,
}

impl Connection {
    pub(crate) async fn new(addr: SocketAddr, calls: Vec<Call>) -> Result<Self> {
        let socket = TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        let mut output = PREFACE.to_vec();
        let mut settings = vec![0, 4];
        settings.extend(ROOM.to_be_bytes());
        frame(&mut output, SETTINGS, 0, (0, &settings));
        frame(
            &mut output,
            WINDOW_UPDATE,
            0,
            (0, &(ROOM - WINDOW as u32).to_be_bytes()),
        );
        let client = format!("client-{}.bench.serviceaccount", socket.local_addr()?.port());
        Ok(Self {
            socket,
            client,
            streams: Vec::with_capacity(calls.len()),
            waiting: calls.into(),
            unanswered: 0,
            window: WINDOW,
            input: BytesMut::with_capacity(64 * 1_024),
            output,
        })
    }

    /// Makes calls and reads until something ends; `came` gets the number of each stream with a message, and the time.
    pub(crate) async fn run(mut self, mut came: impl FnMut(&[(usize, Instant)])) -> Result<()> {
        let mut told = vec![];
        loop {
            self.call();
            if !self.output.is_empty() {
                self.socket.write_all(&self.output).await?;
                self.output.clear();
            }
            if self.socket.read_buf(&mut self.input).await? == 0 {
                bail!("the program ended a connection");
            }
            while self.frame(&mut told)? {}
            if !told.is_empty() {
                came(&told);
                told.clear();
            }
        }
    }

    fn call(&mut self) {
        while self.unanswered < AT_ONCE
            && let Some(call) = self.waiting.front()
            && self.window >= call.message.len() as i64 + 5
            && let Some(call) = self.waiting.pop_front()
        {
            let stream = self.streams.len() as u32 * 2 + 1;
            frame(
                &mut self.output,
                HEADERS,
                END_HEADERS,
                (stream, &headers(call.path, &self.client)),
            );
            let mut body = vec![0];
            body.extend((call.message.len() as u32).to_be_bytes());
            body.extend(call.message);
            self.window -= body.len() as i64;
            frame(&mut self.output, DATA, END_STREAM, (stream, &body));
            self.streams.push((call.number, Messages::default()));
            self.unanswered += 1;
        }
    }

    /// Takes a frame if it is complete.
    fn frame(&mut self, told: &mut Vec<(usize, Instant)>) -> Result<bool> {
        let Some(head) = self.input.first_chunk::<HEAD>() else {
            return Ok(false);
        };
        let [a, b, c, kind, flags, id @ ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if self.input.len() < HEAD + length {
            return Ok(false);
        }
        self.input.advance(HEAD);
        let payload = self.input.split_to(length);
        let stream = u32::from_be_bytes(id) & 0x7fff_ffff;
        match kind {
            DATA => {
                let found = self.streams.get_mut(stream as usize / 2);
                let (number, messages) = found.context("data of a stream that was not opened")?;
                if messages.take(&payload) {
                    told.push((*number, Instant::now()));
                    self.unanswered -= usize::from(!std::mem::replace(&mut messages.any, true));
                }
            }
            HEADERS if flags & END_STREAM != 0 => bail!("the program refused or ended a stream"),
            RESET => bail!("the program reset a stream"),
            GOAWAY => bail!("the program goes away"),
            SETTINGS if flags & ACK == 0 => frame(&mut self.output, SETTINGS, ACK, (0, &[])),
            PING if flags & ACK == 0 => frame(&mut self.output, PING, ACK, (0, &payload)),
            WINDOW_UPDATE if stream == 0 => {
                let more = payload.first_chunk::<4>().context("a window update without a number")?;
                self.window += i64::from(u32::from_be_bytes(*more));
            }
            _ => {}
        }
        Ok(true)
    }
}

fn frame(output: &mut Vec<u8>, kind: u8, flags: u8, (stream, payload): (u32, &[u8])) {
    output.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    output.extend([kind, flags]);
    output.extend(stream.to_be_bytes());
    output.extend(payload);
}

/// Headers of a call of a client: two by index, the others as text.
fn headers(path: &str, client: &str) -> Vec<u8> {
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    let mut block = vec![POST, HTTP];
    for (name, value) in [
        (":path", path),
        (":authority", "control-plane"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("l5d-client-id", client),
    ] {
        block.push(0);
        for text in [name, value] {
            // Longer ones would need more than a byte; there are none.
            block.push(u8::try_from(text.len()).expect("short") & 0x7f);
            block.extend(text.as_bytes());
        }
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_wherever_frames_do() {
        let bytes = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1, 9]].concat();
        let ends = |sizes: &[usize]| {
            let (mut messages, mut rest) = (Messages::default(), &bytes[..]);
            let mut ends = vec![];
            for size in sizes {
                let (part, after) = rest.split_at(*size);
                rest = after;
                ends.push(messages.take(part));
            }
            assert_eq!((messages.have, messages.left), (0, 0));
            ends
        };
        assert_eq!(ends(&[bytes.len()]), [true]);
        assert_eq!(ends(&[2, 5, 1, 4, 1, 6]), [false, false, true, false, true, true]);
    }
}
