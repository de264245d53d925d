//! The program `mesh-bench`: Benchmarks of the sidecar pair beside a bare hyper and rustls pair.

fn main() {}
