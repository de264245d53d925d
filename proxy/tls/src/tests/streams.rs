//! Streams of every engine, with a plain rustls peer in both roles: every way that bytes may arrive and leave.

use std::{
    io::{self, ErrorKind, Write as _},
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;
use rustls::{AlertDescription, CipherSuite, Error};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex, split};

use super::{
    API, Ca, WEB, dns,
    support::{Choppy, block_on},
    with_client, with_ordinary_client,
};
use crate::{Alpn, Engine, Tls, TlsStream, config::provider, verify::MeshVerifier};

/// A client and a server of one engine.
struct Workloads {
    client: Tls,
    server: Tls,
}

/// Workloads of every engine.
static WORKLOADS: LazyLock<Vec<Workloads>> = LazyLock::new(|| {
    let workloads = |engine: &Engine| {
        let ca = Ca::new(*engine);
        Workloads {
            client: ca.workload(WEB),
            server: ca.workload(API),
        }
    };
    Engine::ALL.iter().map(workloads).collect()
});

type Ours = TlsStream<DuplexStream>;
type Theirs = tokio_rustls::client::TlsStream<DuplexStream>;

impl Workloads {
    async fn our_server(&self) -> (Theirs, Ours) {
        let (theirs, ours) = with_ordinary_client(&self.client, &self.server).await;
        (theirs, ours.io)
    }

    async fn our_client<I>(&self, near: I, far: I) -> (TlsStream<I>, tokio_rustls::server::TlsStream<I>)
    where
        I: AsyncRead + AsyncWrite + Unpin,
    {
        // Tickets, which our servers do not send but our clients must tolerate.
        let mut config = (*self.server.server_config(Alpn::None).expect("a leaf")).clone();
        config.send_tls13_tickets = 3;
        let server = dns(API);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let (ours, theirs) = tokio::join!(self.client.connect(near, &server, Alpn::None), acceptor.accept(far));
        (ours.expect("handshake"), theirs.expect("handshake"))
    }

    /// Client configuration that offers a single suite.
    fn client_of_one_suite(&self, suite: CipherSuite) -> Arc<rustls::ClientConfig> {
        let mut provider = (*provider()).clone();
        provider.cipher_suites.retain(|offered| offered.suite() == suite);
        let anchors = Arc::clone(&self.client.0.anchors.0);
        let verifier = MeshVerifier::new(anchors, provider.signature_verification_algorithms);
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }

    /// Records of a plain rustls client, as `write` makes them, and the connection to our server.
    async fn records(
        &self,
        write: impl FnOnce(&mut rustls::ClientConnection, &mut Vec<u8>),
    ) -> (Vec<u8>, DuplexStream, rustls::ClientConnection, Ours) {
        let (theirs, ours) = self.our_server().await;
        let (wire, mut session) = theirs.into_inner();
        let mut records = Vec::new();
        write(&mut session, &mut records);
        (records, wire, session, ours)
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8).collect()
}

/// Sends `sent` and reads to the end concurrently.
async fn exchange<S: AsyncRead + AsyncWrite>(io: S, sent: &[usize]) -> Vec<u8> {
    let (mut read, mut write) = split(io);
    let mut got = Vec::new();
    let writing = async {
        for len in sent {
            write.write_all(&bytes(*len)).await.expect("open");
            write.flush().await.expect("open");
        }
        write.shutdown().await.expect("open");
    };
    let (read, ()) = tokio::join!(read.read_to_end(&mut got), writing);
    read.expect("a regular end");
    got
}

fn all(sent: &[usize]) -> Vec<u8> {
    sent.iter().flat_map(|len| bytes(*len)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn data_survives_any_fragmentation(
        seed in any::<u64>(),
        most in prop_oneof![1usize..40, 40usize..5000, 5000usize..100_000],
        ours in prop::collection::vec(prop_oneof![0usize..50, 16_000usize..17_000, 0usize..200_000], 0..5),
        theirs in prop::collection::vec(prop_oneof![0usize..50, 16_000usize..17_000, 0usize..200_000], 0..5),
    ) {
        let most = if all(&ours).len() + all(&theirs).len() > 100_000 { most.max(200) } else { most };
        for workloads in &*WORKLOADS {
            block_on(async {
                let (near, far) = duplex(64 * 1024);
                let (near, far) = (Choppy::new(near, seed, most), Choppy::new(far, !seed, most));
                let (near, far) = workloads.our_client(near, far).await;
                let (a, b) = tokio::join!(exchange(near, &ours), exchange(far, &theirs));
                assert!(a == all(&theirs) && b == all(&ours), "our client");
                let (theirs_io, ours_io) = workloads.our_server().await;
                let (a, b) = tokio::join!(exchange(ours_io, &ours), exchange(theirs_io, &theirs));
                assert!(a == all(&theirs) && b == all(&ours), "our server");
            });
        }
    }
}

fn say(session: &mut rustls::ClientConnection, out: &mut Vec<u8>, data: &[u8]) {
    session.writer().write_all(data).expect("room");
    session.write_tls(out).expect("a vector");
}

fn everything(session: &mut rustls::ClientConnection, out: &mut Vec<u8>) {
    say(session, out, b"first");
    session.refresh_traffic_keys().expect("TLS 1.3");
    session.write_tls(out).expect("a vector");
    say(session, out, b"second");
    session.send_close_notify();
    session.write_tls(out).expect("a vector");
}

#[test]
fn a_split_at_any_byte_changes_nothing() {
    for workloads in &*WORKLOADS {
        let whole = block_on(workloads.records(everything)).0.len();
        for cut in 0..=whole {
            block_on(async {
                let (records, mut wire, _, mut ours) = workloads.records(everything).await;
                let mut got = Vec::new();
                let feed = async {
                    for part in [&records[..cut], &records[cut..]] {
                        wire.write_all(part).await.expect("open");
                        tokio::task::yield_now().await;
                    }
                };
                let (read, ()) = tokio::join!(ours.read_to_end(&mut got), feed);
                read.expect("a regular end");
                assert_eq!(got, b"firstsecond", "cut at {cut}");
            });
        }
    }
}

#[test]
fn truncation_is_not_an_orderly_end() {
    for workloads in &*WORKLOADS {
        block_on(async {
            let (records, mut wire, _, mut ours) = workloads.records(|session, out| say(session, out, b"all?")).await;
            wire.write_all(&records).await.expect("open");
            drop(wire);
            let mut got = Vec::new();
            let error = ours.read_to_end(&mut got).await.expect_err("no close_notify");
            assert_eq!((error.kind(), &got[..]), (ErrorKind::UnexpectedEof, &b"all?"[..]));
            let again = ours.read(&mut [0; 8]).await.expect_err("still none");
            assert_eq!(again.kind(), ErrorKind::UnexpectedEof);
        });
    }
}

#[test]
fn any_corrupted_byte_ends_the_connection_with_an_alert() {
    for workloads in &*WORKLOADS {
        let whole = block_on(workloads.records(|session, out| say(session, out, b"x")))
            .0
            .len();
        // The legacy version is not checked by either engine beyond authentication.
        for at in (0..whole).filter(|at| !(1..3).contains(at)) {
            block_on(corrupted(workloads, at));
        }
    }
}

async fn corrupted(workloads: &Workloads, at: usize) {
    let (mut records, mut wire, mut session, mut ours) =
        workloads.records(|session, out| say(session, out, b"x")).await;
    records[at] ^= 0x80;
    // The corrupted length may be larger: supply that many bytes.
    records.resize(20_000, 0);
    let (mut receive, mut send) = split(&mut wire);
    let feed = async {
        // The reader may stop early.
        let _ = send.write_all(&records).await;
    };
    let mut byte = [0];
    let read = tokio::select! {
        read = ours.read(&mut byte) => read,
        () = async { feed.await; std::future::pending().await } => unreachable!("it is pending"),
    };
    let error = read.expect_err("not what was sent");
    assert_eq!(error.kind(), ErrorKind::InvalidData, "byte {at}");
    drop(ours);
    let mut answer = Vec::new();
    receive.read_to_end(&mut answer).await.expect("open");
    session.read_tls(&mut &answer[..]).expect("bytes");
    let alert = session.process_new_packets().expect_err("an alert");
    assert!(matches!(alert, Error::AlertReceived(_)), "byte {at}: {alert}");
    if at >= 5 {
        assert_eq!(alert, Error::AlertReceived(AlertDescription::BadRecordMac), "byte {at}");
    }
}

#[test]
fn keys_are_updated_on_request() {
    for workloads in &*WORKLOADS {
        for suite in provider().cipher_suites.iter().map(|suite| suite.suite()) {
            block_on(update_keys(workloads, suite));
        }
    }
}

async fn update_keys(workloads: &Workloads, suite: CipherSuite) {
    let (theirs, ours) = with_client(workloads.client_of_one_suite(suite), &workloads.server).await;
    let ((mut wire, mut session), mut ours) = (theirs.into_inner(), ours.io);
    let agreed = session.negotiated_cipher_suite().map(|agreed| agreed.suite());
    assert_eq!(agreed, Some(suite));
    for round in 0..6u8 {
        let mut records = Vec::new();
        session.refresh_traffic_keys().expect("TLS 1.3");
        session.write_tls(&mut records).expect("a vector");
        say(&mut session, &mut records, &[round]);
        wire.write_all(&records).await.expect("open");
        assert_eq!(ours.read_u8().await.expect("under the new key"), round);
        let reading = async {
            let mut got = Vec::new();
            while got.len() < 100_000 {
                let mut part = [0; 4096];
                let len = wire.read(&mut part).await.expect("open");
                let mut part = &part[..len];
                while !part.is_empty() {
                    session.read_tls(&mut part).expect("bytes");
                    session.process_new_packets().expect("its key is known");
                }
                let _ = io::Read::read_to_end(&mut session.reader(), &mut got);
            }
            got
        };
        let data = bytes(100_000);
        let writing = async {
            ours.write_all(&data).await.expect("open");
            ours.flush().await.expect("open");
        };
        let (got, ()) = tokio::join!(reading, writing);
        assert!(got == data);
    }
}

#[test]
fn each_half_closes_independently() {
    for workloads in &*WORKLOADS {
        block_on(async {
            let (mut theirs, mut ours) = workloads.our_server().await;
            ours.shutdown().await.expect("open");
            assert_eq!(theirs.read(&mut [0; 8]).await.expect("close_notify"), 0);
            theirs.write_all(b"still").await.expect("our reading half is open");
            theirs.shutdown().await.expect("open");
            let mut got = String::new();
            ours.read_to_string(&mut got).await.expect("a regular end");
            assert_eq!(got, "still");
            assert_eq!(ours.read(&mut [0; 8]).await.expect("it stays"), 0);

            let (mut theirs, mut ours) = workloads.our_server().await;
            theirs.shutdown().await.expect("open");
            assert_eq!(ours.read(&mut [0; 8]).await.expect("close_notify"), 0);
            ours.write_all(b"still").await.expect("our writing half is open");
            ours.flush().await.expect("open");
            let mut got = [0; 5];
            theirs.read_exact(&mut got).await.expect("open");
            assert_eq!(&got, b"still");
        });
    }
}

#[test]
fn data_received_with_the_handshake_is_kept() {
    for workloads in &*WORKLOADS {
        for len in [0, 1, 5000, 40_000] {
            block_on(async {
                let Workloads { client, server } = workloads;
                let (near, far) = duplex(64 * 1024);
                let connector = tokio_rustls::TlsConnector::from(client.client_config(Alpn::None));
                // Sequentially, so that all of it is waiting when the server reads the end of its handshake.
                let client = async {
                    let name = API.try_into().expect("a name");
                    let mut near = connector.connect(name, near).await.expect("handshake");
                    near.write_all(&bytes(len)).await.expect("open");
                    near.shutdown().await.expect("open");
                    near
                };
                let (accepted, near) = tokio::join!(server.accept(far, Alpn::None), client);
                let (mut ours, mut got) = (accepted.expect("handshake").io, Vec::new());
                ours.read_to_end(&mut got).await.expect("a regular end");
                assert!(got == bytes(len));
                drop(near);
            });
        }
    }
}
