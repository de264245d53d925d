//! Our records against rustls': the same script, sealed for each, gives the same plaintext, or both refuse.

use tests_fuzz::Target;

use super::*;

/// Refusals that rustls does not share.
const STRICTER: [&str; 2] = ["TooManyKeyUpdateRequests", "InvalidEmptyPayload"];
/// Longest script: a handshake costs more than some records.
const STEPS: usize = 80;

/// Records to send. A step is three bytes: what, and two figures.
#[derive(Copy, Clone)]
struct Script<'a> {
    steps: &'a [u8],
    /// A close_notify follows, and bytes that complete a record that was cut.
    is_ended: bool,
}

/// Result of a receiver.
#[derive(Debug)]
struct Received {
    plaintext: Vec<u8>,
    end: End,
}

#[derive(Debug)]
enum End {
    Closed,
    Truncated,
    Refused(String),
}

async fn receive(stream: io::Result<impl AsyncRead + Unpin>) -> Received {
    let mut plaintext = Vec::new();
    let read = match stream {
        Ok(mut stream) => stream.read_to_end(&mut plaintext).await,
        Err(error) => Err(error),
    };
    let end = match read {
        Ok(_) => End::Closed,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => End::Truncated,
        Err(error) => End::Refused(error.to_string()),
    };
    Received { plaintext, end }
}

/// Side that receives, and with what.
#[derive(Copy, Clone, Debug)]
enum Receiver {
    OurServer,
    TheirServer,
    OurClient,
    TheirClient,
}

/// Performs a handshake with `receiver`, sends the script and returns what became of it.
fn run(script: Script<'_>, receiver: Receiver) -> Received {
    block_on(async {
        let (near, far) = duplex(256 * 1024);
        let (wire, end) = duplex(256 * 1024);
        let config = client(SUITES[0]);
        let received = tokio::spawn(async move {
            match receiver {
                Receiver::OurServer => receive(accept(end, SERVER.clone(), |_| ()).await.map(|done| done.0)).await,
                Receiver::TheirServer => {
                    receive(tokio_rustls::TlsAcceptor::from(SERVER.clone()).accept(end).await).await
                }
                Receiver::OurClient => receive(connect(end, config, name(), |_| ()).await.map(|done| done.0)).await,
                Receiver::TheirClient => {
                    receive(tokio_rustls::TlsConnector::from(config).connect(name(), end).await).await
                }
            }
        });
        let wire = match receiver {
            Receiver::OurServer | Receiver::TheirServer => {
                let sender = connect(near, client(SUITES[0]), name(), |_| ());
                send(sender, far, wire, script).await
            }
            Receiver::OurClient | Receiver::TheirClient => {
                let sender = accept(near, SERVER.clone(), |_| ());
                send(sender, far, wire, script).await
            }
        };
        let received = received.await.expect("no panic");
        drop(wire);
        received
    })
}

/// Carries the bytes of a handshake, withholds the sender's last flight, and sends the script behind it.
async fn send(
    sender: impl Future<Output = io::Result<(Ours, ())>>,
    mut far: DuplexStream,
    mut wire: DuplexStream,
    script: Script<'_>,
) -> DuplexStream {
    let mut sender = std::pin::pin!(sender);
    let (mut outward, mut inward) = (vec![0; 32 * 1024], vec![0; 32 * 1024]);
    let (mut sender, ()) = loop {
        tokio::select! {
            biased;
            done = &mut sender => break done.expect("a handshake"),
            len = far.read(&mut outward) => wire.write_all(&outward[..len.expect("open")]).await.expect("open"),
            len = wire.read(&mut inward) => far.write_all(&inward[..len.expect("open")]).await.expect("open"),
        }
    };
    let mut flight = Vec::new();
    let waiting = std::future::poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut outward);
        let _ = Pin::new(&mut far).poll_read(cx, &mut buffer);
        Poll::Ready(buffer.filled().len())
    });
    let waiting = waiting.await;
    flight.extend_from_slice(&outward[..waiting]);
    for part in parts(script, &mut sender, flight) {
        if wire.write_all(&part).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = wire.shutdown().await;
    wire
}

/// Bytes of a script in the pieces in which they are sent; the first begins with `flight`.
fn parts(script: Script<'_>, sender: &mut Ours, flight: Vec<u8>) -> Vec<Vec<u8>> {
    let (mut parts, mut bytes) = (Vec::new(), flight);
    for step in script.steps.chunks(3).take(STEPS) {
        let step = [step[0] % 16, *step.get(1).unwrap_or(&0), *step.get(2).unwrap_or(&0)];
        if step[0] < 12 {
            add_records(step, &mut sender.outgoing.key, &mut bytes).expect("a key");
        } else {
            disturb(step, &mut bytes, &mut parts);
        }
    }
    if script.is_ended {
        add_records([7, 0, 0], &mut sender.outgoing.key, &mut bytes).expect("a key");
        bytes.resize(bytes.len() + 20_000, 0);
    }
    parts.push(bytes);
    parts
}

/// Appends sealed records.
fn add_records([what, a, b]: [u8; 3], key: &mut Key, out: &mut Vec<u8>) -> Result<(), Error> {
    let data = bytes(usize::from(a));
    let (content, pieces, count) = match what {
        0 | 1 => (Content::Data, vec![data], 1),
        2 => (Content::Data, vec![bytes(PLAINTEXT - 1 + usize::from(a % 3))], 1),
        3 => (Content::Data, vec![Vec::new()], a % 40),
        4 => (Content::Handshake, vec![vec![24, 0, 0, 1, b % 2]], 1),
        5 => (Content::Handshake, vec![vec![24, 0, 0, 1, b % 3]], a % 40),
        6 => (Content::Alert, vec![vec![a % 4, b]], 1),
        7 => (Content::Alert, vec![vec![1, 0]], 1),
        8 => (Content::Alert, vec![vec![1, 90]], a % 7),
        9 => (Content::Handshake, vec![vec![a % 32, 0, 0, b % 4, 0, 0, 0, 0]], 1),
        10 => return key.seal_inner(&[&data[..], &[20 + b % 5], &vec![0; usize::from(b)]].concat(), out),
        _ => {
            let (left, right) = messages::KEY_UPDATE.split_at(1 + usize::from(a % 4));
            (Content::Handshake, vec![left.to_vec(), right.to_vec()], 1)
        }
    };
    for _ in 0..count {
        for piece in &pieces {
            key.seal(content, [&piece[..]].into_iter(), out)?;
        }
        if matches!(what, 4 | 5 | 11) {
            *key = key.next_key()?;
        }
    }
    Ok(())
}

/// Changes bytes on their way: other records among them, damage, loss, cuts.
fn disturb([what, a, b]: [u8; 3], bytes: &mut Vec<u8>, parts: &mut Vec<Vec<u8>>) {
    match what {
        12 => bytes.extend([20, 3, 3, 0, 1, 1]),
        // The flight itself stays whole.
        13 | 14 if parts.is_empty() => {}
        13 => {
            if let Some(last) = bytes.last_chunk_mut::<8>() {
                last[usize::from(a % 8)] ^= b;
            }
        }
        14 => bytes.truncate(bytes.len().saturating_sub(usize::from(a % 64))),
        _ => {
            // What follows arrives later, at any cut.
            let rest = bytes.split_off(bytes.len().saturating_sub(usize::from(a)));
            parts.push(std::mem::replace(bytes, rest));
        }
    }
}

const SEEDS: [&[u8]; 10] = [
    &[15, 0, 0, 0, 5, 0, 4, 0, 0, 0, 9, 0, 7, 0, 0],
    &[15, 0, 0, 2, 1, 0, 4, 0, 1, 3, 32, 0, 0, 1, 0, 3, 33, 0],
    &[0, 5, 0, 0, 6, 0, 7, 0, 0],
    &[15, 0, 0, 5, 32, 0, 0, 1, 0, 5, 33, 1, 0, 2, 0],
    &[15, 0, 0, 8, 3, 0, 0, 1, 0, 8, 4, 0, 6, 2, 40],
    &[15, 0, 0, 10, 5, 3, 10, 0, 1, 10, 5, 4, 11, 2, 0, 0, 1, 0, 7, 0, 0],
    &[15, 0, 0, 9, 4, 0, 9, 20, 0, 12, 0, 0],
    &[15, 0, 0, 0, 200, 0, 15, 3, 0, 0, 200, 0, 13, 1, 1],
    &[15, 0, 0, 0, 9, 0, 14, 7, 0],
    &[4, 0, 0, 0, 9, 0, 15, 0, 0, 0, 9, 0, 7, 0, 0],
];

fn target(name: &'static str) -> Target {
    let seeds = SEEDS.map(<[u8]>::to_vec).into();
    let words = &[
        "\u{f}\0\0",
        "\u{4}\0\0",
        "\u{4}\0\u{1}",
        "\0\u{5}\0",
        "\u{7}\0\0",
        "\u{b}\u{2}\0",
    ];
    Target { name, seeds, words }
}

/// Asserts that both receivers make the same of a script.
fn compare(script: Script<'_>, [our, their]: [Receiver; 2]) {
    let (ours, theirs) = (run(script, our), run(script, their));
    match (&ours.end, &theirs.end) {
        (End::Closed, End::Closed) | (End::Truncated, End::Truncated) => {
            assert!(ours.plaintext == theirs.plaintext, "ours: {ours:?}\ntheirs: {theirs:?}");
        }
        (End::Refused(_), End::Refused(_)) => {}
        // Stricter than rustls: empty records between KeyUpdates do not excuse a flood of them, and a handshake record
        // must not be empty (RFC 8446, 5.1).
        (End::Refused(why), _) if STRICTER.iter().any(|rule| why.contains(rule)) => {}
        // One refuses a record that is cut by its header, the other waits for the rest.
        (End::Truncated, End::Refused(_)) | (End::Refused(_), End::Truncated) if !script.is_ended => {
            let is_ended = true;
            compare(Script { is_ended, ..script }, [our, their]);
        }
        _ => panic!("ours: {ours:?}\ntheirs: {theirs:?}"),
    }
    // How much of it is read before a refusal depends on how bytes are read.
    let (short, long) = if ours.plaintext.len() < theirs.plaintext.len() {
        (ours, theirs)
    } else {
        (theirs, ours)
    };
    assert!(long.plaintext.starts_with(&short.plaintext));
}

#[test]
fn fuzz_records_of_a_client() {
    target("fuzz_records_of_a_client").run(|steps| {
        let is_ended = false;
        compare(Script { steps, is_ended }, [Receiver::OurServer, Receiver::TheirServer]);
    });
}

#[test]
fn fuzz_records_of_a_server() {
    target("fuzz_records_of_a_server").run(|steps| {
        let is_ended = false;
        compare(Script { steps, is_ended }, [Receiver::OurClient, Receiver::TheirClient]);
    });
}
