//! Rows that do not hold yet.

use crate::target::Listener;

/// Attack whose row does not hold yet, with the reason.
#[derive(Copy, Clone, Debug)]
pub struct Pending {
    /// Name of the attack.
    pub name: &'static str,
    /// Attacked listener.
    pub listener: Listener,
    /// Reason.
    pub reason: &'static str,
}

/// All of them.
pub const ALL: &[Pending] = &[
    Pending {
        name: "slow readers",
        listener: Listener::Inbound,
        reason: "M5: BUFFERED_BYTES allows 64 MiB, a row 32",
    },
    Pending {
        name: "slow readers",
        listener: Listener::Outbound,
        reason: "M5: answers that are not read take more than BUFFERED_BYTES",
    },
    Pending {
        name: "HPACK bomb in many streams",
        listener: Listener::Outbound,
        reason: "M5: 1,024 streams of the application with 16 KiB of headers each, on two connections, take 32 MiB",
    },
    Pending {
        name: "ClientHellos with names of 8 KB",
        listener: Listener::Inbound,
        reason: "M5: 3,000 connections at once to an application that is slow to refuse them take some 45 MiB for seconds",
    },
    Pending {
        name: "port scan",
        listener: Listener::Inbound,
        reason: "H3: connections held for a policy and watches of undeclared ports take some 50 MiB",
    },
    Pending {
        name: "h2spec",
        listener: Listener::Destination,
        reason: "H5: 100,000 streams of one connection, which h2spec opens, take 84 MiB",
    },
];

/// Returns the reason for which a row may fail.
pub fn reason(name: &str, listener: Listener) -> Option<&'static str> {
    let found = ALL.iter().find(|row| row.name == name && row.listener == listener);
    found.map(|row| row.reason)
}
