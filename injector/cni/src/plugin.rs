//! The CNI plugin: one call, one answer on stdout.
//!
//! It is chained behind the plugins that create a pod's network. ADD installs the redirection rules in the network
//! namespace of a pod that has a sidecar and no init container that redirects; the other calls do nothing, because
//! rules vanish with their namespace. While the pod is unknown, ADD fails and the kubelet retries: no meshed pod starts
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

/// Longest network configuration; real ones are a few KiB.
const CONFIG_BYTES: u64 = 1024 * 1024;

/// Returns true if a container runtime runs the program.
pub(crate) fn is_called() -> bool {
    std::env::var_os("CNI_COMMAND").is_some()
}

/// Answers the runtime's call.
pub(crate) fn run() -> ExitCode {
    let mut text = String::new();
    let read = io::stdin().lock().take(CONFIG_BYTES).read_to_string(&mut text);
    let answered = match read {
        Ok(_) => answer(|name| std::env::var(name).ok(), &text),
        Err(error) => Err(Failure::io(format!("cannot read the network configuration: {error}"))),
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

/// Returns the output of a call, given its environment and its network configuration.
fn answer(variable: impl Fn(&str) -> Option<String>, text: &str) -> Result<String, Failure> {
    let call = Call::read(variable)?;
    match call.command {
        Command::Version => Ok(call::versions(text)),
        // Rules vanish with the network namespace, and the plugin holds nothing else.
        Command::Del | Command::Gc => Ok(String::new()),
        // A runtime treats a failed STATUS as a node without a network and evicts its pods; a failed ADD is retried.
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
        // Not a pod: another runtime uses this network.
        return Ok(());
    };
    if conf.is_excluded(&name.namespace) {
        return Ok(());
    }
    let known = cluster::lookup(conf, name, cluster::PATIENCE)?;
    match pod::decide(&known, conf)? {
        Decision::Pass(_) => Ok(()),
        Decision::Redirect(_) if conf.linkerd.simulate => Ok(()),
        Decision::Redirect(rules) => netns::apply(&call.netns, &rules),
    }
}
