//! The program `mesh-proxy`: the sidecar.

fn main() {}
