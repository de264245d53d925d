//! All attacks, by the protocol that they abuse. Each row is one attack on one listener.

mod conformance;
mod control;
mod direct;
mod http1;
mod http2;
mod smuggling;
mod system;
mod tls;

use crate::{
    suite::Attack,
    target::Listener::{Admin, Destination, Direct, Identity, Inbound, Injector, Outbound, Policy, Tap, TapApi},
};

/// Attack without a limit of open files.
macro_rules! attack {
    ($name:literal, $listener:expr, $finding:literal, $run:path) => {
        Attack {
            name: $name,
            listener: $listener,
            finding: $finding,
            files: None,
            run: |target| Box::pin($run(target)),
        }
    };
}

/// Table of attacks.
pub const ALL: &[Attack] = &[
    // The five of the issue, which were measured before there were limits.
    attack!("huge heads", Inbound, "H2", http1::huge_heads),
    attack!(
        "unfinished bodies of PUT /proxy-log-level",
        Admin,
        "H1a",
        http2::unfinished_bodies
    ),
    attack!("ClientHellos with names of 8 KB", Inbound, "H3", tls::hellos),
    attack!("port scan", Inbound, "H3", system::port_scan),
    attack!("silent prefaces", Admin, "H1b", http2::silent_prefaces),
    // HTTP/1.
    attack!("huge heads", Outbound, "H2", http1::huge_heads),
    attack!("huge heads", Admin, "H2", http1::huge_heads),
    attack!("slow heads", Inbound, "H2, row 16", http1::slow_heads),
    attack!("slow heads", Outbound, "H2, row 16", http1::slow_heads),
    attack!("slow heads", Admin, "L10, row 16", http1::slow_heads),
    attack!("silent connections", Inbound, "H2, row 16", http1::silent),
    attack!("silent connections", Admin, "H1b, row 16", http1::silent),
    attack!("silent connections", Tap, "L10", http1::silent),
    attack!("pipelined without reading", Inbound, "row 18", http1::pipelined),
    attack!("pipelined without reading", Outbound, "row 18", http1::pipelined),
    attack!("pipelined without reading", Admin, "H1c", http1::pipelined_metrics),
    attack!("slow readers", Inbound, "M5", http1::slow_readers),
    attack!("slow readers", Outbound, "M5", http1::slow_readers),
    attack!("chunk extensions", Inbound, "row 12", http1::chunk_extensions),
    attack!("unread bodies", Inbound, "row 15", http1::unread_bodies),
    attack!("clients gone while connecting", Inbound, "row 19", http1::gone_at_once),
    attack!("smuggling", Inbound, "rows 12 to 15", smuggling::http1),
    attack!("smuggling", Outbound, "rows 12 to 15", smuggling::http1),
    attack!("smuggling by HTTP/2", Inbound, "rows 8 and 10", smuggling::http2),
    attack!("two names of the host", Inbound, "M8, row 21", smuggling::hosts),
    // HTTP/2.
    attack!("silent prefaces", Inbound, "H2", http2::silent_prefaces),
    attack!("silent prefaces", Outbound, "H2", http2::silent_prefaces),
    attack!("silent prefaces", Tap, "L10", http2::silent_prefaces),
    attack!("rapid reset", Inbound, "row 1", http2::rapid_reset),
    attack!("rapid reset", Outbound, "row 1", http2::rapid_reset),
    attack!("rapid reset", Admin, "row 1", http2::rapid_reset),
    attack!("paced reset", Inbound, "M9, row 1", http2::paced_reset),
    attack!(
        "invalid frames, replies unread",
        Inbound,
        "row 2",
        http2::invalid_frames
    ),
    attack!("MadeYouReset", Inbound, "row 3", http2::made_you_reset),
    attack!("MadeYouReset", Admin, "row 3", http2::made_you_reset),
    attack!("CONTINUATION flood", Inbound, "row 4", http2::continuation),
    attack!("CONTINUATION flood", Admin, "row 4", http2::continuation),
    attack!("HPACK bomb in many streams", Inbound, "M5, row 5", http2::hpack_bomb),
    attack!("HPACK bomb in many streams", Outbound, "M5, row 5", http2::hpack_bomb),
    attack!("HPACK bomb in many streams", Admin, "M5, row 5", http2::hpack_bomb),
    attack!("crumbs of cookies", Inbound, "row 6", http2::cookies),
    attack!("empty DATA", Inbound, "row 7", http2::empty_data),
    attack!("PING flood", Inbound, "row 2", http2::pings),
    attack!("PING flood", Admin, "row 2", http2::pings),
    attack!("SETTINGS flood", Inbound, "row 2", http2::settings),
    attack!("PRIORITY flood", Inbound, "row 3", http2::priorities),
    attack!("window 0", Inbound, "M5", http2::window_zero),
    attack!("window 0", Outbound, "M5", http2::window_zero),
    attack!("window of one byte at a time", Inbound, "M5", http2::dripping_window),
    attack!("h2c by Upgrade", Inbound, "M1, row 14", smuggling::upgrade),
    // TLS.
    attack!("half handshakes", Inbound, "row 16", tls::half_hellos),
    attack!("half handshakes", Admin, "row 16", tls::half_hellos),
    attack!("handshake flood", Inbound, "L14", tls::handshakes),
    attack!("key updates", Inbound, "M2", tls::key_updates),
    attack!("empty records", Inbound, "M2", tls::empty_records),
    attack!("warnings", Inbound, "M2", tls::warnings),
    attack!("ClientHello by bytes", Inbound, "row 27", tls::hello_by_bytes),
    attack!("close_notify in a handshake", Inbound, "row 28", tls::early_close),
    // Transport header.
    attack!("long names in transport headers", Direct, "H3", direct::long_names),
    attack!("silence after the handshake", Direct, "row 16", direct::silence),
    attack!("tunnel to the proxy's own ports", Direct, "M10", direct::own_ports),
    attack!("garbage for a transport header", Direct, "H3", direct::garbage),
    // The system.
    Attack {
        files: Some(96),
        ..attack!("no more open files", Inbound, "row 39", system::open_files)
    },
    Attack {
        files: Some(160),
        ..attack!("no more open files", Destination, "row 39", system::open_files)
    },
    // The control plane.
    attack!("silent prefaces", Destination, "H5", http2::silent_prefaces),
    attack!("silent prefaces", Policy, "H5", http2::silent_prefaces),
    attack!("silent prefaces", Identity, "H5", http2::silent_prefaces),
    attack!("silent prefaces", Injector, "H4a", http2::silent_prefaces),
    attack!("unfinished requests", Destination, "H5a", control::unfinished),
    attack!("unfinished requests", Policy, "H5a", control::unfinished),
    attack!("unfinished requests", Identity, "H5a", control::unfinished),
    attack!("watches of all ports", Policy, "H5b", control::watches),
    attack!("lookups of all names", Destination, "H5b", control::lookups),
    attack!("tokens that prove nothing", Identity, "H5", control::tokens),
    attack!("rapid reset", Destination, "row 1", http2::rapid_reset),
    attack!("rapid reset", Identity, "row 1", http2::rapid_reset),
    attack!("CONTINUATION flood", Destination, "row 4", http2::continuation),
    attack!("HPACK bomb in many streams", Destination, "row 5", http2::hpack_bomb),
    attack!("nested JSON", Injector, "H4b, row 42", control::nested_json),
    attack!("unfinished reviews", Injector, "H4b", control::unfinished_reviews),
    attack!("kinds without an end", Injector, "H4c", control::kinds),
    attack!("silent prefaces", TapApi, "M6", http2::silent_prefaces),
    attack!("silent connections", TapApi, "M6", http1::silent),
    attack!("rapid reset", TapApi, "row 1", http2::rapid_reset),
    // Conformance.
    attack!("announced SETTINGS", Inbound, "row 5", conformance::settings),
    attack!("announced SETTINGS", Outbound, "row 5", conformance::settings),
    attack!("announced SETTINGS", Admin, "row 5", conformance::settings),
    attack!("announced SETTINGS", Tap, "row 5", conformance::settings),
    attack!("announced SETTINGS", Destination, "row 5", conformance::settings),
    attack!("announced SETTINGS", Policy, "row 5", conformance::settings),
    attack!("announced SETTINGS", Identity, "row 5", conformance::settings),
    attack!("announced SETTINGS", Injector, "row 5", conformance::settings),
    attack!("h2spec", Inbound, "h2spec", conformance::h2spec),
    attack!("h2spec", Outbound, "h2spec", conformance::h2spec),
    attack!("h2spec", Admin, "h2spec", conformance::h2spec),
    attack!("h2spec", Tap, "h2spec", conformance::h2spec),
    attack!("h2spec", Destination, "h2spec", conformance::h2spec),
    attack!("h2spec", Identity, "h2spec", conformance::h2spec),
];
