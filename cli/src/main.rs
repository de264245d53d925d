//! The program `mesh`: one program for people: demo, local, viz.

fn main() {}
