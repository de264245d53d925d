//! What clients and servers of HTTP/2 have in common: bodies on their way through streams, PINGs, and waking.

pub(crate) mod gate;
pub(crate) mod keep_alive;
pub(crate) mod pump;
pub(crate) mod receive;
