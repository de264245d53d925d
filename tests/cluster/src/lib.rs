//! Kubernetes cluster for tests: that of `$KUBECONFIG`, or a temporary one.
//!
//! ```text
//!   let Some(cluster) = Cluster::find() else { return };    // reports why not; a failure in CI
//!   cluster.apply("kind: Namespace ...");
//!   cluster.kubectl(&["get", "pods"]);
//! ```
//!
//! `tests/source.rs` uses it for the Kubernetes client alone, the test program `mesh` for the whole mesh, by [`bed`].
//!
//! A temporary cluster is created by `../shared/kube/kube`, beside the repository, and deleted when dropped. Its parts
//! can be stopped by [`Cluster::stop`].

pub mod bed;
pub mod load;
pub mod readme;

use std::{
    env,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use charts_release::images;

/// Name and number of the temporary cluster, different from those of one created by hand.
const OWN: [&str; 4] = ["--name", "meshtests", "--index", "7"];
/// Default timeout of waits.
const WAIT: Duration = Duration::from_secs(60);

/// Kubernetes cluster.
#[derive(Debug)]
pub struct Cluster {
    kubeconfig: PathBuf,
    /// Directory of the programs of the cluster.
    bin: Option<PathBuf>,
    /// Command that stops and starts parts of it, with the arguments that name it.
    control: Option<(PathBuf, Vec<String>)>,
    own: bool,
}

impl Cluster {
    /// Returns the cluster to test on; none after reporting that there is none, which is a failure if `CI` is `true`.
    pub fn find() -> Option<Self> {
        match Self::find_or_why() {
            Ok(cluster) => Some(cluster),
            Err(why) => {
                assert!(env::var("CI").as_deref() != Ok("true"), "no cluster to test on: {why}");
                say(&format!("SKIPPED: no cluster to test on: {why}"));
                None
            }
        }
    }

    fn find_or_why() -> Result<Self, String> {
        let kube = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kube/kube");
        if let Some(kubeconfig) = env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
            // KUBE_NAME is set for a cluster of `kube`.
            let named = env::var("KUBE_NAME").ok().filter(|_| kube.exists());
            return Ok(Self {
                kubeconfig: kubeconfig.into(),
                bin: None,
                control: named.map(|name| (kube, vec!["--name".to_owned(), name])),
                own: false,
            });
        }
        if !kube.exists() {
            return Err("KUBECONFIG is not set, and there is no ../shared/kube beside the repository".to_owned());
        }
        if !nix::unistd::Uid::effective().is_root() {
            return Err("KUBECONFIG is not set, and ../shared/kube needs root".to_owned());
        }
        install_packages(&kube)?;
        let name = OWN.map(str::to_owned).to_vec();
        // A killed test may have left one behind.
        let _ = run(Command::new(&kube).arg("down").args(&OWN[..2]));
        let up = run(Command::new(&kube).arg("up").args(OWN))?;
        let export = |name: &str| {
            let lines = up.lines().filter_map(|line| line.strip_prefix("export "));
            lines
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let kubeconfig = export("KUBECONFIG").ok_or("../shared/kube/kube up names no KUBECONFIG")?;
        let bin = export("PATH").and_then(|path| path.split(':').next().map(PathBuf::from));
        Ok(Self {
            kubeconfig: kubeconfig.into(),
            bin,
            control: Some((kube, name)),
            own: true,
        })
    }

    /// Returns its kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    fn kubectl_command(&self, args: &[&str]) -> Command {
        let program = self
            .bin
            .as_ref()
            .map_or_else(|| "kubectl".into(), |bin| bin.join("kubectl"));
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        command
    }

    /// Returns a command whose environment has this cluster, its programs and those that cargo built.
    pub fn command(&self, program: &str) -> Command {
        let path = env::var_os("PATH").unwrap_or_default();
        let own = images::programs().ok().into_iter().chain(self.bin.clone());
        let path = env::join_paths(own.chain(env::split_paths(&path))).expect("folders without a colon");
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig).env("PATH", path);
        command
    }

    /// Loads images of the built programs into the nodes.
    pub fn load_images(&self) -> Result<(), String> {
        let programs = images::programs()?;
        let archives = images::make(&images::Request {
            programs: &programs,
            out: &programs.join("images"),
            registry: images::LOCAL_REGISTRY,
            released_only: false,
        })?;
        self.load(&archives)
    }

    /// Runs `mesh`.
    pub fn mesh(&self, args: &[&str]) -> Result<String, String> {
        run(self.command("mesh").args(args))
    }

    /// Runs shell lines in the repository, as a user would type them, up to the first that fails.
    pub fn shell(&self, lines: &str) -> Result<String, String> {
        let mut bash = self.command("bash");
        bash.current_dir(readme::root()).args(["-euo", "pipefail", "-c", lines]);
        run(&mut bash)
    }

    /// Loads archives of images into the nodes.
    pub fn load(&self, archives: &[PathBuf]) -> Result<(), String> {
        if let Some((kube, name)) = &self.control {
            return run(Command::new(kube).arg("load").args(&name[..2]).args(archives)).map(|_| ());
        }
        let context = self.try_kubectl(&["config", "current-context"])?;
        match context.trim().split_once('-') {
            Some(("kind", name)) => archives.iter().try_for_each(|archive| {
                let mut kind = self.command("kind");
                run(kind.args(["load", "image-archive", "--name", name]).arg(archive)).map(|_| ())
            }),
            Some(("k3d", name)) => {
                run(self.command("k3d").args(["image", "import", "-c", name]).args(archives)).map(|_| ())
            }
            _ => {
                say("the images of the mesh are taken to be on this cluster already: it is neither kind's nor k3d's");
                Ok(())
            }
        }
    }

    /// Runs `kubectl`, which must succeed; returns its output.
    pub fn kubectl(&self, args: &[&str]) -> String {
        run(&mut self.kubectl_command(args)).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Runs `kubectl`.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        run(&mut self.kubectl_command(args))
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) {
        let mut kubectl = self.kubectl_command(&["apply", "-f", "-"]);
        kubectl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = kubectl.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(manifests.as_bytes()).expect("kubectl reads");
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        printed(&kubectl, output).unwrap_or_else(|why| panic!("{why}"));
    }

    /// Creates a namespace, deleted when the value is dropped.
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        let _ = self.try_kubectl(&["delete", "namespace", name, "--ignore-not-found", "--wait"]);
        self.kubectl(&["create", "namespace", name]);
        Namespace {
            cluster: self,
            name: name.to_owned(),
        }
    }

    /// Runs a program on the node, if that is possible; returns its output.
    pub fn on_node(&self, command: &[&str]) -> Option<String> {
        let (kube, name) = self.control.as_ref()?;
        let done = run(Command::new(kube).arg("exec").args(&name[..2]).args(command));
        Some(done.unwrap_or_else(|why| panic!("{why}")))
    }

    /// Returns whether parts of the cluster can be stopped.
    pub fn is_ours_to_stop(&self) -> bool {
        self.control.is_some()
    }

    /// Stops a part, such as `apiserver`.
    pub fn stop(&self, part: &str) {
        self.part("stop", part);
    }

    /// Starts a part again and waits until the cluster responds.
    pub fn start(&self, part: &str) {
        self.part("start", part);
        wait_for("the cluster answers", || {
            self.try_kubectl(&["get", "--raw", "/readyz"]).is_ok()
        });
    }

    fn part(&self, verb: &str, part: &str) {
        let (kube, name) = self.control.as_ref().expect("a cluster whose parts we can stop");
        let done = run(Command::new(kube).arg(verb).args(&name[..2]).arg(part));
        done.unwrap_or_else(|why| panic!("{why}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((kube, _)) = self.control.as_ref().filter(|_| self.own)
            && let Err(why) = run(Command::new(kube).arg("down").args(&OWN[..2]))
        {
            say(&why);
        }
    }
}

/// Namespace of a test.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    /// Name.
    pub name: String,
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let _ = self
            .cluster
            .try_kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// Prints a line that is shown even when the output of tests is captured, such as skipped tests.
pub fn say(text: &str) {
    // `println!` would be captured.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Waits until a condition holds.
pub fn wait_for(what: &str, holds: impl FnMut() -> bool) {
    wait_at_most(WAIT, what, holds);
}

/// Waits until a condition holds, at most for `most`.
pub fn wait_at_most(most: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + most;
    while !holds() {
        assert!(Instant::now() < until, "waited in vain until {what}");
        sleep(Duration::from_millis(100));
    }
}

/// Installs the packages of the shared cluster that are missing.
fn install_packages(kube: &Path) -> Result<(), String> {
    let is_there = |program: &str| {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path).any(|dir| dir.join(program).exists())
    };
    if ["containerd", "runc", "conntrack", "socat", "iptables"]
        .into_iter()
        .all(is_there)
    {
        return Ok(());
    }
    let packages = run(Command::new(kube).arg("packages"))?;
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    run(Command::new("apt-get").args(install).args(packages.split_whitespace())).map(|_| ())
}

/// Runs a program, which must succeed; returns its output.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    printed(command, output)
}

fn printed(command: &Command, output: Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: {}", output.status, errors.trim()))
}
