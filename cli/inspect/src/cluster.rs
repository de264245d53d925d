//! Which cluster a command asks: the flags that kubectl and Linkerd have, and the connection.
//!
//! The kubeconfig is found as kubectl finds it: `--kubeconfig`, `$KUBECONFIG` (several paths are merged),
//! `~/.kube/config`. The same program under the name `kubectl-mesh` is kubectl's plugin: `kubectl mesh check`.

pub mod http1;
pub mod http2;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use destination_source::cluster::{self, Client, ClientOptions, Forwarded, PodPort, Resource};
use indicatif::{ProgressBar, ProgressStyle};

/// The name that kubectl looks for.
const PLUGIN: &str = "kubectl-mesh";
/// How long something takes before people are told what it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which cluster, as whom, and where the control plane is.
#[derive(Clone, Debug, clap::Args)]
pub struct Flags {
    /// The kubeconfig that says where the cluster is; by default as kubectl finds it.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Another user to act as.
    #[arg(long = "as", value_name = "USER")]
    pub impersonate: Option<String>,

    /// A group to act as; may be given several times.
    #[arg(long = "as-group", value_name = "GROUP")]
    pub impersonate_group: Vec<String>,

    /// The namespace of the control plane.
    #[arg(
        long,
        short = 'L',
        value_name = "NAME",
        default_value = "linkerd",
        env = "LINKERD_NAMESPACE"
    )]
    pub linkerd_namespace: String,
}

/// Whose objects, of one namespace.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Namespaced {
    /// The namespace; by default the context's.
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
}

impl Namespaced {
    /// The namespace that is meant on a cluster.
    pub fn on(&self, client: &Client) -> String {
        self.namespace.clone().unwrap_or_else(|| client.namespace().to_owned())
    }
}

impl Flags {
    /// Whether the command line names a cluster.
    pub fn is_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some() || self.impersonate.is_some()
    }

    /// What they say, as the source reads it.
    pub fn options(&self) -> ClientOptions {
        ClientOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_group.clone(),
            upgrades: true,
        }
    }

    /// A client. Nothing is sent yet.
    pub async fn connect(&self) -> Result<Client> {
        Ok(cluster::client(&self.options()).await?)
    }
}

/// Runs a command that asks a cluster.
pub fn block_on<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(command);
    // A name that is being looked up holds a thread, which nobody waits for.
    runtime.shutdown_background();
    done
}

/// A connection to the port of a ready pod of a Deployment of the mesh.
pub async fn deployment(client: &Client, namespace: &str, name: &str, port: u16) -> Result<Forwarded> {
    let owner = Resource::new("apps/v1", "deployments").within(namespace);
    let pod = cluster::ready_pod(client, &owner, name)
        .await
        .with_context(|| format!("{name} cannot be reached in the namespace {namespace}"))?;
    let to = PodPort {
        namespace: namespace.to_owned(),
        pod,
        port,
    };
    Ok(cluster::forward(client, &to).await?)
}

/// The metrics of a pod's sidecar, or of another port that has some.
pub async fn metrics(client: &Client, from: &PodPort) -> Result<String> {
    /// Largest text that is read; a busy proxy writes some hundred KiB.
    const METRICS_BYTES: usize = 32 * 1024 * 1024;
    http1::text(cluster::forward(client, from).await?, "/metrics", METRICS_BYTES).await
}

/// Waits for `work`; when it takes over a second, a person at a terminal sees what for.
pub async fn patiently<T>(what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(PATIENCE, &mut work).await {
        return done;
    }
    // Draws on stderr, and nothing if that is no terminal.
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("a template");
    let spinner = ProgressBar::new_spinner()
        .with_style(style)
        .with_message(what.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(100));
    let done = work.await;
    spinner.finish_and_clear();
    done
}

/// The command line, and the name that help calls the program by.
///
/// Flags that say which cluster may stand before the command too, as Linkerd's do: they are moved behind it.
pub fn command_line(args: impl IntoIterator<Item = OsString>) -> (Vec<OsString>, &'static str) {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let program = args.first().map(PathBuf::from);
    let is_plugin = program.is_some_and(|path| path.file_name().is_some_and(|name| name == PLUGIN));
    let leading = leading_flags(&args);
    // Behind `--` nothing is a flag of ours.
    let end = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    if leading > 1 && leading < end {
        args[1..end].rotate_left(leading - 1);
    }
    (args, if is_plugin { "kubectl mesh" } else { "mesh" })
}

/// How many words at the beginning, the program's name counted, are flags of [`Flags`].
fn leading_flags(args: &[OsString]) -> usize {
    const FLAGS: [&str; 6] = [
        "--kubeconfig",
        "--context",
        "--as",
        "--as-group",
        "--linkerd-namespace",
        "-L",
    ];
    let mut at = 1;
    while let Some(word) = args.get(at).and_then(|word| word.to_str()) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let glued = word.starts_with("-L") && word.len() > 2;
        if !FLAGS.contains(&name) && !glued {
            break;
        }
        at += if value.is_some() || glued { 1 } else { 2 };
    }
    at.min(args.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> (String, &'static str) {
        let (args, name) = command_line(text.split(' ').map(OsString::from));
        let args: Vec<_> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        (args.join(" "), name)
    }

    #[test]
    fn flags_before_the_command_count_as_well() {
        for (typed, read) in [
            ("mesh check --proxy", "mesh check --proxy"),
            ("mesh --context a check", "mesh check --context a"),
            (
                "mesh --context=a -L m viz stat deploy",
                "mesh viz stat deploy --context=a -L m",
            ),
            ("mesh -L m local exec x -- -L y", "mesh local exec x -L m -- -L y"),
            ("mesh --version", "mesh --version"),
            ("mesh --context", "mesh --context"),
            ("mesh", "mesh"),
        ] {
            assert_eq!(rewritten(typed).0, read, "{typed}");
        }
    }

    #[test]
    fn kubectl_finds_its_plugin() {
        assert_eq!(rewritten("/usr/bin/kubectl-mesh check").1, "kubectl mesh");
        assert_eq!(rewritten("target/release/mesh check").1, "mesh");
    }
}
