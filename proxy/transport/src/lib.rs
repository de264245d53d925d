//! Sockets: accept, original destination, transport header, copy.
