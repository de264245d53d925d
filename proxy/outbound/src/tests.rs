//! Tests of the outbound side in one process: real sockets on loopback, simulated sidecars and applications, a scripted
//! control plane.

mod bytes;
mod failures;
mod http;
mod profiles;
mod support;

use std::rc::Rc;

use proxy_model::{ClientAddr, OrigDstAddr};

/// Guards the size of a connection's task.
#[test]
fn connection_task_is_at_most_12_kib() {
    support::run(async {
        let mesh = support::Mesh::new();
        let addr = support::WEB;
        let socket = mesh.connect().await;
        let task = Rc::clone(&mesh.worker).serve(socket, OrigDstAddr(addr), ClientAddr(addr), mesh.drain.clone());
        let size = size_of_val(&task);
        assert!(size <= 12 * 1024, "a connection's task has {size} bytes");
    });
}
