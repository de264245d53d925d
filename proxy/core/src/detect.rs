//! Protocol detection from the first bytes of a connection: HTTP/1, HTTP/2, a ClientHello, or none of them.
//!
//! Pure and incremental: after `NeedMore`, call again with all bytes so far. Input is hostile; every read is checked.

use proxy_model::limits::DETECT_TLS_BYTES;

/// First line of the HTTP/2 preface, which is enough to detect it.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// Result of HTTP detection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Detected {
    /// Start of an HTTP/1 request.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Neither.
    NotHttp,
    /// Too few bytes to decide.
    NeedMore,
}

/// Decides between HTTP/1, HTTP/2 and anything else.
///
/// Fewer bytes than the first line of the HTTP/2 preface need more, unless they cannot become HTTP.
pub fn http(bytes: &[u8]) -> Detected {
    if bytes.starts_with(HTTP2) {
        return Detected::Http2;
    }
    if bytes.is_empty() || HTTP2.starts_with(bytes) {
        return Detected::NeedMore;
    }
    match httparse::Request::new(&mut []).parse(bytes) {
        Ok(_) if bytes.len() < HTTP2.len() => Detected::NeedMore,
        // There is no room for headers on purpose: a header at all is enough to decide.
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Detected::Http1,
        Err(_) => Detected::NotHttp,
    }
}

/// Result of TLS detection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// Not a ClientHello, or one that is not in a single record.
    NotTls,
    /// Too few bytes to decide.
    NeedMore,
    /// A whole ClientHello.
    Hello {
        /// Server name, lower case.
        sni: Option<String>,
    },
}

/// Parses a ClientHello that lies in a single record (type 22, version 0x0301 or 0x0303).
///
/// One that spans records, or is larger than [`DETECT_TLS_BYTES`], is not recognised, as in upstream.
pub fn client_hello(bytes: &[u8]) -> Hello {
    const RECORD_HEADER: usize = 5;
    const HANDSHAKE_HEADER: usize = 4;
    let prefix = bytes
        .iter()
        .zip([Some(22), Some(3), None, None, None, Some(1)])
        .enumerate();
    let matches = |(i, (byte, want)): (usize, (&u8, Option<u8>))| match want {
        Some(want) => *byte == want,
        None => i != 2 || matches!(byte, 1 | 3),
    };
    if !prefix.into_iter().all(matches) {
        return Hello::NotTls;
    }
    let Some(length) = bytes.get(3..RECORD_HEADER) else {
        return Hello::NeedMore;
    };
    let record_end = RECORD_HEADER + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if !(RECORD_HEADER + HANDSHAKE_HEADER..=DETECT_TLS_BYTES.value).contains(&record_end) {
        return Hello::NotTls;
    }
    let Some(record) = bytes.get(RECORD_HEADER..record_end) else {
        return Hello::NeedMore;
    };
    let mut reader = Reader(record);
    let hello = reader.take(1).and_then(|_| reader.vector(3));
    hello.and_then(server_name).unwrap_or(Hello::NotTls)
}

/// Parses the body of a ClientHello; `None` if it is malformed.
fn server_name(hello: &[u8]) -> Option<Hello> {
    let mut reader = Reader(hello);
    reader.take(2 + 32)?; // legacy version, random
    reader.vector(1)?; // legacy session id
    reader.vector(2)?; // cipher suites
    reader.vector(1)?; // compression methods
    if reader.0.is_empty() {
        return Some(Hello::Hello { sni: None });
    }
    let mut extensions = Reader(reader.vector(2)?);
    while !extensions.0.is_empty() {
        let kind = extensions.take(2)?;
        let body = extensions.vector(2)?;
        if kind == [0, 0] {
            let mut names = Reader(Reader(body).vector(2)?);
            let is_host = names.take(1)? == [0];
            let name = names.vector(2)?;
            let text = std::str::from_utf8(name)
                .ok()
                .filter(|text| is_host && !text.is_empty() && text.is_ascii());
            return Some(Hello::Hello {
                sni: text.map(str::to_ascii_lowercase),
            });
        }
    }
    Some(Hello::Hello { sni: None })
}

/// Reader from the front; `None` if there are too few bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// Reads a length of `width` bytes, then that many bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let length = self
            .take(width)?
            .iter()
            .fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
