//! Tests of the mesh on real Kubernetes, in one program: they share a cluster and run in this order, one at a time.
//!
//! ```text
//! readme: install, demo, stat ─▶ injection ─▶ traffic ─▶ workloads ─▶ outages ─▶ readme: uninstall ─▶ helm ─▶ cni
//! ```
//!
//! `cargo test -p tests-cluster --test mesh -- traffic` runs some of them, after installing what they need.
//! `MESH_TESTS=long` runs the scenarios in full length, which CI has no time for.

mod app;
mod cni;
mod helm;
mod injection;
mod outages;
mod readme;
mod traffic;
mod workloads;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::Arguments;
use tests_cluster::bed::Bed;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let bed = Arc::new(Bed::default());
    let tests = [
        readme::install(&bed),
        injection::tests(&bed),
        traffic::tests(&bed),
        workloads::tests(&bed),
        outages::tests(&bed),
        readme::uninstall(&bed),
        helm::tests(&bed),
        cni::tests(&bed),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().flatten().collect());
    drop(bed); // With it a cluster of our own goes, before the process ends without destructors.
    conclusion.exit_code()
}
