//! HTTP/2 frames by hand.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// Settings by their identifiers.
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Received frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl RawFrame {
    /// Error code of a GOAWAY or RST_STREAM.
    pub(crate) fn code(&self) -> u32 {
        let code = if self.kind == GOAWAY {
            &self.payload[4..8]
        } else {
            &self.payload[..4]
        };
        u32::from_be_bytes(code.try_into().expect("four bytes"))
    }

    /// Value of a setting.
    pub(crate) fn setting(&self, id: u16) -> Option<u32> {
        let mut settings = self.payload.chunks(6);
        let found = settings.find(|setting| setting[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes(found[2..6].try_into().expect("four bytes")))
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// Header block of a request by indices of the static table alone, but for the authority `web`; nothing is indexed.
pub(crate) fn block(method: u8) -> Vec<u8> {
    vec![method, 0x86, 0x84, 0x01, 3, b'w', b'e', b'b']
}

pub(crate) const GET: u8 = 0x82;
pub(crate) const POST: u8 = 0x83;

/// GET without a body.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(GET))
}

/// POST whose body follows.
pub(crate) fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(POST))
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

pub(crate) fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// Newest entry of the dynamic table, as an indexed field.
pub(crate) const NEWEST: u8 = 0x80 + 62;

/// Literal header field that enters the dynamic table.
pub(crate) fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut field = vec![0x40];
    for text in [name, value] {
        length(&mut field, text.len());
        field.extend(text);
    }
    field
}

/// HPACK integer with a prefix of seven bits.
fn length(out: &mut Vec<u8>, length: usize) {
    if length < 127 {
        out.push(u8::try_from(length).expect("short"));
        return;
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).expect("a byte") | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).expect("a byte"));
}

/// Receives the next frame, or none at the end of the connection.
pub(crate) async fn receive(io: &mut DuplexStream) -> Option<RawFrame> {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, stream @ ..] = head;
    let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
    io.read_exact(&mut payload).await.ok()?;
    Some(RawFrame {
        kind,
        flags,
        stream: u32::from_be_bytes(stream),
        payload,
    })
}

/// Receives until a frame of `kind`, or the end.
pub(crate) async fn receive_kind(io: &mut DuplexStream, kind: u8) -> Option<RawFrame> {
    loop {
        let frame = receive(io).await?;
        if frame.kind == kind {
            return Some(frame);
        }
    }
}

/// Sends what opens a connection, with these settings.
pub(crate) async fn open(io: &mut DuplexStream, with: &[(u16, u32)]) {
    io.write_all(PREFACE).await.expect("open");
    io.write_all(&settings(with)).await.expect("open");
}

/// Sends frames for as long as the server takes them; returns the number that it took in a minute.
pub(crate) async fn flood(io: &mut DuplexStream, frames: impl Iterator<Item = Vec<u8>>) -> usize {
    let mut taken = 0;
    let all = async {
        for frame in frames {
            if io.write_all(&frame).await.is_err() {
                return;
            }
            taken += 1;
        }
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(60), all).await;
    taken
}
