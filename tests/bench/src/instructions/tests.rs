//! Allocations of the same exchange and sizes of the state of a connection, which would grow unnoticed.

use super::*;

/// Allocations per request of client, application and both sides together. The client has none, the application about
/// four.
const ALLOCATIONS: f64 = 25.0;
/// Bytes of the task of a connection before its protocol is known.
const TASK: usize = 4096;

/// Bytes of an idle opaque connection in both sides together, without allocations of C for keys. A connection's
/// places in the limits of its client and of the process count here. 7 KiB is the most it may become.
const IDLE: i64 = 6_800;

/// Runs the whole exchange on this thread.
fn exchange(requests: usize) {
    let pki = Pki::new();
    let exchanged = on_this_thread(async {
        let listen = || TcpListener::bind("127.0.0.1:0");
        let application = backend::start(([127, 0, 0, 1], 0).into())?;
        let (near, far) = (listen().await?, listen().await?);
        let (entry, middle) = (near.local_addr()?, far.local_addr()?);
        tokio::task::spawn_local(inbound(far, application, bare::workload(&pki, "server")?));
        let worker = outbound_worker((middle, application), bare::workload(&pki, "client")?, None);
        tokio::task::spawn_local(outbound(near, worker));
        client(entry, requests).await.map(drop)
    });
    exchanged.expect("an exchange");
}

#[test]
fn a_request_takes_few_allocations() {
    let count = |requests| allocation_counter::measure(|| exchange(requests)).count_total;
    let _warm = count(10);
    let (few, many) = (count(100), count(600));
    let each = (many - few) as f64 / 500.0;
    assert!(
        (ALLOCATIONS - 6.0..=ALLOCATIONS).contains(&each),
        "{each} allocations for each request; fewer are welcome, and want a smaller limit here"
    );
}

#[test]
fn connections_are_small() {
    let sizes = async {
        let pki = Pki::new();
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let inbound = inbound_worker(addr, addr, bare::workload(&pki, "server")?);
        let outbound = outbound_worker((addr, addr), bare::workload(&pki, "client")?, None);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let socket = async || TcpStream::connect(listener.local_addr()?).await;
        let (target, client, drain) = (OrigDstAddr(addr), ClientAddr(addr), CancellationToken::new());
        let inbound = size_of_val(&inbound.serve(socket().await?, target, client, drain.clone()));
        let outbound = size_of_val(&outbound.serve(socket().await?, target, client, drain));
        assert!(
            inbound <= TASK && outbound <= TASK,
            "inbound {inbound}, outbound {outbound} bytes"
        );
        Ok(())
    };
    on_this_thread(sizes).expect("sockets");
}

#[test]
fn an_idle_connection_holds_little() {
    const CONNECTIONS: usize = 200;
    let pki = Pki::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("a runtime");
    let started = runtime.block_on(async {
        let listen = || TcpListener::bind("127.0.0.1:0");
        let echo = backend::echo(([127, 0, 0, 1], 0).into())?;
        let (near, far) = (listen().await?, listen().await?);
        let (entry, middle) = (near.local_addr()?, far.local_addr()?);
        tokio::task::spawn_local(inbound(far, echo, bare::workload(&pki, "server")?));
        let profile = Profile {
            opaque_protocol: true,
            ..Profile::default()
        };
        let worker = outbound_worker((middle, echo), bare::workload(&pki, "client")?, Some(profile));
        tokio::task::spawn_local(outbound(near, worker));
        anyhow::Ok((entry, echo))
    });
    let (entry, echo) = started.expect("sockets");
    let mut all = Vec::with_capacity(4 * CONNECTIONS);
    let mut held = |addr| {
        let open = || {
            runtime
                .block_on(tests_load::Held::open(addr, CONNECTIONS))
                .expect("an echo")
        };
        all.push(open()); // What grows by doubling has room then.
        let measured = allocation_counter::measure(|| all.push(open()));
        measured.bytes_current / CONNECTIONS as i64
    };
    let each = held(entry) - held(echo);
    assert!(
        (IDLE * 9 / 10..=IDLE).contains(&each),
        "{each} bytes for each connection; fewer are welcome, and want a smaller limit here"
    );
}
