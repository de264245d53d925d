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
        reason: "H3: 8,000 connections at once take 36 MiB until the allocator returns them, although they are refused",
    },
    Pending {
        name: "silent prefaces",
        listener: Listener::Injector,
        reason: "H4a: a review that meets the end of its own quiet connection, which gave way, fails: 1 of 80",
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
