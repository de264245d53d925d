//! Record streams at the level of single records, with rustls' own as the peer.

mod fuzz;

use std::{
    io::{ErrorKind, Write as _},
    sync::{Arc, LazyLock},
};

use proxy_model::limits::{TLS_READ_BYTES, TLS_WRITE_BYTES};
use proxy_transport::cork::corked;
use rustls::{
    CipherSuite, ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs::default_provider, pki_types::ServerName,
    version::TLS13,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::{
    accept, connect, prepare_client, prepare_server,
    record::{HEADER, OVERHEAD, PLAINTEXT},
};

const NAME: &str = "records.test";
const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// A server's certificate.
static LEAF: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate"));
static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let key = LEAF.signing_key.serialize_der().try_into().expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![LEAF.cert.der().clone()], key)
        .expect("a leaf");
    config.send_tls13_tickets = 0;
    prepare_server(&mut config);
    Arc::new(config)
});

type Ours = TlsStream<DuplexStream>;
type Theirs = tokio_rustls::client::TlsStream<DuplexStream>;

/// Client configuration that offers a single suite.
fn client(suite: CipherSuite) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    let mut anchors = RootCertStore::empty();
    anchors.add(LEAF.cert.der().clone()).expect("an anchor");
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(anchors)
        .with_no_client_auth();
    prepare_client(&mut config);
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    NAME.try_into().expect("a name")
}

async fn our_server(suite: CipherSuite) -> (Theirs, Ours) {
    let (near, far) = duplex(16 * 1024);
    let connector = tokio_rustls::TlsConnector::from(client(suite));
    let (near, far) = tokio::join!(connector.connect(name(), near), accept(far, SERVER.clone(), |_| ()));
    (near.expect("handshake"), far.expect("handshake").0)
}

/// Runs a test on a runtime with a clock.
fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
        .block_on(test)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 251) as u8).collect()
}

fn is_idle(stream: &Ours) -> bool {
    stream.incoming.is_idle() && stream.outgoing.is_idle()
}

/// Records of a plain rustls client, as `write` makes them, and the connection to our server.
async fn records(
    write: impl FnOnce(&mut rustls::ClientConnection, &mut Vec<u8>),
) -> (Vec<u8>, DuplexStream, rustls::ClientConnection, Ours) {
    let (theirs, ours) = our_server(SUITES[0]).await;
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
    SUITES.into_iter().for_each(keys_change);
}

fn keys_change(suite: CipherSuite) {
    block_on(async {
        let (theirs, mut ours) = our_server(suite).await;
        let (wire, mut session) = theirs.into_inner();
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
fn unread_data_takes_a_bounded_buffer() {
    block_on(async {
        let (theirs, mut ours) = our_server(SUITES[0]).await;
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
        let (mut theirs, mut ours) = our_server(SUITES[0]).await;
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
        let (theirs, mut ours) = our_server(SUITES[0]).await;
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
    let (near, far) = duplex(64 * 1024);
    let config = client(SUITES[0]);
    let (near, far) = tokio::join!(
        connect(near, config, name(), |_| ()),
        accept(far, SERVER.clone(), |_| ())
    );
    (near.expect("handshake").0, far.expect("handshake").0)
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

#[test]
fn rejects_floods_of_key_updates_and_warnings() {
    for (count, content, data, expected) in [
        (
            KEY_UPDATES,
            Content::Handshake,
            &messages::KEY_UPDATE[..],
            "TooManyKeyUpdateRequests",
        ),
        (WARNINGS, Content::Alert, &[1, 90], "TooManyWarningAlerts"),
    ] {
        block_on(async {
            let (mut near, mut far) = both().await;
            let mut records = Vec::new();
            let flood = |near: &mut Ours, records: &mut Vec<u8>| {
                for _ in 0..count {
                    seal(near, content, data, records);
                    if content == Content::Handshake {
                        near.outgoing.key = near.outgoing.key.next_key().expect("a key");
                    }
                }
            };
            flood(&mut near, &mut records);
            seal(&mut near, Content::Data, b"x", &mut records);
            // Data is a reason for further updates, but not for warnings.
            if content == Content::Handshake {
                flood(&mut near, &mut records);
            }
            near.io.write_all(&records).await.expect("open");
            assert_eq!(far.read_u8().await.expect("as many as are tolerated"), b'x');
            records.clear();
            seal(&mut near, content, data, &mut records);
            let error = refusal(&mut near, &mut far, &records).await;
            assert!(error.contains(expected), "{error}");
        });
    }
}

#[test]
fn a_key_update_with_the_end_of_the_handshake_reuses_no_key() {
    block_on(async {
        let (mut near, far) = duplex(64 * 1024);
        let mut session = rustls::ClientConnection::new(client(SUITES[0]), name()).expect("a session");
        let peer = async {
            let mut flight = Vec::new();
            session.write_tls(&mut flight).expect("a vector");
            near.write_all(&flight).await.expect("open");
            while session.is_handshaking() {
                let mut part = [0; 4096];
                let len = near.read(&mut part).await.expect("open");
                let mut part = &part[..len];
                while !part.is_empty() {
                    session.read_tls(&mut part).expect("bytes");
                    session.process_new_packets().expect("a handshake");
                }
            }
            let mut flight = Vec::new();
            session.refresh_traffic_keys().expect("TLS 1.3");
            say(&mut session, &mut flight, b"x");
            near.write_all(&flight).await.expect("open");
        };
        let (accepted, ()) = tokio::join!(accept(far, SERVER.clone(), |_| ()), peer);
        // The update is left to the stream, with all that follows the handshake.
        let mut ours = accepted.expect("a handshake").0;
        assert_eq!(ours.read_u8().await.expect("under the next key"), b'x');
        // It asked for one in return.
        ours.write_all(b"y").await.expect("open");
        ours.flush().await.expect("open");
        let (mut part, mut got) = ([0; 4096], [0; 2]);
        let len = near.read(&mut part).await.expect("open");
        let mut part = &part[..len];
        while !part.is_empty() {
            session.read_tls(&mut part).expect("bytes");
            session.process_new_packets().expect("under the next key");
        }
        assert_eq!(io::Read::read(&mut session.reader(), &mut got).expect("data"), 1);
        assert_eq!(got[0], b'y');
    });
}
