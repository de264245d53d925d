//! The mesh on a real Kubernetes, in one program: its trials share a cluster and run in this order, one at a time.
//!
//! ```text
//! readme: install, demo, stat ─▶ injection ─▶ traffic ─▶ workloads ─▶ outages ─▶ readme: uninstall ─▶ helm ─▶ cni
//! ```
//!
//! `cargo test -p tests-cluster --test mesh -- traffic` runs some of them; what they need is installed first.
//! `MESH_TESTS=long` runs the scenarios for as long as they are promised to hold, not as long as CI has time for.

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
    let trials = [
        readme::install(&bed),
        injection::trials(&bed),
        traffic::trials(&bed),
        workloads::trials(&bed),
        outages::trials(&bed),
        readme::uninstall(&bed),
        helm::trials(&bed),
        cni::trials(&bed),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    drop(bed); // With it a cluster of our own goes, before the process ends without destructors.
    conclusion.exit_code()
}
