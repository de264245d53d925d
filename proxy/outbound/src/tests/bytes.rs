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

#[test]
fn a_truncated_stream_is_reset_and_not_ended() {
    run(async || {
        let mesh = Mesh::new();
        let (ended, end) = tokio::sync::oneshot::channel();
        let ended = Rc::new(std::cell::Cell::new(Some(ended)));
        // Ends a session without a close_notify, as a broken peer would.
        let sidecar = mesh
            .sidecar(move |_, mut io| {
                let ended = ended.clone();
                async move {
                    let mut first = [0; 4];
                    io.read_exact(&mut first).await.expect("open");
                    io.write_all(b"part").await.expect("open");
                    io.flush().await.expect("open");
                    if &first == b"\x00end" {
                        let end = io.read(&mut first).await;
                        let ended = ended.take().expect("once");
                        ended.send(end.map_err(|error| error.kind())).expect("awaited");
                    }
                }
            })
            .await;
        mesh.service(&[&sidecar.endpoint]);
        // The server's stream is cut.
        let mut io = mesh.connect().await;
        io.write_all(b"\x00cut").await.expect("open");
        let cut = io.read_to_end(&mut Vec::new()).await;
        assert_eq!(cut.expect_err("a reset").kind(), std::io::ErrorKind::ConnectionReset);
        // The client's connection is cut.
        let mut io = mesh.connect().await;
        io.write_all(b"\x00end").await.expect("open");
        io.read_exact(&mut [0; 4]).await.expect("open");
        io.set_zero_linger().expect("a socket");
        drop(io);
        let soon = std::time::Duration::from_secs(10);
        let end = tokio::time::timeout(soon, end).await.expect("in time").expect("sent");
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    });
}
