//! Installs rules in another network namespace, entered by a thread of its own.

use std::{fs::File, path::Path, thread};

use injector_redirect::Rules;
use nix::sched::{CloneFlags, setns};

use super::call::Failure;

/// Installs rules in the network namespace at a path.
pub(super) fn apply(path: &Path, rules: &Rules) -> Result<(), Failure> {
    let failure = |what: &str, cause: &dyn std::fmt::Display| {
        Failure::rules(format!(
            "cannot {what} the network namespace {}: {cause}",
            path.display()
        ))
    };
    let netns = File::open(path).map_err(|error| failure("open", &error))?;
    // A thread that has entered another namespace must not be reused.
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            setns(&netns, CloneFlags::CLONE_NEWNET).map_err(|error| failure("enter", &error))?;
            injector_redirect::apply(rules).map_err(|error| Failure::rules(error.to_string()))
        });
        entered
            .join()
            .unwrap_or_else(|_| Err(Failure::rules("the thread in the network namespace panicked")))
    })
}
