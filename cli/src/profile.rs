//! `mesh profile`: generates a ServiceProfile: a commented template, or one with the routes of an OpenAPI document or a
//! protobuf file.

mod openapi;
mod proto;

use std::{io::Read as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use proxy_model::defaults::CLUSTER_DOMAIN;
use serde_json::{Value, json};

use crate::{
    kube::{self, ClusterFlags, NamespaceFlag},
    output::{self, DocumentFormat},
};

/// Arguments of `mesh profile`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["template", "open_api", "proto"]))]
pub(crate) struct ProfileArgs {
    /// Name of the Service.
    #[arg(value_name = "SERVICE")]
    service: String,

    /// Print a commented template with all fields.
    #[arg(long)]
    template: bool,

    /// Generate routes from an OpenAPI (Swagger) document in YAML or JSON; - reads standard input.
    #[arg(long, value_name = "FILE")]
    open_api: Option<PathBuf>,

    /// Generate routes from a protobuf file; - reads standard input.
    #[arg(long, value_name = "FILE")]
    proto: Option<PathBuf>,

    /// Assume the cluster domain cluster.local instead of querying the cluster.
    #[arg(long)]
    ignore_cluster: bool,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: DocumentFormat,

    #[command(flatten)]
    namespace: NamespaceFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Route of a profile.
#[derive(Clone, Debug, PartialEq)]
struct Route {
    name: String,
    method: String,
    path_regex: String,
    is_retryable: bool,
    timeout: Option<String>,
    /// Documented statuses, each with whether it is a failure.
    statuses: Vec<(u16, bool)>,
}

/// `mesh profile`
pub(crate) fn profile(args: &ProfileArgs) -> Result<ExitCode> {
    check_service(&args.service)?;
    let (domain, namespace) = if args.ignore_cluster {
        let namespace = args.namespace.namespace.clone().unwrap_or_else(|| "default".to_owned());
        (CLUSTER_DOMAIN.to_owned(), namespace)
    } else {
        kube::block_on(domain(args))
            .context("cannot determine the cluster domain (use --ignore-cluster to assume cluster.local)")?
    };
    let name = format!("{}.{namespace}.svc.{domain}", args.service);
    let routes = match (&args.open_api, &args.proto) {
        (Some(file), _) => openapi::routes(&read(file)?).with_context(|| file.display().to_string())?,
        (_, Some(file)) => proto::routes(&read(file)?).with_context(|| file.display().to_string())?,
        _ if args.output == DocumentFormat::Yaml => {
            output::print(&template(&name, &namespace))?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => vec![example()],
    };
    if routes.is_empty() {
        let file = args.open_api.as_ref().or(args.proto.as_ref());
        let file = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
        bail!("{file}no routes found");
    }
    let profile = render(&name, &namespace, &routes);
    output::print(&match args.output {
        DocumentFormat::Yaml => destination_yaml::write(&profile),
        DocumentFormat::Json => serde_json::to_string_pretty(&profile)? + "\n",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Rejects invalid Service names: the cluster would reject the profile.
fn check_service(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = !name.is_empty() && name.len() <= 63 && name.chars().all(plain);
    if !is_name || name.starts_with('-') || name.ends_with('-') {
        bail!(
            "invalid Service name {name:?}: expected lower-case letters, digits and dashes, without namespace and domain"
        );
    }
    Ok(())
}

/// Reads the cluster's domain from the control plane, and resolves the namespace.
async fn domain(args: &ProfileArgs) -> Result<(String, String)> {
    let client = args.cluster.connect().await?;
    let domain = kube::cluster_domain(&client, &args.cluster.linkerd_namespace).await?;
    Ok((domain, args.namespace.on(&client)))
}

fn read(file: &std::path::Path) -> Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
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
        r"### A ServiceProfile defines the routes of a Service, which of them may be retried, and their timeouts.
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata:
  name: {name}
  namespace: {namespace}
spec:
  # A request belongs to the first route whose condition matches.
  routes:
    # Name of the route in metrics and in `mesh viz routes`.
    - name: '/authors/{{id}}'
      # Conditions are method and pathRegex (of the whole path), combined by all, any and not.
      condition:
        method: POST
        pathRegex: '/authors/\d+'
      # Responses that count as failures; by default those with status 500 or higher.
      responseClasses:
        - condition:
            status:
              min: 500
              max: 599
          isFailure: true
      # Retry failed requests, within the budget.
      isRetryable: true
      # Timeout of a request, including retries.
      timeout: 250ms
  # Retries allowed relative to the requests, plus a minimum per second. A budget without retryable routes still applies.
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
    fn rejects_invalid_service_names() {
        check_service("web-2").expect("a name");
        for bad in ["", "web b", "Web", "web.vote", "-web", "web-"] {
            let error = check_service(bad).expect_err(bad).to_string();
            assert!(error.contains("invalid Service name"), "{error}");
        }
    }

    #[test]
    fn generates_valid_profiles() {
        let text = template("web.vote.svc.cluster.local", "vote");
        let value = destination_yaml::one(&text).expect("YAML");
        Object::from_value(value).expect("the template is valid");
        let made = render("web.vote.svc.cluster.local", "vote", &[example()]);
        Object::from_value(made).expect("valid");
    }
}
