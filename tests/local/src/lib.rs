//! Runs the built `mesh` program for tests: a mesh from manifests, commands in its pods, checks for leftovers.
//!
//! ```text
//!   let mesh = Mesh::start(Sidecars::On, &[("app.yaml", APP)]);
//!   mesh.wait("two servers", || mesh.ready("server") == 2);
//!   let out = mesh.exec("deploy/client", &[&test_app(), "load", "server:80"]);
//!   mesh.down();
//! ```
//!
//! Each mesh has its own name, manifest folder and runtime folder, so that tests can run in parallel.

mod footprint;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde::Deserialize;
use tempfile::TempDir;

pub use footprint::{Footprint, Host};

/// Longest time for a start; a machine that is also building is slow.
const START: Duration = Duration::from_secs(120);
/// Longest time for anything else a test waits for.
const WAIT: Duration = Duration::from_secs(60);

/// Presence of control plane and sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecars {
    /// With control plane and sidecars.
    On,
    /// Pods only.
    Off,
}

/// A pod as `mesh local status` reports it.
#[derive(Clone, Debug, Deserialize)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Owning Deployment; empty for a bare pod.
    pub deployment: String,
    /// Status column.
    pub status: String,
    /// Ready for traffic.
    pub ready: bool,
    /// Container restarts.
    pub restarts: u32,
    /// Pod IP.
    pub address: String,
    /// Has a sidecar.
    pub meshed: bool,
}

/// A running mesh. Dropping it stops it.
#[derive(Debug)]
pub struct Mesh {
    name: String,
    manifests: TempDir,
    runtime: TempDir,
    up: Child,
}

/// Path of a workspace program, in the profile folder of the running test.
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

/// Path of the application that tests put behind sidecars.
pub fn test_app() -> String {
    program("mesh-test-app").display().to_string()
}

impl Mesh {
    /// Starts a mesh with these manifests (file name, text) and waits until its pods are ready. `MESH_TEST_APP` in
    /// them stands for [`test_app`].
    pub fn start(sidecars: Sidecars, manifests: &[(&str, &str)]) -> Self {
        let mesh = Self::begin(sidecars, manifests, &[]);
        let mut mesh = mesh;
        let deadline = Instant::now() + START;
        while !mesh.said().contains("The mesh is up.") {
            let ended = mesh.up.try_wait().expect("a child");
            assert!(ended.is_none(), "`mesh local up` ended: {}", mesh.said());
            assert!(Instant::now() < deadline, "not ready in {START:?}: {}", mesh.said());
            std::thread::sleep(Duration::from_millis(20));
        }
        mesh
    }

    /// Starts a mesh without waiting; `flags` are additional flags of `up`.
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

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `mesh local up` process.
    pub fn up(&mut self) -> &mut Child {
        &mut self.up
    }

    /// State directory.
    pub fn state(&self) -> PathBuf {
        self.runtime.path().join("mesh").join(&self.name)
    }

    /// Output of `up` so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.runtime.path().join("said")).unwrap_or_default()
    }

    /// PID of process 1 of the mesh, on the host.
    pub fn supervisor(&self) -> i32 {
        let text = fs::read_to_string(self.state().join("state.json")).expect("a state file");
        let state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        state["supervisor"]["pid"]
            .as_i64()
            .and_then(|pid| pid.try_into().ok())
            .expect("a number")
    }

    /// A `mesh` command for this mesh; `--name` follows the first two words.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("mesh"));
        let (command_words, rest) = words.split_at(words.len().min(2));
        command.args(command_words).args(["--name", &self.name]).args(rest);
        command.env("XDG_RUNTIME_DIR", self.runtime.path()).stdin(Stdio::null());
        command
    }

    /// A `mesh` command in the runtime folder of this mesh, without its name.
    pub fn unnamed_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program("mesh"));
        command.args(words);
        command.env("XDG_RUNTIME_DIR", self.runtime.path()).stdin(Stdio::null());
        command
    }

    /// Runs `mesh` for this mesh, which must succeed, and returns its output.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().expect("mesh runs");
        assert!(output.status.success(), "mesh {words:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Sum of the series of a family in the metrics of a Deployment's sidecar whose labels contain all of `with`.
    pub fn metric(&self, deployment: &str, family: &str, with: &[&str]) -> u64 {
        let target = format!("deploy/{deployment}");
        let text = self.run(&["diagnostics", "proxy-metrics", "-n", "apps", &target]);
        let of =
            |line: &&str| line.starts_with(&format!("{family}{{")) && with.iter().all(|label| line.contains(label));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        text.lines().filter(of).filter_map(value).sum::<f64>() as u64
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

    /// Number of ready pods of a Deployment.
    pub fn ready(&self, deployment: &str) -> usize {
        self.pods_of(deployment).iter().filter(|pod| pod.ready).count()
    }

    /// Runs a command in a pod to completion.
    pub fn exec(&self, pod: &str, argv: &[&str]) -> Output {
        self.exec_command(pod, argv).output().expect("mesh runs")
    }

    /// A command in a pod, for the test to start.
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

    /// Scales a Deployment.
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

    /// Restarts a Deployment.
    pub fn restart(&self, namespace: &str, deployment: &str) {
        self.run(&["local", "restart", "-n", namespace, deployment]);
    }

    /// Replaces a manifest atomically while the mesh runs.
    pub fn write(&self, file: &str, text: &str) {
        let (new, path) = (self.runtime.path().join("new"), self.manifests.path().join(file));
        fs::write(&new, text.replace("MESH_TEST_APP", &test_app())).expect("written");
        fs::rename(new, path).expect("renamed");
    }

    /// Removes a manifest.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.manifests.path().join(file)).expect("removed");
    }

    /// Waits until the condition holds; fails the test if it does not in time.
    pub fn wait(&self, what: &str, holds: impl FnMut() -> bool) {
        assert!(
            wait(WAIT, holds),
            "waited {WAIT:?} for {what}; `up` said: {}",
            self.said()
        );
    }

    /// Waits until the output of `up` contains `part`.
    pub fn wait_said(&self, part: &str) {
        self.wait(part, || self.said().contains(part));
    }

    /// Stops the mesh with `mesh local down`, which must succeed.
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

/// Prints the last lines of each log of a failed test; after an orderly shutdown there are none.
fn print_logs(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(5).collect();
        for line in last.iter().rev() {
            eprintln!("{}: {line}", entry.file_name().display());
        }
    }
}

/// Waits until the condition holds; false if it does not in that time.
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

/// Decodes bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
