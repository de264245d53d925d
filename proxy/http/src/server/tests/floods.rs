//! Frames without a use: they end their connection, take no one's turn, and are not mistaken for those of good clients.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::{Request, Response};
use http_body_util::BodyExt as _;
use proxy_model::limits;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    sync::mpsc::{Receiver, channel},
};

use super::{frames::*, *};

const PRIORITY: u8 = 2;
const UNKNOWN: u8 = 66;
/// Bytes that no good client of these tests stays below.
const MUCH: usize = 2 * limits::HTTP2_IDLE_BYTES.value as usize;

fn floods() -> [Vec<u8>; 6] {
    [
        frame(PING, 0, 0, &[0; 8]),
        frame(PING, 1, 0, &[0; 8]),
        settings(&[(INITIAL_WINDOW_SIZE, 70_000), (INITIAL_WINDOW_SIZE, 60_000)]),
        frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 1]),
        frame(UNKNOWN, 0, 5, &[]),
        window(0, 1),
    ]
}

#[tokio::test(start_paused = true)]
async fn flood_of_each_kind_ends_its_connection_within_the_limit() {
    local(async {
        for sent in floods() {
            let victim = Victim::new();
            let (io, served) = victim.http2(silent);
            let (mut read, mut write) = tokio::io::split(io);
            let mut opening = [PREFACE, &settings(&[])].concat();
            // A request that is never answered explains little.
            opening.extend(get(1));
            let length = sent.len();
            let sending = spawn_local(async move {
                write.write_all(&opening).await.expect("open");
                let mut taken = 0;
                while taken < 4 * MUCH && write.write_all(&sent).await.is_ok() {
                    taken += length;
                }
                taken
            });
            let mut bytes = Vec::new();
            let reading = read.read_to_end(&mut bytes);
            let read = tokio::time::timeout(LONG, reading).await;
            read.expect("the connection ends").expect("readable");
            ended(served).await;
            let taken = sending.await.expect("no panic");
            assert!(
                taken <= limits::HTTP2_IDLE_BYTES.value as usize + 2 * PIPE,
                "{taken} bytes"
            );
            assert_eq!(victim.refused("HTTP2_IDLE_BYTES"), 1);
            let bye = bytes
                .windows(9)
                .position(|head| head == [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0]);
            let code = &bytes[bye.expect("a GOAWAY") + 13..][..4];
            assert_eq!(code, ENHANCE_YOUR_CALM.to_be_bytes());
        }
    })
    .await;
}

/// Client that always has a further frame, and takes every answer.
struct Always {
    opening: Vec<u8>,
    flood: Vec<u8>,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Always {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.remaining();
        if !self.opening.is_empty() {
            let count = self.opening.len().min(before);
            buf.put_slice(&self.opening.drain(..count).collect::<Vec<_>>());
        } else if before < self.flood.len() {
            // Whole frames, except where there is no room for one.
            buf.put_slice(&self.flood[..before]);
            self.opening = self.flood[before..].to_vec();
        }
        while self.opening.is_empty() && buf.remaining() >= self.flood.len() {
            buf.put_slice(&self.flood);
        }
        self.read.fetch_add(before - buf.remaining(), Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Always {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn others_of_the_worker_have_their_turn_during_a_flood() {
    local(async {
        for flood in floods() {
            let victim = Victim::new();
            let (mut good, _served) = victim.http2(empty);
            open(&mut good, &[]).await;
            settle().await;
            let read = Arc::new(AtomicUsize::new(0));
            let client = Always {
                opening: [PREFACE, &settings(&[])].concat(),
                flood,
                read: read.clone(),
            };
            let served = victim.http2_over(client, empty);
            // A task of the worker, too: the test itself has its turn more rarely.
            let answered = spawn_local(async move {
                good.write_all(&get(1)).await.expect("open");
                receive_kind(&mut good, HEADERS).await.expect("an answer");
                read.load(Relaxed)
            });
            let read = answered.await.expect("no panic");
            let turns = 6 * limits::HTTP2_TURN_BYTES.value as usize;
            assert!(read <= turns, "{read} bytes before the answer");
            ended(served).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn download_whose_window_opens_in_small_steps_is_let_be() {
    const STEP: u32 = 64;
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http2(async |_: Request<Body>| Endless::default().response());
        open(&mut io, &[]).await;
        io.write_all(&get(1)).await.expect("open");
        let mut sent = 0;
        while sent < MUCH {
            let data = receive_kind(&mut io, DATA).await.expect("open").payload;
            for _ in 0..data.len().div_ceil(STEP as usize) {
                let step = [window(0, STEP), window(1, STEP)].concat();
                io.write_all(&step).await.expect("open");
                sent += step.len();
            }
        }
        assert!(!served.is_finished());
        assert_eq!(victim.refused("HTTP2_IDLE_BYTES"), 0);
    })
    .await;
}

/// Body of small messages, sent one by one.
struct Messages(Receiver<Bytes>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0
            .poll_recv(cx)
            .map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}

#[tokio::test(start_paused = true)]
async fn small_messages_that_a_grpc_client_answers_by_pings_are_let_be() {
    local(async {
        let victim = Victim::new();
        let (messages, body) = channel(1);
        let body = RefCell::new(Some(Messages(body)));
        let (mut io, served) = victim.http2(async move |_: Request<Body>| {
            Response::new(Body::boxed(body.borrow_mut().take().expect("one request")))
        });
        open(&mut io, &[]).await;
        io.write_all(&get(1)).await.expect("open");
        let answer = [window(0, 8), window(1, 8), frame(PING, 0, 0, &[0; 8])].concat();
        for _ in 0..MUCH / answer.len() {
            messages.try_send(Bytes::from_static(b"12345678")).expect("open");
            receive_kind(&mut io, DATA).await.expect("open");
            io.write_all(&answer).await.expect("open");
        }
        assert!(!served.is_finished());
        assert_eq!(victim.refused("HTTP2_IDLE_BYTES"), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn upload_in_small_frames_is_let_be() {
    const PIECE: u32 = 512;
    local(async {
        let victim = Victim::new();
        let (mut io, served) = victim.http2(async |request: Request<Body>| {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            Response::new(Body::Empty)
        });
        open(&mut io, &[]).await;
        io.write_all(&post(1)).await.expect("open");
        let mut room = 65_535;
        for _ in 0..2 * MUCH / PIECE as usize {
            while room < PIECE {
                let opened = receive_kind(&mut io, WINDOW_UPDATE).await.expect("open");
                if opened.stream == 1 {
                    room += u32::from_be_bytes(opened.payload.try_into().expect("four bytes"));
                }
            }
            io.write_all(&frame(DATA, 0, 1, &[7; PIECE as usize]))
                .await
                .expect("open");
            room -= PIECE;
        }
        io.write_all(&frame(DATA, END_STREAM, 1, &[])).await.expect("open");
        receive_kind(&mut io, HEADERS).await.expect("an answer");
        assert!(!served.is_finished());
        assert_eq!(victim.refused("HTTP2_IDLE_BYTES"), 0);
    })
    .await;
}
