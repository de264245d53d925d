//! The program `mesh-viz`: from metrics to people.

fn main() {}
