//! Applies rules in a network namespace and checks where connections arrive.
//!
//! Without the test harness, because namespaces must be entered before the first thread starts. Needs root, or user
//! namespaces for ordinary users.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use injector_redirect::nft::{self, AddressSet, Chain, Expr, Hook, Kind, Table};
use injector_redirect::{Rules, apply, remove};
use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, SockRef, Socket, Type};

const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const POD: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const REMOTE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1);
const POD6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2);

fn main() {
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !nix::unistd::geteuid().is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).expect("a network namespace (root, or user namespaces for ordinary users)");
    std::thread::spawn(pod).join().expect("the pod's thread");
}

/// Pod in a second namespace, connected to the first by a pair of interfaces.
fn pod() {
    let outside = std::fs::File::open("/proc/thread-self/ns/net").expect("own namespace");
    unshare(CloneFlags::CLONE_NEWNET).expect("the pod's namespace");
    wire(&outside);
    outbound_goes_to_the_sidecar_but_for_its_own();
    inbound_goes_to_the_sidecar_but_for_skip_ports(&outside);
    tables_translate_addresses_and_refuse();
    the_sidecars_user_and_group_pass();
    networks_and_unlisted_ports_pass(&outside);
    ipv6_is_redirected_unless_it_is_off(&outside);
    eprintln!("redirection: 6 cases passed");
}

fn wire(outside: &std::fs::File) {
    use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
    let configure = |address: Ipv4Addr, name: &'static str, peer: Option<i32>| async move {
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        if let Some(outside) = peer {
            let veth = LinkVeth::new("eth0", "peer").build();
            handle.link().add(veth).execute().await.expect("a pair of interfaces");
            let moved = LinkUnspec::new_with_name("peer").setns_by_fd(outside).build();
            handle.link().change(moved).execute().await.expect("the peer outside");
        }
        for name in [name, "lo"] {
            let up = LinkMessageBuilder::<LinkUnspec>::default()
                .name(name.to_owned())
                .up()
                .build();
            handle.link().change(up).execute().await.expect("up");
        }
        use futures_util::TryStreamExt as _;
        let mut links = handle.link().get().match_name(name.to_owned()).execute();
        let index = links
            .try_next()
            .await
            .expect("links")
            .expect("the interface")
            .header
            .index;
        handle
            .address()
            .add(index, address.into(), 24)
            .execute()
            .await
            .expect("address");
        let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).build();
        handle.route().add(route).execute().await.expect("default route");
    };
    let run = move |address, name, peer| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(configure(address, name, peer));
    };
    run(POD, "eth0", Some(outside.as_raw_fd()));
    in_namespace(outside, move || run(REMOTE, "peer", None));
}

/// Runs on a thread of its own in another namespace.
fn in_namespace<T: Send + 'static>(namespace: &std::fs::File, body: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = namespace.try_clone().expect("a copy");
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter");
        body()
    });
    thread.join().expect("the other namespace")
}

fn connect(to: SocketAddr, mark: Option<u32>) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    socket.connect_timeout(&to.into(), Duration::from_millis(300))?;
    Ok(socket.into())
}

fn outbound_goes_to_the_sidecar_but_for_its_own() {
    let rules = Rules {
        mark: Some(0x99),
        outbound_skip: "4567".parse().expect("ports"),
        ..Rules::default()
    };
    apply(&rules).expect("applied");
    apply(&rules).expect("applied again: it replaces");
    let sidecar = TcpListener::bind("127.0.0.1:4140").expect("the sidecar's port");

    let target: SocketAddr = SocketAddrV4::new(REMOTE, 80).into();
    let _client = connect(target, None).expect("redirected, so something listens");
    let (accepted, _) = sidecar.accept().expect("accepted");
    let original = SockRef::from(&accepted)
        .original_dst_v4()
        .expect("an original destination");
    assert_eq!(
        original.as_socket(),
        Some(target),
        "the sidecar sees the original destination"
    );

    assert!(
        connect(target, Some(0x99)).is_err(),
        "the sidecar's own traffic passes, and nothing listens there"
    );
    assert!(
        connect((REMOTE, 4567).into(), None).is_err(),
        "a skip port passes, and nothing listens there"
    );
    let own = TcpListener::bind("127.0.0.1:80").expect("a port on loopback");
    connect("127.0.0.1:80".parse().expect("address"), None).expect("loopback passes");
    own.accept().expect("accepted on loopback");

    remove().expect("removed");
    remove().expect("removed again");
    assert!(connect(target, None).is_err(), "without rules nothing is redirected");
}

fn inbound_goes_to_the_sidecar_but_for_skip_ports(outside: &std::fs::File) {
    let rules = Rules {
        inbound_skip: "7000-7002".parse().expect("ports"),
        ..Rules::default()
    };
    apply(&rules).expect("applied");
    let sidecar = TcpListener::bind("0.0.0.0:4143").expect("the sidecar's port");
    let direct = TcpListener::bind("0.0.0.0:7001").expect("a skip port");
    let dial = |port| in_namespace(outside, move || connect((POD, port).into(), None).map(drop));
    dial(8080).expect("redirected");
    let (accepted, _) = sidecar.accept().expect("accepted");
    let original = SockRef::from(&accepted)
        .original_dst_v4()
        .expect("an original destination")
        .as_socket();
    assert_eq!(original, Some((POD, 8080).into()));
    dial(7001).expect("passes");
    direct.accept().expect("accepted on the skip port");
    assert!(
        dial(4191).is_err(),
        "the sidecar's admin port is not redirected, and nothing listens there"
    );
    remove().expect("removed");
}

fn tables_translate_addresses_and_refuse() {
    let [virtual_ip, refused] = [Ipv4Addr::new(10, 43, 0, 9), Ipv4Addr::new(10, 43, 0, 10)];
    let servers = [
        TcpListener::bind("0.0.0.0:9001").expect("one"),
        TcpListener::bind("0.0.0.0:9002").expect("two"),
    ];
    for (index, server) in servers.iter().enumerate() {
        let server = server.try_clone().expect("a copy");
        std::thread::spawn(move || {
            for stream in server.incoming() {
                stream.expect("a client").write_all(&[index as u8]).expect("written");
            }
        });
    }
    let to = |port| Expr::DestinationNat(SocketAddrV4::new(POD, port));
    let service = [Expr::Destination(virtual_ip), Expr::Tcp, Expr::DestinationPort(80, 80)];
    let rule = |last: &[Expr]| [&service[..], last].concat();
    let table = Table {
        name: "test".into(),
        sets: vec![AddressSet {
            name: "alive".into(),
            addresses: vec![POD, virtual_ip],
        }],
        chains: vec![
            Chain {
                name: "services".into(),
                hook: Hook::Output,
                kind: Kind::DestinationNat,
                rules: vec![rule(&[Expr::OneOf(2), to(9001)]), rule(&[to(9002)])],
            },
            Chain {
                name: "refuse".into(),
                hook: Hook::Output,
                kind: Kind::Filter,
                rules: vec![vec![
                    Expr::DestinationNet(Ipv4Addr::new(10, 43, 0, 0), 16),
                    Expr::DestinationNotIn(0),
                    Expr::Tcp,
                    Expr::Reset,
                ]],
            },
            Chain {
                name: "masquerade".into(),
                hook: Hook::PostRouting,
                kind: Kind::SourceNat,
                rules: vec![vec![Expr::Source(POD), Expr::Destination(POD), Expr::Masquerade]],
            },
        ],
    };
    nft::replace(&table).expect("applied");
    let mut seen = [0; 2];
    for _ in 0..64 {
        let mut byte = [0];
        let mut client = connect((virtual_ip, 80).into(), None).expect("translated");
        client.read_exact(&mut byte).expect("a byte");
        seen[usize::from(byte[0])] += 1;
    }
    assert!(seen.iter().all(|count| *count > 8), "spread over both: {seen:?}");
    let error = connect((refused, 80).into(), None).expect_err("refused");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    nft::remove("test").expect("removed");
}

fn the_sidecars_user_and_group_pass() {
    let _sidecar = TcpListener::bind("127.0.0.1:4140").expect("the sidecar's port");
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let redirected = |proxy_uid, proxy_gid| {
        apply(&Rules {
            proxy_uid,
            proxy_gid,
            ..Rules::default()
        })
        .expect("applied");
        connect((REMOTE, 80).into(), None).is_ok()
    };
    assert!(redirected(Some(uid + 1), Some(gid + 1)), "another user's");
    assert!(!redirected(Some(uid), None), "the sidecar's user");
    assert!(!redirected(None, Some(gid)), "the sidecar's group");
    remove().expect("removed");
}

fn networks_and_unlisted_ports_pass(outside: &std::fs::File) {
    let _sidecar = TcpListener::bind("0.0.0.0:4143").expect("the sidecar's port");
    let dial = |port| in_namespace(outside, move || connect((POD, port).into(), None).is_ok());
    let from = |net: &str| {
        apply(&Rules {
            inbound_skip_from: vec!["fd00:9::/64".parse().expect("network"), net.parse().expect("network")],
            ..Rules::default()
        })
        .expect("applied");
        dial(8080)
    };
    assert!(from("10.9.0.2/31"), "the client, 10.9.0.1, is before this network");
    assert!(from("10.8.0.0/16"), "the client is behind this network");
    assert!(
        !from("10.9.0.0/31"),
        "the client is in this network, and nothing listens there"
    );
    assert!(!from("10.9.0.77/9"), "bits behind the prefix do not count");
    apply(&Rules {
        inbound_only: "8080,7000-7001".parse().expect("ports"),
        ..Rules::default()
    })
    .expect("applied");
    assert_eq!(
        [8079, 8080, 7000, 7001, 7002].map(dial),
        [false, true, true, true, false]
    );
    remove().expect("removed");
}

fn ipv6_is_redirected_unless_it_is_off(outside: &std::fs::File) {
    let Ok(_sidecar) = TcpListener::bind("[::]:4143") else {
        eprintln!("redirection: skipped IPv6, which this machine does not have");
        return;
    };
    give_ipv6("eth0", POD6);
    in_namespace(outside, || give_ipv6("peer", REMOTE6));
    let dial = |from_skipped: &str, ipv6| {
        apply(&Rules {
            ipv6,
            inbound_skip_from: vec![from_skipped.parse().expect("network")],
            ..Rules::default()
        })
        .expect("applied");
        in_namespace(outside, || {
            let address = (POD6, 8080).into();
            TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
        })
    };
    assert!(dial("fd00:9::2/127", true), "redirected");
    assert!(!dial("fd00:9::/127", true), "the client, fd00:9::1, is in this network");
    assert!(!dial("fd00:8::/64", false), "IPv6 is off");
    remove().expect("removed");
}

/// Skips duplicate address detection: the link has no other hosts.
fn give_ipv6(name: &'static str, address: Ipv6Addr) {
    use futures_util::TryStreamExt as _;
    use rtnetlink::packet_route::address::AddressHeaderFlags;
    let give = async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        let mut links = handle.link().get().match_name(name.to_owned()).execute();
        let link = links.try_next().await.expect("links").expect("the interface");
        let mut request = handle.address().add(link.header.index, address.into(), 64);
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.expect("address");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(give);
}
