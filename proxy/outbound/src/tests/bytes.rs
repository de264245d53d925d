//! Opaque connections: transport header, bytes both ways, skipped endpoints.

use std::{net::SocketAddr, rc::Rc};

use proxy_transport::header::Header;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::*;

#[test]
fn forwards_bytes_in_mesh_tls_after_the_transport_header() {
    run(async || {
        let mesh = Mesh::new();
        let headers: Seen<Header> = Rc::default();
        let log = headers.clone();
        let sidecar = mesh
            .sidecar(move |header, mut io| {
                log.borrow_mut().push(header);
                async move {
                    // The server speaks first, then echoes until the client is done.
                    io.write_all(b"ready\n").await.expect("open");
                    let (mut read, mut write) = tokio::io::split(io);
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                }
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        let mut io = mesh.connect().await;
        io.write_all(b"\x00\x01 opaque").await.expect("open");
        io.shutdown().await.expect("open");
        let mut all = Vec::new();
        io.read_to_end(&mut all).await.expect("both ways");
        assert_eq!(all, b"ready\n\x00\x01 opaque");
        let header = headers.borrow_mut().remove(0);
        assert_eq!(&header.encode()[23..], &[0, 0, 0, 3, 0x08, 0x90, 0x3f]);
        let labels = ["peer=\"dst\"", "server_id=", "dst_pod="];
        assert_eq!(mesh.count("tcp_open_total", &labels), 1);
        assert_eq!(mesh.count("tcp_read_bytes_total", &labels), 15);
        assert_eq!(mesh.count("outbound_tcp_route_open_total", &["target_port=\"80\""]), 1);
    });
}

#[test]
fn treats_silence_as_opaque_and_skips_dead_endpoints() {
    run(async || {
        let mesh = Mesh::new();
        let greet = |_: Header, mut io: Io| async move {
            io.write_all(b"hello").await.expect("open");
            let _ = io.shutdown().await;
        };
        let (alive, dead) = (mesh.sidecar(greet).await, mesh.sidecar(greet).await);
        dead.kill();
        tokio::task::yield_now().await;
        mesh.service(&[&alive.endpoint, &dead.endpoint]);
        for _ in 0..5 {
            let mut io = mesh.connect().await;
            let mut all = String::new();
            io.read_to_string(&mut all).await.expect("a greeting");
            assert_eq!(all, "hello");
        }
    });
}

#[test]
fn refuses_loopback_destinations() {
    run(async || {
        let mesh = Mesh::new();
        let target: SocketAddr = "127.0.0.1:80".parse().expect("valid");
        let mut io = mesh.connect_to(target).await;
        assert_eq!(io.read(&mut [0; 1]).await.expect("closed"), 0);
        assert_eq!(mesh.count("outbound_tcp_errors_total", &["error=\"unexpected\""]), 1);
    });
}
