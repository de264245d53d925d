//! Attacks by transport headers, of a meshed client.

use std::{num::NonZeroU16, time::Duration};

use anyhow::{Result, ensure};
use proxy_model::ports;
use proxy_transport::header::{Header, SessionProtocol};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::client::TlsStream;

use crate::{
    raw::{ended, http1::exchange, printable},
    target::Target,
};

const ALPN: &[u8] = b"transport.l5d.io/v1";
const PATIENCE: Duration = Duration::from_secs(12);
const LAST: Duration = Duration::from_secs(1);

async fn session(target: &Target) -> Result<TlsStream<TcpStream>> {
    let config = target.keys.config(&[ALPN])?;
    target.keys.connect(target.connect().await?, &config).await
}

fn header(port: u16, name: Option<String>) -> Header {
    Header {
        name,
        ..Header::port(NonZeroU16::new(port).expect("not 0"), Some(SessionProtocol::Http1))
    }
}

pub(super) async fn long_names(target: &Target) -> Result<String> {
    let mut sent = 0;
    for number in 0..400 {
        let name = format!("{number}.{}", "\"".repeat(60_000));
        let mut session = session(target).await?;
        let _ = session.write_all(&header(9000, Some(name)).encode()).await;
        ended(&mut [session], LAST).await;
        sent += 1;
    }
    Ok(format!("{sent} sent"))
}

pub(super) async fn silence(target: &Target) -> Result<String> {
    let mut sessions = Vec::new();
    for _ in 0..100 {
        let mut session = session(target).await?;
        session.write_all(b"transport.l5d.io/v1\r\n\r\n\0\0").await?;
        session.flush().await?;
        sessions.push(session);
    }
    Ok(ended(&mut sessions, PATIENCE).await.to_string())
}

/// Reaches for what is the pod's alone.
pub(super) async fn own_ports(target: &Target) -> Result<String> {
    let mut said = Vec::new();
    for port in [ports::OUTBOUND, ports::INBOUND, ports::TAP, ports::ADMIN] {
        let mut session = session(target).await?;
        let request = b"GET /env.json HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let bytes = [&header(port, None).encode()[..], request].concat();
        let answer = exchange(&mut session, &bytes, LAST).await;
        let is_open = answer.starts_with(b"HTTP/1.1 200");
        ensure!(!is_open, "port {port} answered through a transport header");
        said.push(format!("{port}: {}", printable(&answer)));
    }
    Ok(said.join(", "))
}

pub(super) async fn garbage(target: &Target) -> Result<String> {
    let mut sessions = Vec::new();
    let mut bytes = b"transport.l5d.io/v1\r\n\r\n".to_vec();
    for number in 0..200_u32 {
        let mut session = session(target).await?;
        bytes.truncate(23);
        bytes.extend((number * 400).to_be_bytes());
        bytes.extend([0xff; 300]);
        let _ = session.write_all(&bytes).await;
        let _ = session.flush().await;
        sessions.push(session);
    }
    Ok(ended(&mut sessions, LAST).await.to_string())
}
