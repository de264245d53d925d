//! What the first bytes of a connection are: HTTP/1, HTTP/2, a ClientHello, or none of them.
//!
//! Pure and incremental: call again with all bytes so far when the answer is "need more". Hostile input is the normal case
//! here; every read is checked.

use proxy_model::limits::DETECT_TLS_BYTES;

/// First line of the HTTP/2 preface: enough to know it.
const HTTP2: &[u8] = b"PRI * HTTP/2.0";

/// What the first bytes are, as to HTTP.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Detected {
    /// The beginning of an HTTP/1 request.
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Neither.
    NotHttp,
    /// Too few bytes to know.
    NeedMore,
}

/// Decides between HTTP/1, HTTP/2 and anything else.
///
/// Fewer bytes than the first line of the HTTP/2 preface say "need more", unless they can no longer become HTTP.
pub fn http(bytes: &[u8]) -> Detected {
    if bytes.starts_with(HTTP2) {
        return Detected::Http2;
    }
    if bytes.is_empty() || HTTP2.starts_with(bytes) {
        return Detected::NeedMore;
    }
    match httparse::Request::new(&mut []).parse(bytes) {
        Ok(_) if bytes.len() < HTTP2.len() => Detected::NeedMore,
        // No room for headers is on purpose: that there are some says enough.
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Detected::Http1,
        Err(_) => Detected::NotHttp,
    }
}

/// What the first bytes are, as to TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// No ClientHello, or one that is not in one record.
    NotTls,
    /// Too few bytes to know.
    NeedMore,
    /// A whole ClientHello.
    Hello {
        /// The server name it asks for, lower case.
        sni: Option<String>,
    },
}

/// Looks for a ClientHello that lies whole in one record (type 22, version 0x0301 or 0x0303).
///
/// One that is spread over records, or larger than [`DETECT_TLS_BYTES`], is not recognised, as upstream has it.
pub fn client_hello(bytes: &[u8]) -> Hello {
    const RECORD_HEADER: usize = 5;
    const HANDSHAKE_HEADER: usize = 4;
    let prefix_fits = bytes
        .iter()
        .zip([Some(22), Some(3), None, None, None, Some(1)])
        .enumerate();
    let fits = |(i, (byte, want)): (usize, (&u8, Option<u8>))| match want {
        Some(want) => *byte == want,
        None => i != 2 || matches!(byte, 1 | 3),
    };
    if !prefix_fits.into_iter().all(fits) {
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

/// What the body of a ClientHello says; `None` when it is malformed.
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

/// Reads from the front; `None` when there is not enough.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    /// A length in `width` bytes, then that many bytes.
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
