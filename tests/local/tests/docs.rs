//! The commands of the documentation that are marked `<!-- run: demo -->`, each run against a real demo.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use tests_local::{program, text, wait};

/// Longest time for the demo to be ready, and for one command.
const PATIENCE: Duration = Duration::from_secs(90);
/// Line before a block of commands that run against the demo.
const MARKER: &str = "<!-- run: demo -->";

/// Running demo with a runtime folder of its own; ended when dropped.
struct Demo {
    runtime: tempfile::TempDir,
    child: Child,
}

impl Demo {
    fn start() -> Self {
        let runtime = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(program("mesh"));
        command
            .arg("demo")
            .env("XDG_RUNTIME_DIR", runtime.path())
            .env_remove("KUBECONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("mesh runs");
        let demo = Self { runtime, child };
        assert!(wait(PATIENCE, || demo.is_ready()), "the demo did not become ready");
        demo
    }

    /// Returns whether every pod of the application is ready.
    fn is_ready(&self) -> bool {
        let output = self.run("mesh local status -o json");
        let pods: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_ready = |pod: &serde_json::Value| pod["ready"].as_bool() == Some(true);
        pods.iter().any(|pod| pod["namespace"] == "vote") && pods.iter().all(is_ready)
    }

    fn run(&self, line: &str) -> Output {
        let folder = program("mesh").parent().expect("a folder").to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path))).expect("a path");
        let mut command = Command::new("timeout");
        command
            .arg(PATIENCE.as_secs().to_string())
            .args(["bash", "-euo", "pipefail", "-c", line]);
        command
            .env("PATH", path)
            .env("XDG_RUNTIME_DIR", self.runtime.path())
            .env_remove("KUBECONFIG");
        command.stdin(Stdio::null()).output().expect("bash runs")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.run("mesh local down --name demo");
        let _ = self.child.wait();
    }
}

/// Pages of the documentation.
fn pages() -> Vec<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let entries = fs::read_dir(docs)
        .expect("a folder of docs")
        .map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// Lines of the blocks that follow a marker.
fn marked(page: &str) -> Vec<String> {
    let blocks = page.split(MARKER).skip(1);
    let lines = blocks.filter_map(|block| block.split_once("```sh\n")?.1.split_once("```"));
    lines.flat_map(|(block, _)| block.lines()).map(str::to_owned).collect()
}

#[test]
fn documented_commands_work_on_the_demo() {
    let demo = Demo::start();
    let mut seen = 0;
    for path in pages() {
        for line in marked(&fs::read_to_string(&path).expect("a page")) {
            seen += 1;
            let output = demo.run(&line);
            let (printed, error) = (text(&output.stdout), text(&output.stderr));
            assert!(
                output.status.success(),
                "{}: `{line}`: {}: {printed}{error}",
                path.display(),
                output.status
            );
            assert!(
                !printed.trim().is_empty() || !error.trim().is_empty(),
                "{}: `{line}` prints nothing",
                path.display()
            );
        }
    }
    assert!(seen >= 10, "only {seen} commands are marked");
}
