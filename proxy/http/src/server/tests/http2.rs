//! HTTP/2: silence, floods of cheap frames, and resets.

use http::{Request, Response};
use proxy_model::limits;
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout},
};

use super::{frames::*, *};

#[tokio::test(start_paused = true)]
async fn client_that_does_not_finish_its_preface_is_closed() {
    local(async {
        for sent in [&PREFACE[..3], PREFACE, &[PREFACE, &[0, 0, 0][..]].concat()] {
            let victim = Victim::new();
            let (mut io, served) = victim.http2(empty);
            let began = Instant::now();
            io.write_all(sent).await.expect("open");
            ended(served).await;
            assert_eq!(began.elapsed().as_secs(), limits::HTTP2_PREFACE.value.as_secs());
            assert_eq!(victim.refused("HTTP2_PREFACE"), 1, "{sent:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed_by_goaway_after_its_time_and_not_before() {
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http2(empty);
        open(&mut io, &[]).await;
        let idle = limits::HTTP_IDLE.value;
        for stream in [1, 3, 5] {
            io.write_all(&get(stream)).await.expect("open");
            tokio::time::sleep(idle.mul_f32(0.99)).await;
            assert!(!served.is_finished());
        }
        let began = Instant::now();
        let bye = timeout(LONG, receive_kind(&mut io, GOAWAY)).await.expect("a GOAWAY");
        assert_eq!(bye.expect("a GOAWAY").code(), 0);
        assert!(began.elapsed() <= idle, "{:?}", began.elapsed());
        // The client does not react.
        ended(served).await;
        assert_eq!(victim.refused("HTTP_IDLE"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn open_stream_keeps_a_connection() {
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http2(silent);
        open(&mut io, &[]).await;
        io.write_all(&get(1)).await.expect("open");
        tokio::time::sleep(LONG).await;
        assert!(!served.is_finished());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn settings_bound_what_a_client_may_send() {
    local(async {
        for (victim, streams) in [
            (Victim::new(), limits::HTTP2_STREAMS.value),
            (Victim::meshed(), limits::HTTP2_MESHED_STREAMS.value),
        ] {
            let (mut io, _served) = victim.http2(silent);
            open(&mut io, &[]).await;
            let got = receive_kind(&mut io, SETTINGS).await.expect("SETTINGS");
            assert_eq!(got.setting(MAX_CONCURRENT_STREAMS), Some(streams));
            assert_eq!(got.setting(MAX_HEADER_LIST_SIZE), Some(limits::HEADER_LIST_BYTES.value));
            let window = limits::HTTP2_STREAM_WINDOW.value;
            assert_eq!(got.setting(INITIAL_WINDOW_SIZE).unwrap_or(65_535), window);
            // A stream beyond them is refused.
            for n in 0..=streams {
                io.write_all(&get(2 * n + 1)).await.expect("open");
            }
            let refused = receive_kind(&mut io, RST_STREAM).await.expect("a reset");
            assert_eq!((refused.stream, refused.code()), (2 * streams + 1, 7));
        }
    })
    .await;
}

/// Opens and resets streams one by one; returns the number that the server took, and its GOAWAY.
async fn rapid_reset(victim: &Victim, streams: u32, answered: bool) -> Option<RawFrame> {
    let (mut io, served) = victim.http2(async move |request: Request<Body>| {
        if answered && request.method() == "POST" {
            return Response::new(Body::Empty);
        }
        std::future::pending().await
    });
    open(&mut io, &[]).await;
    for n in 0..streams {
        let stream = 4 * n + 1;
        if io.write_all(&get(stream)).await.is_err() {
            break;
        }
        if answered {
            let _ = io
                .write_all(&frame(HEADERS, END_HEADERS | END_STREAM, stream + 2, &block(POST)))
                .await;
        }
        // Paced: the stream has been accepted before it is reset.
        settle().await;
        if io.write_all(&reset(stream)).await.is_err() {
            break;
        }
        settle().await;
        // The answers have to be read.
        while timeout(Duration::from_millis(1), receive(&mut io))
            .await
            .is_ok_and(|frame| frame.as_ref().is_some_and(|frame| frame.kind != GOAWAY))
        {}
        if served.is_finished() {
            break;
        }
    }
    victim.drain.cancel();
    timeout(LONG, receive_kind(&mut io, GOAWAY)).await.ok().flatten()
}

#[tokio::test(start_paused = true)]
async fn paced_rapid_reset_ends_the_connection() {
    local(async {
        let (allowed, window) = (limits::HTTP2_RESETS.value, limits::HTTP2_RESET_WINDOW.value);
        assert!(
            window.as_millis() > u128::from(allowed) * 200 / 2,
            "the pace of this test"
        );
        let victim = Victim::new();
        let (mut io, served) = victim.http2(silent);
        open(&mut io, &[]).await;
        let pace = window / (allowed + 10);
        for n in 0..=allowed {
            assert!(!served.is_finished(), "after {n}");
            io.write_all(&get(2 * n + 1)).await.expect("open");
            tokio::time::sleep(pace / 2).await;
            io.write_all(&reset(2 * n + 1)).await.expect("open");
            tokio::time::sleep(pace / 2).await;
        }
        let bye = timeout(LONG, receive_kind(&mut io, GOAWAY))
            .await
            .expect("in time")
            .expect("a GOAWAY");
        assert_eq!(bye.code(), ENHANCE_YOUR_CALM);
        ended(served).await;
        assert_eq!(victim.refused("HTTP2_RESETS"), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn rapid_reset_without_pauses_ends_the_connection() {
    local(async {
        let frames = (0_u32..1 << 16).map(|n| [get(2 * n + 1), reset(2 * n + 1)].concat());
        let bye = closed_by(&Victim::new(), Vec::new(), frames).await;
        assert_eq!(bye.code(), ENHANCE_YOUR_CALM);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn resets_of_a_client_that_also_takes_answers_are_its_right() {
    local(async {
        let victim = Victim::new();
        let bye = rapid_reset(&victim, limits::HTTP2_RESETS.value * 2, true).await;
        assert_eq!(bye.map(|bye| bye.code()), Some(0), "the drain's");
        assert_eq!(victim.refused("HTTP2_RESETS"), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn meshed_client_may_reset_more() {
    local(async {
        let victim = Victim::meshed();
        let bye = rapid_reset(&victim, limits::HTTP2_RESETS.value * 2, false).await;
        assert_eq!(bye.map(|bye| bye.code()), Some(0), "the drain's");
    })
    .await;
}

/// Sends frames without reading a byte; returns the number of bytes taken.
async fn unread(victim: &Victim, sent: Vec<u8>) -> (usize, bool) {
    let (mut io, served) = victim.http2(silent);
    open(&mut io, &[]).await;
    let length = sent.len();
    let taken = flood(&mut io, std::iter::repeat_n(sent, 1 << 18)).await;
    (taken * length, served.is_finished())
}

#[tokio::test(start_paused = true)]
async fn floods_that_want_answers_stop_at_their_own_answers() {
    local(async {
        for sent in [
            settings(&[]),
            frame(PING, 0, 0, &[0; 8]),
            settings(&[(INITIAL_WINDOW_SIZE, 1)]),
        ] {
            let (taken, _) = unread(&Victim::new(), sent.clone()).await;
            assert!(taken < 256 * 1024, "{taken} bytes of {sent:?}");
        }
    })
    .await;
}

/// Sends frames until the server closes; returns its GOAWAY.
async fn closed_by(victim: &Victim, opening: Vec<u8>, frames: impl Iterator<Item = Vec<u8>> + 'static) -> RawFrame {
    let (mut io, served) = victim.http2(silent);
    open(&mut io, &[]).await;
    io.write_all(&opening).await.expect("open");
    let (mut read, mut write) = tokio::io::split(io);
    let sending = spawn_local(async move {
        for frame in frames {
            if write.write_all(&frame).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    });
    let mut bytes = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut bytes);
    let _ = timeout(LONG, reading).await.expect("the connection ends");
    sending.abort();
    ended(served).await;
    let (mut far, mut near) = tokio::io::duplex(bytes.len().max(1));
    far.write_all(&bytes).await.expect("room");
    drop(far);
    receive_kind(&mut near, GOAWAY).await.expect("a GOAWAY")
}

#[tokio::test(start_paused = true)]
async fn empty_data_flood_is_closed() {
    local(async {
        let flood = std::iter::repeat_n(frame(DATA, 0, 1, &[]), 1 << 20);
        let bye = closed_by(&Victim::new(), post(1), flood).await;
        assert_eq!(bye.code(), ENHANCE_YOUR_CALM);
        // One byte per frame is hardly better.
        let flood = std::iter::repeat_n(frame(DATA, 0, 1, &[0]), 1 << 20);
        let bye = closed_by(&Victim::new(), post(1), flood).await;
        assert!(bye.code() == ENHANCE_YOUR_CALM || bye.code() == 3, "{bye:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn continuation_flood_is_closed() {
    local(async {
        let opening = frame(HEADERS, END_STREAM, 1, &block(GET));
        let part = literal(b"x-a", &[b'a'; 1000]);
        let flood = std::iter::repeat_n(frame(CONTINUATION, 0, 1, &part), 1 << 16);
        let bye = closed_by(&Victim::new(), opening.clone(), flood).await;
        assert_ne!(bye.code(), 0);
        // Frames that carry nothing.
        let flood = std::iter::repeat_n(frame(CONTINUATION, 0, 1, &[]), 1 << 20);
        let bye = closed_by(&Victim::new(), opening, flood).await;
        assert_ne!(bye.code(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn frames_that_force_our_own_resets_end_the_connection() {
    local(async {
        // MadeYouReset: each request is followed by a frame that its stream may not carry.
        for bad in [
            (|stream| window(stream, 0)) as fn(u32) -> Vec<u8>,
            |stream| window(stream, 0x7fff_ffff),
            |stream| frame(DATA, 0, stream, &[0]),
        ] {
            let frames = (0_u32..1 << 16).map(move |n| [get(2 * n + 1), bad(2 * n + 1)].concat());
            let bye = closed_by(&Victim::new(), Vec::new(), frames).await;
            assert_ne!(bye.code(), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn header_list_is_limited_however_small_it_is_on_the_wire() {
    local(async {
        let victim = Victim::new();
        let (mut io, _served) = victim.http2(silent);
        open(&mut io, &[]).await;
        let mut bomb = block(GET);
        bomb.extend(literal(b"x-bomb", &[b'a'; 3900]));
        bomb.extend([NEWEST; 8]);
        io.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))
            .await
            .expect("open");
        let refused = timeout(LONG, receive_kind(&mut io, HEADERS))
            .await
            .expect("in time")
            .expect("an answer");
        // `:status: 431` is not in the static table: a literal with the name of index 8.
        assert_eq!(refused.payload.first(), Some(&0x48), "{refused:?}");
        assert_eq!(refused.stream, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trailers_and_resets_at_any_moment_leave_the_next_stream_alone() {
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http2(async |request: Request<Body>| {
            let body = http_body_util::BodyExt::collect(request.into_body()).await;
            Response::new(body.map_or(Body::Empty, |body| Body::Full(body.to_bytes())))
        });
        open(&mut io, &[]).await;
        let trailers = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &literal(b"x-end", b"1"));
        let data = |stream, flags| frame(DATA, flags, stream, b"body");
        let sequences: [&[Vec<u8>]; 5] = [
            &[post(1), trailers(1)],
            &[post(3), data(3, 0), trailers(3)],
            &[post(5), data(5, 0), reset(5)],
            &[post(7), window(7, 5), reset(7)],
            &[post(9), data(9, END_STREAM), reset(9)],
        ];
        for sequence in sequences {
            for part in sequence {
                io.write_all(part).await.expect("open");
                // The server reacts to each part.
                settle().await;
            }
        }
        io.write_all(&post(101)).await.expect("open");
        io.write_all(&data(101, END_STREAM)).await.expect("open");
        loop {
            let got = receive(&mut io).await.expect("still open");
            if got.kind == DATA && got.stream == 101 {
                assert_eq!(got.payload, b"body");
                break;
            }
        }
        assert!(!served.is_finished());
    })
    .await;
}
