//! The sidecar as a process on this machine, without a kubelet: literal environment, probes, and rules that exempt it
//! by mark.

use std::{path::Path, time::Duration};

use injector_redirect::Rules;
use proxy_model::env;
use serde_json::Value;

use crate::spec::{EnvValue, HttpProbe, Probes, SidecarSpec};

/// Place where a sidecar runs as a process.
#[derive(Copy, Clone)]
pub struct Host<'a> {
    /// Program of the sidecar.
    pub program: &'a str,
    /// Folder of the private key and CSR.
    pub identity_dir: &'a Path,
    /// Token of the workload.
    pub token: &'a Path,
    /// Mark of the sidecar's sockets, where it has no user of its own.
    pub mark: u32,
    /// Resolves references to the pod and to ConfigMaps.
    pub resolve: &'a dyn Fn(Reference<'_>) -> Option<String>,
    /// Variables that replace or extend those of the spec.
    pub env: &'a [(String, String)],
}

/// Reference in the environment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// Field of the pod (`metadata.name`, `metadata.labels['app']`).
    Field(&'a str),
    /// Key of a ConfigMap in the pod's namespace.
    ConfigMap {
        /// ConfigMap.
        name: &'a str,
        /// Key.
        key: &'a str,
    },
}

/// Sidecar as a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Command and arguments.
    pub argv: Vec<String>,
    /// Environment; `$(NAME)` is expanded.
    pub env: Vec<(String, String)>,
    /// Startup probe, if the application waits for it.
    pub startup: Option<HttpProbe>,
    /// Liveness probe.
    pub liveness: HttpProbe,
    /// Readiness probe.
    pub readiness: HttpProbe,
    /// The application starts once the sidecar is ready.
    pub awaits_ready: bool,
    /// Time that the sidecar keeps running after the stop signal, before its own drain.
    pub pre_stop_sleep: Duration,
    /// Redirection rules of the pod's network.
    pub rules: Rules,
}

/// Error of a variable without a value on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot resolve environment variable {name}: unsupported reference {reference}")]
pub struct Unresolved {
    /// Variable.
    pub name: String,
    /// Reference, as written.
    pub reference: String,
}

impl SidecarSpec {
    /// Renders the sidecar as a process.
    pub fn process(&self, host: &Host<'_>) -> Result<Process, Unresolved> {
        let Probes {
            startup,
            liveness,
            readiness,
        } = self.probes.clone();
        Ok(Process {
            argv: vec![host.program.to_owned()],
            env: self.process_env(host)?,
            startup,
            liveness,
            readiness,
            awaits_ready: self.awaits_ready,
            pre_stop_sleep: self.lifecycle.pre_stop_sleep.unwrap_or_default(),
            rules: Rules {
                proxy_uid: None,
                proxy_gid: None,
                mark: Some(host.mark),
                ..self.redirection.rules.clone()
            },
        })
    }

    fn process_env(&self, host: &Host<'_>) -> Result<Vec<(String, String)>, Unresolved> {
        let mut out: Vec<(String, String)> = Vec::with_capacity(self.env.len() + host.env.len());
        for (name, value) in &self.env {
            let name = name.as_str();
            let value = match name {
                env::IDENTITY_DIR => host.identity_dir.display().to_string(),
                env::IDENTITY_TOKEN_FILE => host.token.display().to_string(),
                _ => resolve(name, value, host, &out)?,
            };
            out.push((name.to_owned(), value));
        }
        let mark = (env::SOCKET_MARK.to_owned(), host.mark.to_string());
        for (name, value) in [mark].iter().chain(host.env) {
            match out.iter_mut().find(|(other, _)| other == name) {
                Some((_, other)) => other.clone_from(value),
                None => out.push((name.clone(), value.clone())),
            }
        }
        Ok(out)
    }
}

fn resolve(name: &str, value: &EnvValue, host: &Host<'_>, env: &[(String, String)]) -> Result<String, Unresolved> {
    let unresolved = |reference: String| Unresolved {
        name: name.to_owned(),
        reference,
    };
    match value {
        EnvValue::Literal(text) => Ok(expand(text, env)),
        EnvValue::Field(path) => {
            (host.resolve)(Reference::Field(path)).ok_or_else(|| unresolved(format!("fieldRef {path}")))
        }
        EnvValue::ConfigMap { name, key } => (host.resolve)(Reference::ConfigMap { name, key })
            .ok_or_else(|| unresolved(format!("configMapKeyRef {name}/{key}"))),
        EnvValue::Manifest(rest) => {
            manifest(rest, host, env).ok_or_else(|| unresolved(Value::from(rest.clone()).to_string()))
        }
    }
}

/// Resolves a variable in Kubernetes' own form.
fn manifest(rest: &serde_json::Map<String, Value>, host: &Host<'_>, env: &[(String, String)]) -> Option<String> {
    let Some(from) = rest.get("valueFrom").filter(|from| !from.is_null()) else {
        return match rest.get("value") {
            None | Some(Value::Null) => Some(String::new()),
            Some(value) => value.as_str().map(|text| expand(text, env)),
        };
    };
    if let Some(path) = from.get("fieldRef").and_then(|field| field.get("fieldPath")?.as_str()) {
        return (host.resolve)(Reference::Field(path));
    }
    let reference = from.get("configMapKeyRef")?;
    let (name, key) = (reference.get("name")?.as_str()?, reference.get("key")?.as_str()?);
    (host.resolve)(Reference::ConfigMap { name, key })
}

/// Expands Kubernetes' `$(NAME)`; unknown names stay as written, and `$$` is a dollar sign.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let known = name.and_then(|(name, after)| Some((&env.iter().find(|(key, _)| key == name)?.1, after)));
        if let Some((value, after)) = known {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
            rest = rest.strip_prefix('$').unwrap_or(rest);
        }
    }
    out.push_str(rest);
    out
}
