//! Hostile clients against the real programs: each attack is a row of a table with the memory and CPU time it took,
//! what was answered, and what well-behaved clients saw meanwhile.
//!
//! ```text
//! [suite] a row ─▶ [programs] a program under a memory limit, with all it needs ([sidecar], [control_plane])
//!    │               ▲ asked at a steady rate by [good] clients
//!    └──▶ [attacks] ─┘ by [raw] clients, aimed at a [target]
//! ```
//! `docs/hostile.md` says how to run it against other programs, and what upstream's does.

pub mod args;
pub mod attacks;
mod control_plane;
pub mod good;
pub mod limited;
pub mod pending;
pub mod place;
pub mod programs;
pub mod raw;
mod sidecar;
mod soak;
pub mod suite;
pub mod table;
pub mod target;
