//! `capture`: what passes on the interfaces of this network namespace, and whether a text is readable in it.
//!
//! The loopback interface, where a proxy and its application talk, is the counter-check: there the text must be seen, or
//! nothing would be proved by not seeing it on the way to other pods.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
            sockopt::{RcvBuf, ReceiveTimeout},
        },
        time::{TimeVal, TimeValLike},
    },
};
use serde::{Deserialize, Serialize};

/// Largest packet: a veth passes on what the kernel has not yet cut.
const PACKET_BYTES: usize = 128 * 1024;
/// Buffer in the kernel, for bursts.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// What to look for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The text.
    #[arg(long)]
    marker: String,
    /// How long.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// What passed on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// Packets with the text.
    pub marked: u64,
}

/// By interface.
pub type Report = BTreeMap<String, Captured>;

pub(super) fn run(args: &Args) -> Result<()> {
    let report = capture(args.marker.as_bytes(), Duration::from_secs_f64(args.seconds))?;
    crate::print(&report)
}

fn capture(marker: &[u8], time: Duration) -> Result<Report> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    );
    let socket = socket.context("cannot capture packets; that needs the capability NET_RAW")?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100))?;
    // As much as the system grants.
    let _ = setsockopt(&socket, RcvBuf, &BUFFER_BYTES);
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    let mut report = Report::new();
    let mut packet = vec![0; PACKET_BYTES];
    let end = Instant::now() + time;
    while Instant::now() < end {
        let (length, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(io::Error::from(error)).context("capturing packets failed"),
        };
        let Some(from) = from else { continue };
        let name = names.entry(from.ifindex()).or_insert_with(|| interface(from.ifindex()));
        let captured = report.entry(name.clone()).or_default();
        captured.packets += 1;
        captured.bytes += length as u64;
        captured.marked += u64::from(contains(&packet[..length], marker));
    }
    Ok(report)
}

fn interface(index: usize) -> String {
    let interfaces = nix::net::if_::if_nameindex();
    let found = interfaces.ok().and_then(|all| {
        let named = all.iter().find(|i| i.index() as usize == index)?;
        Some(named.name().to_string_lossy().into_owned())
    });
    found.unwrap_or_else(|| index.to_string())
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    !text.is_empty() && bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_stands() {
        assert!(
            contains(b"marker", b"marker") && contains(b"xxmarkerxx", b"marker") && contains(b"mamarker", b"marker")
        );
        assert!(!contains(b"marke", b"marker") && !contains(b"", b"marker") && !contains(b"x", b""));
    }
}
