//! Tests of `inject` and `uninject` on texts: output, report and errors.

use clap::Parser;
use serde_json::{Value, json};

use super::{DocumentFormat, InjectArgs, input, report, rewrite, transform};

const WEB: &str = "# the web\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n  \
    template:\n    spec:\n      containers:\n      - {name: web, image: w, ports: [{containerPort: 8080}]}\n";

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: InjectArgs,
}

/// Returns text and report, or the error.
fn inject(text: &str, flags: &[&str]) -> Result<(String, String), String> {
    let run = || {
        let args = Command::parse_from(["inject", "-"].iter().chain(flags)).args;
        let transform = args.transform()?;
        let documents = input::documents("a.yaml", text)?;
        let (text, lines) = rewrite(&documents, args.output, &|value| transform.object(value))?;
        Ok::<_, anyhow::Error>((text, report::injected(&lines, args.verbose)))
    };
    run().map_err(|error| format!("{error:#}"))
}

fn uninject(text: &str) -> (String, String) {
    let documents = input::documents("a.yaml", text).expect("YAML");
    let (text, lines) = rewrite(&documents, DocumentFormat::Yaml, &|value| {
        Ok(transform::uninject(value))
    })
    .expect("never fails");
    (text, report::uninjected(&lines))
}

fn values(text: &str) -> Vec<Value> {
    input::documents("out", text)
        .expect("YAML")
        .into_iter()
        .map(|document| document.value)
        .collect()
}

fn anchors() -> (tempfile::NamedTempFile, String) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let anchor = identity_x509::Anchor::generate("root", std::time::Duration::from_hours(24)).expect("made");
    std::fs::write(&file, anchor.certificate_pem()).expect("writable");
    let path = file.path().display().to_string();
    (file, path)
}

#[test]
fn annotates_objects_by_default() {
    let (text, report) = inject(WEB, &["--proxy-log-level", "debug"]).expect("fine");
    assert_eq!(report, "\ndeployment \"web\" injected\n\n");
    let template = &values(&text)[0]["spec"]["template"];
    let annotations = json!({"linkerd.io/inject": "enabled", "config.linkerd.io/proxy-log-level": "debug"});
    assert_eq!(template["metadata"], json!({"annotations": annotations}));
    assert!(template["spec"].get("initContainers").is_none());
    assert_eq!(inject(&text, &[]).expect("fine").0, text, "once is enough");
}

#[test]
fn manual_mode_adds_a_sidecar_that_uninject_removes() {
    let (_file, path) = anchors();
    let flags = ["--manual", "--identity-trust-anchors-file", &path];
    let (text, report) = inject(WEB, &flags).expect("fine");
    assert_eq!(report, "\ndeployment \"web\" injected\n\n");
    let template = &values(&text)[0]["spec"]["template"];
    assert_eq!(template["spec"]["initContainers"][1]["name"], "linkerd-proxy");
    assert_eq!(template["metadata"]["labels"]["linkerd.io/proxy-deployment"], "web");
    assert_eq!(template["metadata"]["labels"]["linkerd.io/workload-ns"], "shop");
    assert_eq!(inject(&text, &flags).expect("fine").0, text, "twice is once");
    let (back, report) = uninject(&text);
    assert_eq!(values(&back), values(WEB));
    assert_eq!(report, "\ndeployment \"web\" uninjected\n\n");
    assert_eq!(uninject(WEB).1, "\ndeployment \"web\" skipped\n\n");
}

#[test]
fn transforms_lists_namespaces_services_and_others() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {kind: Deployment, metadata: {name: a}, spec: {template: {spec: \
        {containers: [{name: c}]}}}}\n- {kind: Service, metadata: {name: s}, spec: {}}\n---\nkind: Namespace\nmetadata: \
        {name: n}\n---\n# kept\nkind: ConfigMap\nmetadata: {name: m} # as it is\n---\n{a: 1}\n";
    let (text, report) = inject(list, &[]).expect("fine");
    let expected = "\ndeployment \"a\" injected\nservice \"s\" skipped\nnamespace \"n\" annotated\nconfigmap \"m\" skipped\n\
        document missing \"kind\" field, skipped\n\n";
    assert_eq!(report, expected);
    assert!(
        text.contains("# kept\nkind: ConfigMap\nmetadata: {name: m} # as it is\n---\n"),
        "{text}"
    );
    assert_eq!(values(&text)[0]["items"][1]["metadata"], json!({"name": "s"}));
    assert_eq!(
        values(&text)[1]["metadata"]["annotations"]["linkerd.io/inject"],
        "enabled"
    );
    let (text, report) = inject(list, &["--opaque-ports", "3306"]).expect("fine");
    assert!(report.starts_with("\ndeployment \"a\" annotated\ndeployment \"a\" injected\nservice \"s\" annotated\n"));
    let service = &values(&text)[0]["items"][1];
    assert_eq!(
        service["metadata"]["annotations"],
        json!({"config.linkerd.io/opaque-ports": "3306"})
    );
    let json = inject(list, &["-o", "json"]).expect("fine").0;
    assert_eq!(json.lines().count(), 4);
}

#[test]
fn reports_warnings_first() {
    let with = |line: &str| {
        WEB.replace(
            "    spec:\n      containers",
            &format!("{line}    spec:\n      containers"),
        )
    };
    let host = WEB.replace("      containers", "      hostNetwork: true\n      containers");
    let expected = "\n‼ \"hostNetwork: true\" detected in deployment/web\n‼ no supported objects found\n\n\
        deployment \"web\" skipped\n\n";
    assert_eq!(inject(&host, &[]).expect("fine").1, expected);
    let off = with("    metadata: {annotations: {linkerd.io/inject: disabled}}\n");
    let expected = "\n‼ \"linkerd.io/inject: disabled\" annotation set on deployment/web\n‼ no supported objects \
        found\n\ndeployment \"web\" skipped\n\n";
    assert_eq!(inject(&off, &[]).expect("fine").1, expected);
    let udp = WEB.replace("containerPort: 8080", "containerPort: 53, protocol: UDP");
    let expected = "\n‼ deployment/web uses \"protocol: UDP\"\n\ndeployment \"web\" injected\n\n";
    assert_eq!(inject(&udp, &[]).expect("fine").1, expected);
    let verbose = inject(WEB, &["--verbose"]).expect("fine").1;
    assert_eq!(verbose.matches('√').count(), 6, "{verbose}");
}

#[test]
fn rejects_invalid_input_in_one_sentence() {
    let wrong = WEB.replace(
        "    spec:\n      c",
        "    metadata: {annotations: {config.linkerd.io/proxy-uid: x}}\n    spec:\n      c",
    );
    let error = inject(&wrong, &[]).expect_err("no number");
    assert!(
        error.starts_with("Error transforming resources: a.yaml:2: failed to inject deployment/web: "),
        "{error}"
    );
    assert!(
        error.contains("config.linkerd.io/proxy-uid on the workload: \"x\""),
        "{error}"
    );
    let error = inject(WEB, &["--admin-port", "x"]).expect_err("no port");
    assert!(
        error.starts_with("invalid flag: invalid annotation config.linkerd.io/admin-port"),
        "{error}"
    );
    let error = inject(WEB, &["--manual", "--ignore-cluster"]).expect_err("no anchors");
    assert!(error.starts_with("--manual requires the trust anchors"), "{error}");
    let junk = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&junk, WEB).expect("writable");
    let path = junk.path().display().to_string();
    let error = inject(WEB, &["--manual", "--identity-trust-anchors-file", &path]).expect_err("no PEM");
    assert!(
        error.starts_with(&format!("invalid --identity-trust-anchors-file {path}: "))
            && error.contains("no certificate"),
        "{error}"
    );
    let error = inject(WEB, &["--manual", "--kubeconfig", "/nowhere"]).expect_err("no cluster");
    assert!(error.contains("kubeconfig /nowhere"), "{error}");
    let error = inject(&format!("{WEB}---\na: b\nc: [\n"), &[]).expect_err("no YAML");
    assert!(
        error.starts_with("a.yaml:1") && error.contains(": invalid YAML: "),
        "{error}"
    );
    let error = input::read("https://example.org/a.yaml")
        .expect_err("no network")
        .to_string();
    assert!(error.contains("URLs are not fetched"), "{error}");
    let error = format!("{:#}", input::read("/nowhere/at/all").expect_err("no file"));
    assert!(error.starts_with("cannot read /nowhere/at/all: "), "{error}");
    let own = WEB.replace(
        "    spec:\n      c",
        "    metadata: {annotations: {linkerd.io/inject: enabled}}\n    spec:\n      hostNetwork: true\n      c",
    );
    let error = inject(&own, &["--manual", "--values", "/dev/null"]).expect_err("no values");
    assert!(
        error.contains("--manual requires the trust anchors") || error.contains("invalid --values"),
        "{error}"
    );
}

#[test]
fn rejects_unknown_inject_values() {
    let error_of = |text: &str| inject(text, &[]).expect_err("unknown value");
    let web = WEB.replace(
        "    spec:\n      c",
        "    metadata: {annotations: {linkerd.io/inject: maybe}}\n    spec:\n      c",
    );
    assert!(
        error_of(&web).ends_with(
            "failed to inject deployment/web: invalid annotation linkerd.io/inject: \"maybe\": must be one of enabled, ingress, disabled"
        ),
        "{}",
        error_of(&web)
    );
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {linkerd.io/inject: true}}\n";
    assert!(
        error_of(namespace).contains("namespace/shop: invalid annotation linkerd.io/inject: true"),
        "{}",
        error_of(namespace)
    );
}
