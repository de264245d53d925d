//! Delegation of I/O from an enum to the stream in its current variant, which two enums of this crate need.

/// Implements [`tokio::io::AsyncRead`] and [`tokio::io::AsyncWrite`] for an enum. `$each!(value, io => call)` must run
/// `call` with `io` bound to the stream of the variant.
macro_rules! delegate_io {
    (impl<$($param:ident),+> $stream:ty, $each:ident) => {
        impl<$($param: $crate::engine::Io),+> tokio::io::AsyncRead for $stream {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                $each!(self.get_mut(), io => std::pin::Pin::new(io).poll_read(cx, buf))
            }
        }

        impl<$($param: $crate::engine::Io),+> tokio::io::AsyncWrite for $stream {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                $each!(self.get_mut(), io => std::pin::Pin::new(io).poll_write(cx, buf))
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                $each!(self.get_mut(), io => std::pin::Pin::new(io).poll_write_vectored(cx, bufs))
            }

            fn is_write_vectored(&self) -> bool {
                $each!(self, io => io.is_write_vectored())
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                $each!(self.get_mut(), io => std::pin::Pin::new(io).poll_flush(cx))
            }

            fn poll_shutdown(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                $each!(self.get_mut(), io => std::pin::Pin::new(io).poll_shutdown(cx))
            }
        }
    };
}

pub(crate) use delegate_io;
