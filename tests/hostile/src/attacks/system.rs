//! Attacks that use up what the system gives a process.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::{io::AsyncWriteExt as _, time::sleep};

use crate::{raw, target::Target};

/// First port of the scan, and the number of ports.
const SCAN: (u16, u16) = (20_000, 8_000);

pub(super) async fn port_scan(target: &Target) -> Result<String> {
    let (first, count) = SCAN;
    let mut open = 0;
    for port in first..first + count {
        if let Ok(mut socket) = target.connect_port(port).await {
            let _ = socket.write_all(b"x").await;
            open += 1;
        }
    }
    Ok(format!("{open} of {count} ports accepted"))
}

/// Takes all descriptors of the program; when they are free again, it serves.
pub(super) async fn open_files(target: &Target) -> Result<String> {
    let held = target.many(300, b"", Duration::from_secs(1)).await;
    let held = held.len();
    sleep(Duration::from_millis(500)).await;
    let mut after = target.connect().await?;
    let ended = raw::ended(std::slice::from_mut(&mut after), Duration::from_millis(300)).await;
    ensure!(held > 0, "no connection at all");
    Ok(format!("{held} held; another: {ended}"))
}
