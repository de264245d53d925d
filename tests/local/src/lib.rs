//! Runs the built program `mesh` for tests: a mesh from manifests, commands in its pods, what is left behind.
//!
//! ```text
//!   let mesh = Mesh::start(Sidecars::On, &[("app.yaml", APP)]);
//!   mesh.wait("two servers", || mesh.ready("server") == 2);
//!   let out = mesh.exec("deploy/client", &[&test_app(), "load", "server:80"]);
//!   mesh.down();
//! ```
//!
//! Each mesh has a name, a folder of manifests and a runtime folder of its own, so that tests run beside each other.

mod footprint;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

pub use footprint::{Footprint, Host};

/// Longest time for a start; machines that build beside are slow.
const START: Duration = Duration::from_secs(120);
/// Longest time for whatever a test waits for.
const WAIT: Duration = Duration::from_secs(60);

/// Whether a mesh has control plane and sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecars {
    /// It has.
    On,
    /// Pods alone.
    Off,
}

/// A pod, as `mesh local status` tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its Deployment; empty for a pod of its own.
    pub deployment: String,
    /// What it does.
    pub status: String,
    /// Whether it is ready.
    pub ready: bool,
    /// How often its containers were started again.
    pub restarts: u32,
    /// Its address.
    pub address: String,
    /// Whether it has a sidecar.
    pub meshed: bool,
}

/// A running mesh. Dropping it ends it.
#[derive(Debug)]
pub struct Mesh {
    name: String,
    manifests: TempDir,
    runtime: TempDir,
    up: Child,
}

/// A program of the workspace, beside the one that tests.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test's own path");
    // target/PROFILE/deps/test-HASH
    let path = own.ancestors().nth(2).expect("a target folder").join(name);
    assert!(
        path.exists(),
        "{} is missing: `cargo build --release --workspace` builds it",
        path.display()
    );
    path
}

/// The application that tests put behind sidecars.
pub fn test_app() -> String {
    program("mesh-test-app").display().to_string()
}

impl Mesh {
    /// Starts a mesh with these manifests (name of the file, text) and waits until its pods are ready. `MESH_TEST_APP` in
    /// them stands for [`test_app`].
    pub fn start(sidecars: Sidecars, manifests: &[(&str, &str)]) -> Self {
        let mesh = Self::begin(sidecars, manifests, &[]);
        let mut mesh = mesh;
        let deadline = Instant::now() + START;
        while !mesh.said().contains("The mesh runs.") {
            let ended = mesh.up.try_wait().expect("a child");
            assert!(ended.is_none(), "`mesh local up` ended: {}", mesh.said());
            assert!(Instant::now() < deadline, "not ready in {START:?}: {}", mesh.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        mesh
    }

    /// The same, but does not wait; `flags` are more flags of `up`.
    pub fn begin(sidecars: Sidecars, manifests: &[(&str, &str)], flags: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (folder, runtime) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        for (file, text) in manifests {
            fs::write(folder.path().join(file), text.replace("MESH_TEST_APP", &test_app())).expect("written");
        }
        let mut command = Command::new(program("mesh"));
        command
            .args(["local", "up", "--name", &name, "-f"])
            .arg(folder.path())
            .args(flags);
        if sidecars == Sidecars::Off {
            command.arg("--no-mesh");
        }
        let said = File::create(runtime.path().join("said")).expect("a file");
        command
            .env("XDG_RUNTIME_DIR", runtime.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        let up = command.spawn().expect("mesh runs");
        Self {
            name,
            manifests: folder,
            runtime,
            up,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process `mesh local up`.
    pub fn up(&mut self) -> &mut Child {
        &mut self.up
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.runtime.path().join("mesh").join(&self.name)
    }

    /// What `up` has printed.
    pub fn said(&self) -> String {
        fs::read_to_string(self.runtime.path().join("said")).unwrap_or_default()
    }

    /// Number of process 1 of the mesh, on the host.
    pub fn supervisor(&self) -> i32 {
        let text = fs::read_to_string(self.state().join("state.json")).expect("a state file");
        let state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        state["supervisor"]["pid"]
            .as_i64()
            .and_then(|pid| pid.try_into().ok())
            .expect("a number")
    }

    /// A `mesh` command line for this mesh; `--name` follows the first two words.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("mesh"));
        let (command_words, rest) = words.split_at(words.len().min(2));
        command.args(command_words).args(["--name", &self.name]).args(rest);
        command.env("XDG_RUNTIME_DIR", self.runtime.path()).stdin(Stdio::null());
        command
    }

    /// Runs `mesh` for this mesh; it must succeed. Returns what it printed.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().expect("mesh runs");
        assert!(output.status.success(), "mesh {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// All pods.
    pub fn pods(&self) -> Vec<Pod> {
        serde_json::from_str(&self.run(&["local", "status", "-o", "json"])).expect("JSON")
    }

    /// The pods of a Deployment.
    pub fn pods_of(&self, deployment: &str) -> Vec<Pod> {
        let mut pods = self.pods();
        pods.retain(|pod| pod.deployment == deployment);
        pods
    }

    /// How many pods of a Deployment are ready.
    pub fn ready(&self, deployment: &str) -> usize {
        self.pods_of(deployment).iter().filter(|pod| pod.ready).count()
    }

    /// Runs a command in a pod, to its end.
    pub fn exec(&self, pod: &str, argv: &[&str]) -> Output {
        self.exec_command(pod, argv).output().expect("mesh runs")
    }

    /// A command in a pod, to be started by the test.
    pub fn exec_command(&self, pod: &str, argv: &[&str]) -> Command {
        let mut command = self.command(&["local", "exec", pod, "--"]);
        command.args(argv);
        command
    }

    /// Runs a command in a pod; it must succeed and print JSON.
    pub fn exec_json(&self, pod: &str, argv: &[&str]) -> serde_json::Value {
        let output = self.exec(pod, argv);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{argv:?} in {pod}: {out} {err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{argv:?} in {pod}: {error}: {out}"))
    }

    /// Changes the number of a Deployment's pods.
    pub fn scale(&self, namespace: &str, deployment: &str, replicas: u32) {
        self.run(&[
            "local",
            "scale",
            "-n",
            namespace,
            deployment,
            "--replicas",
            &replicas.to_string(),
        ]);
    }

    /// Replaces the pods of a Deployment.
    pub fn restart(&self, namespace: &str, deployment: &str) {
        self.run(&["local", "restart", "-n", namespace, deployment]);
    }

    /// Writes a manifest while the mesh runs, as a whole.
    pub fn write(&self, file: &str, text: &str) {
        let (new, path) = (self.runtime.path().join("new"), self.manifests.path().join(file));
        fs::write(&new, text.replace("MESH_TEST_APP", &test_app())).expect("written");
        fs::rename(new, path).expect("renamed");
    }

    /// Takes a manifest away.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.manifests.path().join(file)).expect("removed");
    }

    /// Waits until it is so.
    pub fn wait(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(
            wait(WAIT, holds),
            "waited {WAIT:?} for {what}; `up` said: {}",
            self.said()
        );
    }

    /// Waits until `up` has said something with this in it.
    pub fn wait_said(&self, part: &str) {
        self.wait(part, || self.said().contains(part));
    }

    /// Ends it by `mesh local down`, which must succeed.
    pub fn down(mut self) {
        self.run(&["local", "down"]);
        assert!(
            self.up.wait().expect("a child").success(),
            "`up` ended: {}",
            self.said()
        );
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if self.up.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.command(&["local", "down"]).output();
            let _ = self.up.kill();
            let _ = self.up.wait();
        }
        if std::thread::panicking() {
            print_logs(&self.state().join("logs"));
        }
    }
}

/// What helps to understand a failed test; gone when the mesh ended in order.
fn print_logs(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(5).collect();
        for line in last.iter().rev() {
            eprintln!("{}: {line}", entry.file_name().display());
        }
    }
}

/// Waits until it is so; false when it is not in that time.
pub fn wait(most: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + most;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
