//! Signals of a program: the first begins the drain, the second ends it at once. The test runs itself as the program.

use std::{
    env,
    future::pending,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use proxy_process::{
    Error,
    program::{self, LOG_VARIABLE, Program},
};

/// Marks the process that is the program.
const CHILD: &str = "PROXY_PROCESS_TEST_CHILD";

#[test]
fn a_second_signal_ends_the_drain() {
    if env::var_os(CHILD).is_some() {
        return drain_without_end();
    }
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "a_second_signal_ends_the_drain", "--nocapture"])
        .env(CHILD, "1")
        .env(LOG_VARIABLE, "info")
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let pid = Pid::from_raw(child.id().cast_signed());
    let mut log = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut wait_for = |event: &str| {
        let found = log.by_ref().any(|line| line.expect("text").contains(event));
        assert!(found, "no {event:?} in the log");
    };
    wait_for("started");
    kill(pid, Signal::SIGTERM).expect("running");
    wait_for("shutting down");
    kill(pid, Signal::SIGINT).expect("running");
    wait_for("second signal");
    assert_eq!(child.wait().expect("our child").code(), Some(143));
}

fn drain_without_end() {
    let program = Program {
        name: "test",
        threads: 0,
        grace: Duration::from_secs(600),
    };
    program::main(program, |mut context| async move {
        context.tasks.spawn("stuck", pending::<Result<(), Error>>());
        tracing::info!("started");
        Ok::<_, Error>(context.tasks)
    });
}
