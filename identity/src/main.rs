//! The program `mesh-identity`: Certify: who you are.

fn main() {}
