//! Clients that ask for much and take nothing: what their connections hold.

use std::cell::Cell;

use http::{Request, Response};
use proxy_model::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{frames::*, *};
use crate::{budget, client};

#[tokio::test(start_paused = true)]
async fn body_is_not_read_while_its_stream_has_no_window() {
    local(async {
        let victim = Victim::new();
        let body = Endless::default();
        let served_body = body.clone();
        let (mut io, _served) = victim.http2(async move |_: Request<Body>| served_body.response());
        open(&mut io, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        for n in 0..limits::HTTP2_STREAMS.value {
            io.write_all(&get(2 * n + 1)).await.expect("open");
            receive_kind(&mut io, HEADERS).await.expect("a head");
        }
        settle().await;
        assert_eq!(body.produced(), 0);
        io.write_all(&window(1, 1)).await.expect("open");
        settle().await;
        assert_eq!(body.produced(), Endless::CHUNK, "one stream may send");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connection_that_is_not_read_holds_a_bounded_part_of_its_bodies() {
    local(async {
        let victim = Victim::new();
        let body = Endless::default();
        let served_body = body.clone();
        let (mut io, _served) = victim.http2(async move |_: Request<Body>| served_body.response());
        open(&mut io, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]).await;
        io.write_all(&window(0, 0x7fff_0000)).await.expect("open");
        for n in 0..limits::HTTP2_STREAMS.value {
            io.write_all(&get(2 * n + 1)).await.expect("open");
        }
        settle().await;
        let most = limits::HTTP2_WAITING_BYTES.value + Endless::CHUNK + PIPE;
        assert!(body.produced() <= most, "{} bytes", body.produced());
        // Reading lets it go on.
        let before = body.produced();
        let mut read = vec![0; 4 * limits::HTTP2_WAITING_BYTES.value];
        io.read_exact(&mut read).await.expect("data");
        assert!(body.produced() > before);
    })
    .await;
}

/// Budget of the tests of shedding: the connections of one thread share it.
const BUDGET: usize = 3 * limits::HTTP2_WAITING_BYTES.value;

/// Opens a connection that asks for `streams` endless bodies and reads nothing.
async fn greedy(victim: &Victim, streams: u32) -> (DuplexStream, JoinHandle<()>) {
    let (mut io, served) = victim.http2(async |_: Request<Body>| Endless::default().response());
    open(&mut io, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]).await;
    io.write_all(&window(0, 0x7fff_0000)).await.expect("open");
    for n in 0..streams {
        io.write_all(&get(2 * n + 1)).await.expect("open");
    }
    settle().await;
    (io, served)
}

#[tokio::test(start_paused = true)]
async fn connections_that_hold_most_are_closed_when_the_budget_is_spent() {
    local(async {
        let victim = Victim::new();
        budget::set(BUDGET, victim.metrics.recorder());
        let (mut modest, modest_served) =
            victim.http2(async |_: Request<Body>| Response::new(Body::Full(vec![7; 2 * PIPE].into())));
        open(&mut modest, &[]).await;
        modest.write_all(&get(1)).await.expect("open");
        settle().await;
        let mut greedy_ones = Vec::new();
        for n in 0..20 {
            greedy_ones.push(greedy(&victim, 200).await);
            let open = greedy_ones.iter().filter(|(_, served)| !served.is_finished()).count();
            assert!(open <= 3, "{open} of {n}");
        }
        assert!(victim.refused("BUFFERED_BYTES") >= 17);
        let closed = greedy_ones.iter().position(|(_, served)| served.is_finished());
        let (mut io, _) = greedy_ones.swap_remove(closed.expect("one was closed"));
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.expect("what was sent");
        // The small one is served to its end.
        assert!(!modest_served.is_finished());
        let mut got = 0;
        while got < 2 * PIPE {
            let frame = receive_kind(&mut modest, DATA).await.expect("open");
            got += frame.payload.len();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn heads_count_towards_the_budget() {
    local(async {
        let victim = Victim::new();
        budget::set(1 << 20, victim.metrics.recorder());
        let (mut io, served) = victim.http2(silent);
        open(&mut io, &[]).await;
        // One field in the table, which each stream names three times: 12 KB each for 12 bytes on the wire.
        let mut first = block(GET);
        first.extend(literal(b"x-bomb", &[b'a'; 3900]));
        io.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &first))
            .await
            .expect("open");
        let mut bomb = block(GET);
        bomb.extend([NEWEST; 3]);
        for n in 1..limits::HTTP2_STREAMS.value {
            let _ = io
                .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &bomb))
                .await;
        }
        ended(served).await;
        assert_eq!(victim.refused("BUFFERED_BYTES"), 1);
        let bye = receive_kind(&mut io, GOAWAY).await.expect("a GOAWAY");
        assert_eq!(bye.code(), ENHANCE_YOUR_CALM);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn http1_clients_that_do_not_read_are_bounded_together() {
    local(async {
        let victim = Victim::new();
        budget::set(BUDGET, victim.metrics.recorder());
        let mut clients = Vec::new();
        for _ in 0..200 {
            let (mut io, served) = victim.http1(async |_: Request<Body>| Endless::default().response());
            io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
                .await
                .expect("open");
            settle().await;
            clients.push((io, served));
        }
        let open = clients.iter().filter(|(_, served)| !served.is_finished()).count();
        assert!(open < 100, "{open} open");
        assert!(victim.refused("BUFFERED_BYTES") > 100);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_heads_count_towards_the_budget() {
    local(async {
        let victim = Victim::new();
        budget::set(1 << 20, victim.metrics.recorder());
        let mut clients = Vec::new();
        for _ in 0..40 {
            let (mut io, served) = victim.http1(empty);
            io.write_all(b"GET / HTTP/1.1\r\nx: ").await.expect("open");
            io.write_all(&vec![b'a'; 60_000]).await.expect("open");
            tokio::time::sleep(Duration::from_millis(1)).await;
            clients.push((io, served));
        }
        let open = clients.iter().filter(|(_, served)| !served.is_finished()).count();
        assert!(open <= (1 << 20) / 60_000, "{open} open");
        assert!(victim.refused("BUFFERED_BYTES") > 0);
    })
    .await;
}

/// Application that answers with a body, over a connection; counts the bytes that are taken of it.
async fn application(mut io: DuplexStream, length: usize, taken: Rc<Cell<usize>>) {
    let _ = io.read(&mut [0; 1024]).await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let _ = io.write_all(head.as_bytes()).await;
    for _ in 0..length / PIPE {
        if io.write_all(&[7; PIPE]).await.is_err() {
            return;
        }
        taken.set(taken.get() + PIPE);
    }
    std::future::pending::<()>().await;
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_silent_readers_hold_little_of_an_application_s_answers_and_are_kept() {
    const LENGTH: usize = 1 << 20;
    const CLIENTS: usize = 250;
    local(async {
        let victim = Victim::new();
        budget::set(limits::BUFFERED_BYTES.value, victim.metrics.recorder());
        let (taken, mut clients) = (Rc::new(Cell::new(0)), Vec::new());
        for _ in 0..CLIENTS {
            let taken = taken.clone();
            let (mut io, served) = victim.http1(async move |mut request: Request<Body>| {
                let (near, far) = tokio::io::duplex(4 * PIPE);
                spawn_local(application(far, LENGTH, taken.clone()));
                let mut client = client::http1(near).await.expect("a connection");
                client.send(&mut request).await.expect("an answer").map(Body::from)
            });
            io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n")
                .await
                .expect("open");
            settle().await;
            clients.push((io, served));
        }
        let pipes = 5 * PIPE * CLIENTS;
        let held = taken.get() - pipes;
        assert!(held <= limits::BUFFERED_BYTES.value, "{held} bytes");
        assert_eq!(victim.refused("BUFFERED_BYTES"), 0);
        // Those that read after all get everything.
        for (io, _) in &mut clients {
            io.read_exact(&mut vec![0; LENGTH]).await.expect("the answer");
        }
    })
    .await;
}
