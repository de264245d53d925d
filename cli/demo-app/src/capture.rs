//! `capture`: packets on the interfaces of this network namespace, searched for a marker in plaintext.
//!
//! The loopback interface, between a proxy and its application, is the control: the marker must be seen there, or its
//! absence on the way to other pods would prove nothing.

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

/// Largest packet: a veth passes segments that the kernel has not split yet.
const PACKET_BYTES: usize = 128 * 1024;
/// Kernel receive buffer, for bursts.
const BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// Arguments of `capture`.
#[derive(Debug, clap::Args)]
pub struct CaptureArgs {
    /// Text to search for.
    #[arg(long)]
    marker: String,
    /// Duration in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// Packets captured on one interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// Number of packets.
    pub packets: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// Number of packets with the marker.
    pub marked: u64,
}

/// Captured packets by interface.
pub type CaptureReport = BTreeMap<String, Captured>;

pub(super) fn run(args: &CaptureArgs) -> Result<()> {
    let report = capture(args.marker.as_bytes(), Duration::from_secs_f64(args.seconds))?;
    crate::print(&report)
}

fn capture(marker: &[u8], time: Duration) -> Result<CaptureReport> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    );
    let socket = socket.context("cannot open a packet socket (requires the capability NET_RAW)")?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(100))?;
    // The system may grant less.
    let _ = setsockopt(&socket, RcvBuf, &BUFFER_BYTES);
    let mut names: BTreeMap<usize, String> = BTreeMap::new();
    let mut report = CaptureReport::new();
    let mut packet = vec![0; PACKET_BYTES];
    let end = Instant::now() + time;
    while Instant::now() < end {
        let (length, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) {
            Ok(received) => received,
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(error) => return Err(io::Error::from(error)).context("cannot capture packets"),
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
    fn finds_the_marker_at_any_position() {
        assert!(
            contains(b"marker", b"marker") && contains(b"xxmarkerxx", b"marker") && contains(b"mamarker", b"marker")
        );
        assert!(!contains(b"marke", b"marker") && !contains(b"", b"marker") && !contains(b"x", b""));
    }
}
