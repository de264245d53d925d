//! The program `mesh-destination`: what proxies need to know of the cluster.

fn main() {}
