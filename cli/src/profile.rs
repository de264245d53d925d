//! `mesh profile`: a ServiceProfile to begin with: commented, or with the routes of an OpenAPI document or of a protobuf
//! file.

mod openapi;
mod proto;

use std::{io::Read as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use destination_source::cluster::Resource;
use serde_json::{Value, json};

use crate::{
    kube::{self, Flags, Namespaced},
    output,
};

/// What `mesh profile` understands.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["template", "open_api", "proto"]))]
pub(crate) struct ProfileArgs {
    /// The Service.
    #[arg(value_name = "SERVICE")]
    service: String,

    /// With all fields, commented.
    #[arg(long)]
    template: bool,

    /// With the routes of an OpenAPI (Swagger) document, YAML or JSON; - reads standard input.
    #[arg(long, value_name = "FILE")]
    open_api: Option<PathBuf>,

    /// With the routes of a protobuf file; - reads standard input.
    #[arg(long, value_name = "FILE")]
    proto: Option<PathBuf>,

    /// Ask no cluster for its domain; it is cluster.local.
    #[arg(long)]
    ignore_cluster: bool,

    /// Form of the output.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    namespace: Namespaced,

    #[command(flatten)]
    cluster: Flags,
}

/// In which form.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// YAML.
    #[default]
    Yaml,
    /// JSON.
    Json,
}

/// One route of a profile.
#[derive(Clone, Debug, PartialEq)]
struct Route {
    name: String,
    method: String,
    path_regex: String,
    is_retryable: bool,
    timeout: Option<String>,
    /// Statuses that the document names, and whether each is a failure.
    statuses: Vec<(u16, bool)>,
}

/// `mesh profile`
pub(crate) fn profile(args: &ProfileArgs) -> Result<ExitCode> {
    check_service(&args.service)?;
    let (domain, namespace) = if args.ignore_cluster {
        let namespace = args.namespace.namespace.clone().unwrap_or_else(|| "default".to_owned());
        ("cluster.local".to_owned(), namespace)
    } else {
        kube::block_on(domain(args))
            .context("the cluster is asked for its domain; with --ignore-cluster it is cluster.local")?
    };
    let name = format!("{}.{namespace}.svc.{domain}", args.service);
    let routes = match (&args.open_api, &args.proto) {
        (Some(file), _) => openapi::routes(&read(file)?).with_context(|| file.display().to_string())?,
        (_, Some(file)) => proto::routes(&read(file)?).with_context(|| file.display().to_string())?,
        _ if args.output == Output::Yaml => {
            output::print(&template(&name, &namespace))?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => vec![example()],
    };
    if routes.is_empty() {
        let file = args.open_api.as_ref().or(args.proto.as_ref());
        let file = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
        bail!("{file}the document names no route");
    }
    let profile = render(&name, &namespace, &routes);
    output::print(&match args.output {
        Output::Yaml => serde_yaml_ng::to_string(&profile)?,
        Output::Json => serde_json::to_string_pretty(&profile)? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A name that no Service can have makes a profile that no cluster takes.
fn check_service(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = !name.is_empty() && name.len() <= 63 && name.chars().all(plain);
    if !is_name || name.starts_with('-') || name.ends_with('-') {
        bail!("{name:?} is no name of a Service: lower-case letters, digits and dashes, without namespace and domain");
    }
    Ok(())
}

/// The cluster's domain, as the control plane knows it, and the namespace that is meant.
async fn domain(args: &ProfileArgs) -> Result<(String, String)> {
    let client = args.cluster.connect().await?;
    let configs = Resource::new("v1", "configmaps").within(&args.cluster.linkerd_namespace);
    let config = configs.get(&client, "linkerd-config").await?;
    let values = config["data"]["values"].as_str().unwrap_or_default();
    let said = values.lines().find_map(|line| line.strip_prefix("clusterDomain:"));
    let said = said.map(|domain| domain.trim().trim_matches('"').to_owned());
    Ok((
        said.unwrap_or_else(|| "cluster.local".to_owned()),
        args.namespace.on(&client),
    ))
}

fn read(file: &std::path::Path) -> Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input cannot be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))
}

fn example() -> Route {
    Route {
        name: "/authors/{id}".to_owned(),
        method: "POST".to_owned(),
        path_regex: "/authors/\\d+".to_owned(),
        is_retryable: true,
        timeout: Some("250ms".to_owned()),
        statuses: vec![(500, true)],
    }
}

fn render(name: &str, namespace: &str, routes: &[Route]) -> Value {
    let routes: Vec<Value> = routes.iter().map(route).collect();
    json!({
        "apiVersion": "linkerd.io/v1alpha2",
        "kind": "ServiceProfile",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"routes": routes},
    })
}

fn route(route: &Route) -> Value {
    let mut value = json!({
        "name": route.name,
        "condition": {"method": route.method, "pathRegex": route.path_regex},
    });
    if route.is_retryable {
        value["isRetryable"] = true.into();
    }
    if let Some(timeout) = &route.timeout {
        value["timeout"] = timeout.as_str().into();
    }
    let class = |(status, is_failure): &(u16, bool)| {
        let mut class = json!({"condition": {"status": {"min": status, "max": status}}});
        if *is_failure {
            class["isFailure"] = true.into();
        }
        class
    };
    if !route.statuses.is_empty() {
        value["responseClasses"] = route.statuses.iter().map(class).collect();
    }
    value
}

fn template(name: &str, namespace: &str) -> String {
    format!(
        r"### A ServiceProfile says what the routes of a Service are, which of them may be retried, and how long they may take.
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata:
  name: {name}
  namespace: {namespace}
spec:
  # Requests belong to the first route whose condition holds.
  routes:
    # The route's name, in metrics and in `mesh viz routes`.
    - name: '/authors/{{id}}'
      # method and pathRegex (of the whole path) are matched; all, any and not combine conditions.
      condition:
        method: POST
        pathRegex: '/authors/\d+'
      # Which responses are failures; without this, statuses from 500.
      responseClasses:
        - condition:
            status:
              min: 500
              max: 599
          isFailure: true
      # Whether a request that failed may be sent again, within the budget.
      isRetryable: true
      # How long a request may take, retries included.
      timeout: 250ms
  # How many retries there may be beside the requests: a share, and a few a second in any case.
  retryBudget:
    retryRatio: 0.2
    minRetriesPerSecond: 10
    ttl: 10s
"
    )
}

#[cfg(test)]
mod tests {
    use destination_k8s::Object;

    use super::*;

    #[test]
    fn only_a_services_name_is_taken() {
        check_service("web-2").expect("a name");
        for bad in ["", "web b", "Web", "web.vote", "-web", "web-"] {
            let error = check_service(bad).expect_err(bad).to_string();
            assert!(error.contains("no name of a Service"), "{error}");
        }
    }

    #[test]
    fn what_is_printed_is_a_profile() {
        let text = template("web.vote.svc.cluster.local", "vote");
        let value: Value = serde_yaml_ng::from_str(&text).expect("YAML");
        Object::from_value(value).expect("the template is valid");
        let made = render("web.vote.svc.cluster.local", "vote", &[example()]);
        Object::from_value(made).expect("valid");
    }
}
