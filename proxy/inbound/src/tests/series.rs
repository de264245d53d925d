//! Series of metrics under clients that choose ports and names.

use std::net::{Ipv4Addr, SocketAddr};

use proxy_model::{ServerPolicy, TlsIdentity};
use proxy_tls::Alpn;
use proxy_transport::header::Header;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::support::{API, SOON, Web, detect, open, run};

/// Number and bytes of the series.
fn series(web: &Web) -> (usize, usize) {
    let text = web.metrics.render();
    let own = |line: &&str| !line.starts_with('#') && !line.starts_with("process_");
    let names = text.lines().filter(own).filter_map(|line| line.rsplit_once(' '));
    names.fold((0, 0), |(count, bytes), (name, _)| (count + 1, bytes + name.len()))
}

/// Sends a byte to a port, and waits for the end.
async fn touch(web: &Web, port: u16) {
    // The answer for a port that neither the pod nor a Server declares.
    let labels = [("group", ""), ("kind", "default"), ("name", "all-unauthenticated")];
    let default = ServerPolicy {
        labels: labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into(),
        ..open(detect())
    };
    web.script.inbound(port, default);
    let mut io = web.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    io.write_all(b"x").await.expect("open");
    let _ = io.shutdown().await;
    let _ = timeout(SOON, io.read(&mut [0; 8])).await.expect("in time");
}

#[test]
fn a_port_scan_adds_no_series() {
    run(async || {
        let web = Web::new();
        for port in 20_001..=20_003 {
            touch(&web, port).await;
        }
        let before = series(&web);
        for port in 20_004..=20_200 {
            touch(&web, port).await;
        }
        assert_eq!(series(&web), before);
        assert!(web.count("tcp_open_total", &["target_port=\"other\""]) >= 200);
    });
}

#[test]
fn names_that_clients_ask_for_add_no_series() {
    run(async || {
        let web = Web::new();
        let app: SocketAddr = "127.0.0.1:9".parse().expect("valid");
        web.script.inbound(app.port(), open(detect()));
        let ask = async |name: String| {
            let io = web.connect(app).await;
            let name = TlsIdentity::dns(&name).expect("an id");
            let refused = web.workload(API).connect(io, &name, Alpn::None).await;
            assert!(refused.is_err(), "the application is not there");
        };
        let by_header = async |name: String| {
            let direct = "127.0.0.1:4143".parse().expect("valid");
            let mut io = web.connect_tls(direct, Alpn::TransportHeader).await;
            let header = Header {
                name: Some(name),
                ..Header::port(app.port().try_into().expect("not 0"), None)
            };
            io.write_all(&header.encode()).await.expect("open");
            io.flush().await.expect("open");
            let _ = timeout(SOON, io.read(&mut [0; 8])).await.expect("in time");
        };
        ask("a.example.com".to_owned()).await;
        by_header("a.example.com".to_owned()).await;
        let before = series(&web);
        for number in 0..20 {
            ask(format!("a{number}.example.com")).await;
            by_header(format!("{}.example.com", "a".repeat(number + 1))).await;
        }
        assert_eq!(series(&web), before);
    });
}
