//! A cheap HTTP/1 client, so that the core it shares with the application is not what is measured.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::backend;

/// Bytes read at a time.
const READ: usize = 64 * 1024;
/// Headers that an answer may have.
const HEADERS: usize = 32;

/// A request and its expected response.
#[derive(Copy, Clone)]
pub(crate) struct Exchange {
    path: &'static str,
    body: usize,
}

/// The small exchange.
pub(crate) const SMALL: Exchange = Exchange {
    path: "/bench",
    body: backend::BODY.len(),
};
/// The large exchange.
pub(crate) const LARGE: Exchange = Exchange {
    path: backend::LARGE_PATH,
    body: backend::LARGE,
};

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    request: String,
    exchange: Exchange,
    buffer: Vec<u8>,
    expected: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(addr: SocketAddr, exchange: Exchange) -> Result<Self> {
        Ok(Self {
            socket: super::connect(addr).await?,
            request: format!("GET {} HTTP/1.1\r\nhost: {addr}\r\n\r\n", exchange.path),
            exchange,
            buffer: Vec::with_capacity(READ),
            expected: vec![backend::FILL; READ],
        })
    }

    /// Sends a request and checks the response to the last byte.
    pub(crate) async fn exchange(&mut self) -> Result<()> {
        self.socket
            .write_all(self.request.as_bytes())
            .await
            .context("a request failed")?;
        self.buffer.clear();
        let head = loop {
            self.read().await?;
            if let Some(head) = head(&self.buffer, self.exchange.body)? {
                break head;
            }
            ensure!(self.buffer.len() < READ, "wrong answer: its head has no end");
        };
        let mut left = self.exchange.body;
        let mut from = head;
        loop {
            let body = &self.buffer[from..];
            ensure!(
                body.len() <= left && *body == self.expected[..body.len()],
                "wrong answer: other bytes than were sent"
            );
            left -= body.len();
            if left == 0 {
                return Ok(());
            }
            from = 0;
            self.buffer.clear();
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<()> {
        let room = READ - self.buffer.len();
        let mut socket = (&mut self.socket).take(room as u64);
        let read = socket.read_buf(&mut self.buffer).await.context("an answer broke off")?;
        ensure!(
            read > 0,
            "an answer broke off: {}",
            String::from_utf8_lossy(&self.buffer)
        );
        Ok(())
    }
}

/// Length of the head, once it is complete.
fn head(bytes: &[u8], body: usize) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).context("wrong answer")? else {
        return Ok(None);
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok());
    if response.code != Some(200) || length != Some(body) {
        bail!("wrong answer: {}", String::from_utf8_lossy(&bytes[..head]));
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_wrong_status_and_length() {
        let right = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmm";
        assert!(matches!(head(right, 5), Ok(Some(at)) if at == right.len() - 2));
        assert!(matches!(head(&right[..20], 5), Ok(None)));
        assert!(head(right, 6).is_err(), "another length");
        assert!(head(b"HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\n", 5).is_err());
    }
}
