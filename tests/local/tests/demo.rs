//! `mesh demo` when its mesh is stopped from outside: an orderly stop is a success, a crash is a failure.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tests_local::{program, text, wait};

fn demo(runtime: &tempfile::TempDir) -> Child {
    let log = fs::File::create(runtime.path().join("log")).expect("a file");
    let mut command = Command::new(program("mesh"));
    command.arg("demo").env("XDG_RUNTIME_DIR", runtime.path());
    command.stdin(Stdio::null()).stdout(log).stderr(Stdio::piped());
    command.spawn().expect("mesh runs")
}

#[test]
fn down_removes_what_a_killed_demo_left() {
    let runtime = tempfile::tempdir().expect("a folder");
    let mut child = demo(&runtime);
    assert!(
        wait(Duration::from_secs(60), || runs(&runtime)),
        "the demo did not start"
    );
    let state = fs::read_to_string(runtime.path().join("mesh/demo/state.json")).expect("a state file");
    let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
    let manifests = std::path::Path::new(state["manifests"].as_str().expect("a path"));
    child.kill().expect("killed");
    child.wait().expect("a child");
    assert!(manifests.exists());
    let mut down = Command::new(program("mesh"));
    down.args(["local", "down"]).env("XDG_RUNTIME_DIR", runtime.path());
    assert!(down.status().expect("mesh runs").success(), "without a name");
    assert!(!manifests.exists() && !runtime.path().join("mesh").exists());
}

fn runs(runtime: &tempfile::TempDir) -> bool {
    let log = fs::read_to_string(runtime.path().join("log")).expect("readable");
    log.contains("The mesh is up")
}

#[test]
fn demo_succeeds_after_down_and_fails_after_a_crash() {
    let runtime = tempfile::tempdir().expect("a folder");
    for crash in [false, true] {
        let child = demo(&runtime);
        assert!(
            wait(Duration::from_secs(60), || runs(&runtime)),
            "the demo did not start"
        );
        if crash {
            let state = fs::read_to_string(runtime.path().join("mesh/demo/state.json")).expect("a state file");
            let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
            let supervisor = state["supervisor"]["pid"].as_i64().expect("a number");
            kill(Pid::from_raw(supervisor as i32), Signal::SIGKILL).expect("killed");
        } else {
            let mut down = Command::new(program("mesh"));
            down.args(["local", "down"]).env("XDG_RUNTIME_DIR", runtime.path());
            assert!(down.status().expect("mesh runs").success());
        }
        let output = child.wait_with_output().expect("a child");
        let said = text(&output.stderr);
        assert_eq!(output.status.success(), !crash, "{said}");
        assert_eq!(said.contains("mesh: the mesh has stopped"), crash, "{said}");
        assert!(!runtime.path().join("mesh").exists(), "its state is cleaned up");
    }
}
