//! Ends connections without requests. PINGs keep a connection alive in HTTP/2, so that a client could hold all
//! connections by answering them.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// Requests of a connection; a shared handle.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    requests: usize,
    /// End of the latest request.
    since: Instant,
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Busy(Activity);

impl Activity {
    pub(crate) fn new() -> Self {
        let since = Instant::now();
        Self(Arc::new(Mutex::new(State { requests: 0, since })))
    }

    /// Marks the connection as busy until the guard is dropped.
    pub(crate) fn begin(&self) -> Busy {
        self.change(|state| state.requests += 1);
        Busy(self.clone())
    }

    /// Returns the beginning of the idle time; now while there are requests.
    fn idle_since(&self) -> Instant {
        self.change(|state| {
            if state.requests > 0 {
                Instant::now()
            } else {
                state.since
            }
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.requests -= 1;
            state.since = Instant::now();
        });
    }
}

/// Byte stream that fails once its connection has been idle for too long.
pub(crate) struct IdleStream<I> {
    inner: I,
    activity: Activity,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    on_end: Option<Box<dyn FnOnce() + Send>>,
}

impl<I> IdleStream<I> {
    /// Wraps a stream; `on_end` is called if it is ended.
    pub(crate) fn new(inner: I, activity: Activity, limit: Duration, on_end: impl FnOnce() + Send + 'static) -> Self {
        Self {
            inner,
            activity,
            limit,
            timer: Box::pin(sleep(limit)),
            on_end: Some(Box::new(on_end)),
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let deadline = self.activity.idle_since() + self.limit;
            if deadline <= Instant::now() {
                if let Some(on_end) = self.on_end.take() {
                    on_end();
                }
                return Poll::Ready(io::Error::new(io::ErrorKind::ConnectionAborted, "idle"));
            }
            self.timer.as_mut().reset(deadline);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for IdleStream<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(cx, buf) {
            Poll::Pending => self.poll_idle(cx).map(Err),
            read @ Poll::Ready(_) => read,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for IdleStream<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ends_idle_connections_but_not_busy_ones() {
        let (activity, limit) = (Activity::new(), Duration::from_secs(120));
        let (ended, mut count) = tokio::sync::mpsc::channel(1);
        let (_peer, inner) = tokio::io::duplex(1);
        let on_end = move || ended.try_send(()).expect("room");
        let mut stream = IdleStream::new(inner, activity.clone(), limit, on_end);
        let busy = activity.begin();
        let read = tokio::spawn(async move {
            let error = stream.read_u8().await.expect_err("idle");
            (error.kind(), Instant::now())
        });
        sleep(limit * 3).await;
        assert!(!read.is_finished());
        let since = Instant::now();
        drop(busy);
        let (kind, at) = read.await.expect("ended");
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        assert!(at - since >= limit && at - since <= limit * 2, "{:?}", at - since);
        assert_eq!(count.try_recv(), Ok(()));
    }
}
