//! The real h2spec on every listener of HTTP/2, and the SETTINGS that protect them. h2spec cannot mark its sockets, so
//! a relay connects for it.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use proxy_model::limits;
use tokio::{
    io::{AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    process::Command,
    task::LocalSet,
};

use crate::{
    raw::{Io, http2::Http2},
    target::{Listener, Target},
};

/// SETTINGS_MAX_CONCURRENT_STREAMS.
const STREAMS: u16 = 3;
/// SETTINGS_MAX_HEADER_LIST_SIZE.
const HEADER_LIST: u16 = 6;

pub(super) async fn settings(target: &Target) -> Result<String> {
    let settings = announced(target).await?;
    let of = |id: u16| settings.get(&id).copied();
    let (streams, header_list) = (of(STREAMS), of(HEADER_LIST));
    let said = format!("{streams:?} streams, header lists of {header_list:?} bytes");
    // Streams of the control plane are bounded for each identity, as all of them come by the program's own sidecar.
    let most = match target.listener {
        Listener::Inbound => limits::HTTP2_STREAMS.value,
        listener if listener.is_of_sidecar() => limits::HTTP2_MESHED_STREAMS.value,
        _ => u32::MAX - 1,
    };
    ensure!(streams.is_some_and(|streams| streams <= most), "{said}");
    ensure!(header_list == Some(limits::HEADER_LIST_BYTES.value), "{said}");
    Ok(said)
}

async fn announced(target: &Target) -> Result<BTreeMap<u16, u32>> {
    let mut connection = Http2::open(target.stream().await?, &[]).await?;
    let drained = connection.drain(Duration::from_millis(500)).await;
    // The connection ends in order.
    let _ = connection.into_io().shutdown().await;
    Ok(drained.settings)
}

/// Path that answers with a body.
fn path(listener: Listener) -> &'static str {
    match listener {
        Listener::Admin => "/ready",
        _ => "/bench",
    }
}

/// Cases that do not suit a listener. A port that serves HTTP/1 as well answers an invalid preface as it answers any
/// invalid request; a refused call of gRPC has no DATA; the streams of all sidecars come by one connection, so that one
/// may have more than h2spec can open.
fn exceptions(listener: Listener) -> &'static [&'static str] {
    match listener {
        Listener::Inbound | Listener::Outbound | Listener::Admin => &["Sends invalid connection preface"],
        _ => &[
            "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
            "Sends a PRIORITY frame on half-closed (remote) stream",
            "advertised concurrent stream limit",
        ],
    }
}

/// h2spec in `PATH`, `GOBIN` or Go's usual folder.
fn program() -> Option<PathBuf> {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    let go = [
        var("GOBIN"),
        var("GOPATH").map(|path| path.join("bin")),
        var("HOME").map(|home| home.join("go/bin")),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(go.into_iter().flatten());
    folders
        .map(|folder| folder.join("h2spec"))
        .find(|program| Path::is_file(program))
}

pub(super) async fn h2spec(target: &Target) -> Result<String> {
    let Some(program) = program() else {
        return Ok("SKIPPED: h2spec is not installed".to_owned());
    };
    LocalSet::new().run_until(run(&program, target)).await
}

async fn run(program: &Path, target: &Target) -> Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port().to_string();
    let to = target.clone();
    let relaying = tokio::task::spawn_local(async move {
        while let Ok((near, _)) = listener.accept().await {
            let to = to.clone();
            tokio::task::spawn_local(async move {
                if let Ok(far) = to.stream().await {
                    relay(near, far).await;
                }
            });
        }
    });
    let mut command = Command::new(program);
    command.args(["--host", "127.0.0.1", "--port", &port, "--timeout", "3"]);
    command.args(["--path", path(target.listener)]);
    let output = command.output().await.context("cannot run h2spec");
    relaying.abort();
    verdict(&String::from_utf8_lossy(&output?.stdout), exceptions(target.listener))
}

/// Copies both ways. What the server said arrives whole, even if it reset what it had not read.
async fn relay(near: TcpStream, far: Box<dyn Io>) {
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = tokio::io::split(far);
    let sending = async {
        // The server may close first.
        let _ = copy(&mut near_read, &mut far_write).await;
        let _ = far_write.shutdown().await;
    };
    let receiving = async {
        let _ = copy(&mut far_read, &mut near_write).await;
        let _ = near_write.shutdown().await;
    };
    tokio::join!(sending, receiving);
}

/// Last line of the report, or what failed but for the exceptions.
fn verdict(report: &str, exceptions: &[&str]) -> Result<String> {
    let summary = report.lines().rev().find(|line| line.contains(" tests, "));
    let summary = summary.context("h2spec says nothing")?.trim();
    let failures = report.split("Failures:").nth(1).unwrap_or_default();
    let cases: Vec<String> = failures.split('×').skip(1).map(case).collect();
    let (excepted, failed): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .partition(|case| exceptions.iter().any(|name| case.contains(name)));
    ensure!(failed.is_empty(), "{summary}: {}", failed.join("; "));
    Ok(match excepted.len() {
        0 => summary.to_owned(),
        _ => format!("{summary}, as excepted"),
    })
}

/// Failed case in one line: its name, what was expected, what was seen.
fn case(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with("->"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named() {
        assert!(verdict("x\n146 tests, 145 passed, 1 skipped, 0 failed\n", &[]).is_ok());
        let report = "Failures: \n\n  1. Preface\n   × 2: sends junk\n     -> it must\n     Expected: a\n       Actual: b\n\n\
            146 tests, 145 passed, 0 skipped, 1 failed\n";
        let error = verdict(report, &[]).expect_err("one failed").to_string();
        assert!(
            error.ends_with("1 failed: 2: sends junk Expected: a Actual: b"),
            "{error}"
        );
        assert!(verdict(report, &["sends junk"]).is_ok());
    }
}
