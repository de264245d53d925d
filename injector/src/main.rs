//! The program `mesh-injector`: the admission webhook.

fn main() {}
