//! Our streams with rustls' own as the peer in both roles: every way that bytes may arrive and leave.

use std::{
    io::{ErrorKind, Write as _},
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;
use proxy_model::limits::{TLS_READ_BYTES, TLS_WRITE_BYTES};
use proxy_transport::cork::corked;
use rustls::CipherSuite;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};

use self::support::{Choppy, block_on};
use super::*;
use crate::{
    Alpn, Tls,
    config::provider,
    record::{HEADER, OVERHEAD, PLAINTEXT},
    tests::{API, Ca, WEB, dns, with_client, with_ordinary_client},
    verify::MeshVerifier,
};

mod support;

/// A client and a server.
static WORKLOADS: LazyLock<(Tls, Tls)> = LazyLock::new(|| {
    let ca = Ca::new();
    (ca.workload(WEB), ca.workload(API))
});

type Ours = TlsStream<DuplexStream>;
type Theirs = tokio_rustls::client::TlsStream<DuplexStream>;

async fn our_server() -> (Theirs, Ours) {
    let (client, server) = &*WORKLOADS;
    let (theirs, ours) = with_ordinary_client(client, server).await;
    (theirs, ours.io)
}

async fn our_client<I>(near: I, far: I) -> (TlsStream<I>, tokio_rustls::server::TlsStream<I>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let (client, server) = &*WORKLOADS;
    // Tickets, which our servers do not send but our clients must tolerate.
    let mut config = (*server.server_config(Alpn::None).expect("a leaf")).clone();
    config.send_tls13_tickets = 3;
    let server = dns(API);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (ours, theirs) = tokio::join!(client.connect(near, &server, Alpn::None), acceptor.accept(far));
    (ours.expect("handshake"), theirs.expect("handshake"))
}

/// Client configuration that offers a single suite.
fn client_of_one_suite(client: &Tls, suite: CipherSuite) -> Arc<rustls::ClientConfig> {
    let mut provider = (*provider()).clone();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    let anchors = Arc::clone(&client.0.anchors.0);
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

fn is_idle(stream: &Ours) -> bool {
    stream.incoming.is_idle() && stream.outgoing.is_idle()
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
        block_on(async {
            let (near, far) = duplex(64 * 1024);
            let (near, far) = (Choppy::new(near, seed, most), Choppy::new(far, !seed, most));
            let (near, far) = our_client(near, far).await;
            let (a, b) = tokio::join!(exchange(near, &ours), exchange(far, &theirs));
            assert!(a == all(&theirs) && b == all(&ours), "our client");
            let (theirs_io, ours_io) = our_server().await;
            let (a, b) = tokio::join!(exchange(ours_io, &ours), exchange(theirs_io, &theirs));
            assert!(a == all(&theirs) && b == all(&ours), "our server");
        });
    }
}

/// Records of a plain rustls client, as `write` makes them, and the connection to our server.
async fn records(
    write: impl FnOnce(&mut rustls::ClientConnection, &mut Vec<u8>),
) -> (Vec<u8>, DuplexStream, rustls::ClientConnection, Ours) {
    let (theirs, ours) = our_server().await;
    let (wire, mut session) = theirs.into_inner();
    let mut records = Vec::new();
    write(&mut session, &mut records);
    (records, wire, session, ours)
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
    let whole = block_on(records(everything)).0.len();
    for cut in 0..=whole {
        block_on(async {
            let (records, mut wire, _, mut ours) = records(everything).await;
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
            assert!(is_idle(&ours));
        });
    }
}

#[test]
fn truncation_is_not_an_orderly_end() {
    block_on(async {
        let (records, mut wire, _, mut ours) = records(|session, out| say(session, out, b"all?")).await;
        wire.write_all(&records).await.expect("open");
        drop(wire);
        let mut got = Vec::new();
        let error = ours.read_to_end(&mut got).await.expect_err("no close_notify");
        assert_eq!((error.kind(), &got[..]), (ErrorKind::UnexpectedEof, &b"all?"[..]));
        let again = ours.read(&mut [0; 8]).await.expect_err("still none");
        assert_eq!(again.kind(), ErrorKind::UnexpectedEof);
    });
}

#[test]
fn any_corrupted_byte_ends_the_connection_with_an_alert() {
    let whole = block_on(records(|session, out| say(session, out, b"x"))).0.len();
    for at in 0..whole {
        block_on(async {
            let (mut records, mut wire, mut session, mut ours) = records(|session, out| say(session, out, b"x")).await;
            records[at] ^= 0x80;
            // The corrupted length may be larger: supply that many bytes.
            records.resize(20_000, 0);
            let feed = async { wire.write_all(&records).await.expect("open") };
            let mut byte = [0];
            let (read, ()) = tokio::join!(ours.read(&mut byte), feed);
            let error = read.expect_err("not what was sent");
            assert_eq!(error.kind(), ErrorKind::InvalidData, "byte {at}");
            let closed = ours.write(b"more").await.expect_err("closed");
            assert_eq!(closed.kind(), ErrorKind::BrokenPipe);
            drop(ours);
            let mut answer = Vec::new();
            wire.read_to_end(&mut answer).await.expect("open");
            session.read_tls(&mut &answer[..]).expect("bytes");
            let alert = session.process_new_packets().expect_err("an alert");
            let expected = match at {
                0 => AlertDescription::UnexpectedMessage,
                3 => AlertDescription::RecordOverflow,
                _ => AlertDescription::BadRecordMac,
            };
            assert_eq!(alert, Error::AlertReceived(expected), "byte {at}");
        });
    }
}

#[test]
fn keys_are_updated_on_request_and_before_their_limit() {
    for suite in provider().cipher_suites.iter().map(|suite| suite.suite()) {
        keys_change(suite);
    }
}

fn keys_change(suite: CipherSuite) {
    block_on(async {
        let (client, server) = &*WORKLOADS;
        let (theirs, ours) = with_client(client_of_one_suite(client, suite), server).await;
        let ((wire, mut session), mut ours) = (theirs.into_inner(), ours.io);
        assert_eq!(
            session.negotiated_cipher_suite().map(|agreed| agreed.suite()),
            Some(suite)
        );
        ours.outgoing.limit = ours.outgoing.key.sequence() + 3;
        let mut wire = wire;
        for round in 0..6u8 {
            let mut records = Vec::new();
            session.refresh_traffic_keys().expect("TLS 1.3");
            session.write_tls(&mut records).expect("a vector");
            say(&mut session, &mut records, &[round]);
            wire.write_all(&records).await.expect("open");
            assert_eq!(ours.read_u8().await.expect("under the new key"), round);
            assert!(ours.outgoing.owes_key_update);
            let before = ours.outgoing.key.sequence();
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
            assert!(!ours.outgoing.owes_key_update);
            assert!(ours.outgoing.key.sequence() < ours.outgoing.limit.max(before));
        }
    });
}

#[test]
fn each_half_closes_independently() {
    block_on(async {
        let (mut theirs, mut ours) = our_server().await;
        ours.shutdown().await.expect("open");
        assert_eq!(theirs.read(&mut [0; 8]).await.expect("close_notify"), 0);
        theirs.write_all(b"still").await.expect("our reading half is open");
        theirs.shutdown().await.expect("open");
        let mut got = String::new();
        ours.read_to_string(&mut got).await.expect("a regular end");
        assert_eq!(got, "still");
        assert_eq!(ours.read(&mut [0; 8]).await.expect("it stays"), 0);
        let closed = ours.write(b"more").await.expect_err("our half is closed");
        assert_eq!(closed.kind(), ErrorKind::BrokenPipe);

        let (mut theirs, mut ours) = our_server().await;
        theirs.shutdown().await.expect("open");
        assert_eq!(ours.read(&mut [0; 8]).await.expect("close_notify"), 0);
        ours.write_all(b"still").await.expect("our writing half is open");
        let mut got = [0; 5];
        theirs.read_exact(&mut got).await.expect("open");
        assert_eq!(&got, b"still");
    });
}

#[test]
fn data_received_with_the_handshake_is_kept() {
    for len in [0, 1, 5000, 40_000] {
        block_on(async {
            let (client, server) = &*WORKLOADS;
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

#[test]
fn unread_data_takes_a_bounded_buffer() {
    block_on(async {
        let (theirs, mut ours) = our_server().await;
        let mut sent = 0;
        let data = bytes(3 * TLS_WRITE_BYTES.value);
        while let Ok(written) = tokio::time::timeout(std::time::Duration::from_millis(20), ours.write(&data)).await {
            sent += written.expect("open");
            assert!(ours.outgoing.waiting() <= crate::buffers::WRITE_BYTES);
        }
        assert!(sent <= 2 * TLS_WRITE_BYTES.value, "{sent}");
        let reading = async {
            let (mut theirs, mut got) = (theirs, vec![0; sent]);
            theirs.read_exact(&mut got).await.expect("open");
            got
        };
        let (flushed, got) = tokio::join!(ours.flush(), reading);
        flushed.expect("open");
        assert!(
            got.chunks(TLS_WRITE_BYTES.value)
                .all(|part| part == &data[..part.len()])
        );
        assert!(is_idle(&ours));
    });
}

#[test]
fn corked_records_leave_together_and_are_bounded() {
    block_on(async {
        let (mut theirs, mut ours) = our_server().await;
        let data = bytes(PLAINTEXT);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        corked(|| {
            for len in [100, PLAINTEXT, 5] {
                let written = Pin::new(&mut ours).poll_write(&mut cx, &data[..len]);
                assert!(matches!(written, Poll::Ready(Ok(n)) if n == len));
            }
        });
        let sealed = 105 + PLAINTEXT + 3 * OVERHEAD;
        assert_eq!(ours.outgoing.waiting(), sealed, "nothing was sent");
        let mut got = vec![0; 105 + PLAINTEXT];
        let (flushed, read) = tokio::join!(ours.flush(), theirs.read_exact(&mut got));
        flushed.expect("open");
        read.expect("open");
        assert!(got[..100] == data[..100] && got[100 + PLAINTEXT..] == data[..5] && is_idle(&ours));

        // The peer stops reading: a socket of 16 KiB and one buffer are all that is accepted.
        let mut taken = 0;
        while let Poll::Ready(written) = corked(|| Pin::new(&mut ours).poll_write(&mut cx, &data[..1000])) {
            taken += written.expect("open");
            assert!(ours.outgoing.waiting() <= crate::buffers::WRITE_BYTES);
        }
        assert!(
            (TLS_WRITE_BYTES.value / 2..2 * TLS_WRITE_BYTES.value).contains(&taken),
            "{taken}"
        );
    });
}

/// Every connection holds one. Together with inbound's wrappers it fills an allocator size class.
#[test]
fn stream_is_small() {
    let size = size_of::<TlsStream<tokio::net::TcpStream>>();
    assert!(size <= 512 - 32, "{size} bytes");
}

#[test]
fn pieces_form_one_record_and_one_read_returns_many() {
    block_on(async {
        let (theirs, mut ours) = our_server().await;
        let (mut wire, mut session) = theirs.into_inner();
        let data = bytes(PLAINTEXT);
        let parts = [IoSlice::new(&[]), IoSlice::new(&data[..9]), IoSlice::new(&data[9..])];
        let mut record = vec![0; PLAINTEXT + OVERHEAD];
        let writing = async {
            assert_eq!(ours.write_vectored(&parts).await.expect("open"), PLAINTEXT);
            ours.flush().await.expect("open");
        };
        let ((), read) = tokio::join!(writing, wire.read_exact(&mut record));
        read.expect("open");
        assert_eq!(
            record[3..HEADER],
            ((PLAINTEXT + OVERHEAD - HEADER) as u16).to_be_bytes()
        );

        let mut records = Vec::new();
        for round in 0..50 {
            say(&mut session, &mut records, &[round; 10]);
        }
        wire.write_all(&records).await.expect("open");
        let mut got = [0; 1000];
        assert_eq!(ours.read(&mut got).await.expect("open"), 500, "all that was there");
        assert!(is_idle(&ours));
        assert!(records.len() < TLS_READ_BYTES.value);
    });
}

/// Both ends are ours, so that records a peer must not send can be sealed.
async fn both() -> (Ours, Ours) {
    let (client, server) = &*WORKLOADS;
    let (near, far) = duplex(64 * 1024);
    let name = dns(API);
    let (near, far) = tokio::join!(client.connect(near, &name, Alpn::None), server.accept(far, Alpn::None));
    (near.expect("handshake"), far.expect("handshake").io)
}

fn seal(from: &mut Ours, content: Content, data: &[u8], out: &mut Vec<u8>) {
    let sealed = from.outgoing.key.seal(content, [data].into_iter(), out);
    sealed.expect("a key");
}

/// Returns the error of the end that receives these records.
async fn refusal(from: &mut Ours, to: &mut Ours, records: &[u8]) -> String {
    from.io.write_all(records).await.expect("open");
    let error = to.read(&mut [0; 8]).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    error.to_string()
}

#[test]
fn rejects_many_empty_records() {
    block_on(async {
        let (mut near, mut far) = both().await;
        let mut records = Vec::new();
        let empty = |near: &mut Ours, records: &mut Vec<u8>| {
            for _ in 0..EMPTY_RECORDS {
                seal(near, Content::Data, b"", records);
            }
        };
        empty(&mut near, &mut records);
        seal(&mut near, Content::Data, b"x", &mut records);
        empty(&mut near, &mut records);
        near.io.write_all(&records).await.expect("open");
        assert_eq!(far.read_u8().await.expect("after a few empty ones"), b'x');
        records.clear();
        seal(&mut near, Content::Data, b"", &mut records);
        let error = refusal(&mut near, &mut far, &records).await;
        assert!(error.contains("TooManyEmptyFragments"), "{error}");
    });
}

#[test]
fn reassembles_fragmented_messages_and_rejects_interleaving() {
    block_on(async {
        let (mut near, mut far) = both().await;
        let mut records = Vec::new();
        for part in messages::KEY_UPDATE.chunks(2) {
            seal(&mut near, Content::Handshake, part, &mut records);
        }
        near.outgoing.key = near.outgoing.key.next_key().expect("a key");
        seal(&mut near, Content::Data, b"x", &mut records);
        near.io.write_all(&records).await.expect("open");
        assert_eq!(far.read_u8().await.expect("under the new key"), b'x');
        records.clear();
        seal(&mut near, Content::Handshake, &messages::KEY_UPDATE[..2], &mut records);
        seal(&mut near, Content::Data, b"y", &mut records);
        let error = refusal(&mut near, &mut far, &records).await;
        assert!(error.contains("MessageInterleaved"), "{error}");
    });
}

#[test]
fn rejects_invalid_records_and_messages() {
    let too_long = bytes(PLAINTEXT + 1);
    let ticket_to_server: &[u8] = &[4, 0, 0, 1, 0];
    for (content, data, expected) in [
        (Content::Handshake, ticket_to_server, "a ticket"),
        (Content::Handshake, &[24, 0, 0, 1, 2], "InvalidKeyUpdate"),
        (Content::Handshake, &[24, 0, 0, 1, 0, 4], "MessageInterleaved"),
        (Content::Handshake, &[20, 0, 0, 0], "after the handshake"),
        (Content::Handshake, &[4, 1, 0, 1], "HandshakePayloadTooLarge"),
        (Content::Handshake, &[], "InvalidEmptyPayload"),
        (Content::Alert, &[2], "InvalidContentType"),
        (Content::Alert, &[2, 40], "HandshakeFailure"),
        (Content::Data, &too_long, "excess record size"),
    ] {
        block_on(async {
            let (mut near, mut far) = both().await;
            let mut records = Vec::new();
            seal(&mut near, content, data, &mut records);
            let error = refusal(&mut near, &mut far, &records).await;
            assert!(error.contains(expected), "{expected}: {error}");
        });
    }
}
