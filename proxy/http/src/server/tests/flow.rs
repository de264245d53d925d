//! Clients that ask for much and take nothing: what their connections hold.

use http::Request;
use proxy_model::limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{frames::*, *};

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
