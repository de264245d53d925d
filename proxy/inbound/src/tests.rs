//! In-process tests of the inbound side: real sockets on loopback, a scripted control plane.

mod attacks;
mod bytes;
mod http;
mod refusals;
mod series;
mod support;

use std::rc::Rc;

use proxy_model::{ClientAddr, OrigDstAddr};

/// Memory of a connection's task; guards against large increases.
#[test]
fn connection_task_is_small() {
    support::run(async || {
        let web = support::Web::new();
        let addr = "127.0.0.1:1".parse().expect("valid");
        let socket = web.connect(addr).await;
        let task = Rc::clone(&web.worker).serve(socket, OrigDstAddr(addr), ClientAddr(addr), web.drain.clone());
        let size = size_of_val(&task);
        assert!(size <= 6 * 1024, "a connection's task has {size} bytes");
    });
}
