//! Bytes of HTTP/1: requests as they are written, and the strict reading of what arrived at the application.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::Io;

/// Writes bytes and reads until the server closes, or nothing comes for `wait`.
pub async fn exchange<I: Io>(io: &mut I, bytes: &[u8], wait: Duration) -> Vec<u8> {
    // The server may close before it has read everything.
    let _ = timeout(wait, io.write_all(bytes)).await;
    let mut answer = Vec::new();
    let mut part = [0; 16 * 1024];
    while let Ok(Ok(count @ 1..)) = timeout(wait, io.read(&mut part)).await {
        answer.extend_from_slice(&part[..count]);
    }
    answer
}

/// Statuses of the responses in `answer`, in order; bodies have a length.
pub fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let heads = text.split("HTTP/1.").skip(1);
    heads
        .filter_map(|head| head.split(' ').nth(1)?.get(..3)?.parse().ok())
        .collect()
}

/// Request lines in bytes, each with its hosts, read as strictly as RFC 9112 asks for. An error names what is not HTTP.
pub fn request_lines(mut bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut headers);
        let head = match request.parse(bytes).map_err(|error| error.to_string())? {
            httparse::Status::Complete(head) => head,
            httparse::Status::Partial => return Err("a head without an end".to_owned()),
        };
        let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
        let hosts = values(&request, "host").join(",");
        lines.push(format!("{method} {path} @{hosts}"));
        let length = body_length(&request, &bytes[head..])?;
        bytes = bytes.get(head + length..).ok_or("a body without an end")?;
    }
    Ok(lines)
}

fn values(request: &httparse::Request<'_, '_>, name: &str) -> Vec<String> {
    let named = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
    named
        .map(|h| String::from_utf8_lossy(h.value).trim().to_owned())
        .collect()
}

fn body_length(request: &httparse::Request<'_, '_>, rest: &[u8]) -> Result<usize, String> {
    let (lengths, codings) = (values(request, "content-length"), values(request, "transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(0),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => length.parse().map_err(|_| "length".to_owned()),
        ([], [coding]) if coding == "chunked" => chunked(rest),
        _ => Err(format!("ambiguous lengths: {lengths:?} and {codings:?}")),
    }
}

fn chunked(bytes: &[u8]) -> Result<usize, String> {
    let mut at = 0;
    loop {
        let rest = &bytes[at.min(bytes.len())..];
        let end = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .ok_or("a chunk without an end")?;
        let text = std::str::from_utf8(&rest[..end]).map_err(|_| "a chunk size".to_owned())?;
        let size = usize::from_str_radix(text, 16).map_err(|_| format!("chunk size {text:?}"))?;
        at += end + 2 + size + 2;
        if size == 0 {
            return Ok(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_requests_apart_by_their_lengths() {
        let bytes = b"POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcGET /b HTTP/1.1\r\n\r\n\
            POST /c HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nxy\r\n0\r\n\r\nGET /d HTTP/1.1\r\n\r\n";
        assert_eq!(
            request_lines(bytes).expect("well formed"),
            ["POST /a @", "GET /b @", "POST /c @", "GET /d @"]
        );
        let both = b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
        assert!(request_lines(both).is_err_and(|error| error.contains("ambiguous")));
        assert_eq!(statuses(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 404 No\r\n\r\n"), [200, 404]);
    }
}
