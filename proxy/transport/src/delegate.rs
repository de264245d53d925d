//! Delegation of I/O from a wrapper to what it wraps. The wrapper names a macro of its own that runs a call with the
//! wrapped stream, `with!(wrapper, io => call)`, so that it may be a struct or an enum.

/// Implements [`tokio::io::AsyncRead`] by the wrapped stream.
#[macro_export]
macro_rules! delegate_read {
    (impl<$($param:ident),+> $wrapper:ty where {$($bounds:tt)+}, $with:ident) => {
        impl<$($param),+> ::tokio::io::AsyncRead for $wrapper
        where
            $($bounds)+
        {
            fn poll_read(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &mut ::tokio::io::ReadBuf<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                $with!(self.get_mut(), io => ::std::pin::Pin::new(io).poll_read(cx, buf))
            }
        }
    };
}

/// Implements [`tokio::io::AsyncWrite`] by the wrapped stream.
#[macro_export]
macro_rules! delegate_write {
    (impl<$($param:ident),+> $wrapper:ty where {$($bounds:tt)+}, $with:ident) => {
        impl<$($param),+> ::tokio::io::AsyncWrite for $wrapper
        where
            $($bounds)+
        {
            fn poll_write(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                buf: &[u8],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                $with!(self.get_mut(), io => ::std::pin::Pin::new(io).poll_write(cx, buf))
            }

            fn poll_write_vectored(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
                bufs: &[::std::io::IoSlice<'_>],
            ) -> ::std::task::Poll<::std::io::Result<usize>> {
                $with!(self.get_mut(), io => ::std::pin::Pin::new(io).poll_write_vectored(cx, bufs))
            }

            fn is_write_vectored(&self) -> bool {
                $with!(self, io => io.is_write_vectored())
            }

            fn poll_flush(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                $with!(self.get_mut(), io => ::std::pin::Pin::new(io).poll_flush(cx))
            }

            fn poll_shutdown(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<::std::io::Result<()>> {
                $with!(self.get_mut(), io => ::std::pin::Pin::new(io).poll_shutdown(cx))
            }
        }
    };
}
