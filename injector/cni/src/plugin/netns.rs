//! Rules in another network namespace, which a thread of its own enters.

use std::{fs::File, path::Path, thread};

use injector_redirect::Rules;
use nix::sched::{CloneFlags, setns};

use super::call::Failure;

/// Puts rules into the network namespace at a path.
pub(super) fn apply(path: &Path, rules: &Rules) -> Result<(), Failure> {
    let said = |what: &str, why: &dyn std::fmt::Display| Failure::rules(format!("{what} {}: {why}", path.display()));
    let netns = File::open(path).map_err(|error| said("the network namespace", &error))?;
    // A thread that has entered another namespace is good for nothing else.
    thread::scope(|scope| {
        let entered = scope.spawn(|| {
            setns(&netns, CloneFlags::CLONE_NEWNET)
                .map_err(|error| said("cannot enter the network namespace", &error))?;
            injector_redirect::apply(rules).map_err(|error| Failure::rules(error.to_string()))
        });
        entered
            .join()
            .unwrap_or_else(|_| Err(Failure::rules("the thread that enters the network namespace failed")))
    })
}
