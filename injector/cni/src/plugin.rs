//! The CNI plugin: one call, one answer on stdout.
//!
//! It is chained behind the plugins that make a pod's network. ADD puts the traffic rules into the network namespace of a pod
//! that has a sidecar and no init container that redirects; the other calls have nothing to do, because rules go with their
//! namespace. As long as it cannot know what a pod is, ADD fails, and the kubelet tries again: no pod of the mesh starts
//! without its rules.

mod call;
mod cluster;
mod config;
mod netns;
mod pod;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use call::{Call, Command, Failure};
use config::NetConf;
use pod::Decision;

/// Longest network configuration that is read; those of real networks are a few KiB.
const CONFIG_BYTES: u64 = 1024 * 1024;

/// Whether we are called by a container runtime.
pub(crate) fn is_called() -> bool {
    std::env::var_os("CNI_COMMAND").is_some()
}

/// Answers the call.
pub(crate) fn run() -> ExitCode {
    let mut text = String::new();
    let read = io::stdin().lock().take(CONFIG_BYTES).read_to_string(&mut text);
    let answered = match read {
        Ok(_) => answer(|name| std::env::var(name).ok(), &text),
        Err(error) => Err(Failure::io(format!(
            "the network configuration cannot be read: {error}"
        ))),
    };
    let (text, code) = match answered {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(call::version_of(&text)), ExitCode::FAILURE),
    };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What to print for a call: `variable` is its environment, `text` its network configuration.
fn answer(variable: impl Fn(&str) -> Option<String>, text: &str) -> Result<String, Failure> {
    let call = Call::read(variable)?;
    match call.command {
        Command::Version => Ok(call::versions(text)),
        // Rules are gone with the network namespace, and we hold nothing else.
        Command::Del | Command::Gc => Ok(String::new()),
        // A runtime takes a failed STATUS for a node without a network, and moves its pods away; a failed ADD is retried.
        Command::Check | Command::Status => NetConf::read(text).map(|_| String::new()),
        Command::Add => {
            let conf = NetConf::read(text)?;
            let result = conf.result()?;
            add(&call, &conf)?;
            Ok(result)
        }
    }
}

fn add(call: &Call, conf: &NetConf) -> Result<(), Failure> {
    let Some(name) = &call.pod else {
        // Not a pod: another runtime shares this network.
        return Ok(());
    };
    if conf.is_excluded(&name.namespace) {
        return Ok(());
    }
    let known = cluster::ask(conf, name, cluster::PATIENCE)?;
    match pod::decide(&known, conf)? {
        Decision::Pass(_) => Ok(()),
        Decision::Redirect(_) if conf.linkerd.simulate => Ok(()),
        Decision::Redirect(rules) => netns::apply(&call.netns, &rules),
    }
}
