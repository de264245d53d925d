//! Tests of the inbound side in one process: real sockets on loopback, a scripted control plane.
