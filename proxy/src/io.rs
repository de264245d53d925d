//! A connection of any kind as one type. What is not on the way of requests (admin, tap, the control plane's services)
//! has one HTTP for plaintext and TLS: each further type would be a hundred kilobytes of the program.

use proxy_http::server::Io;

/// A connection of any kind.
pub(crate) type AnyIo = Box<dyn Io>;
