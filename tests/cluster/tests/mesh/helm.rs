//! Charts by the real helm: lint, equality with `mesh install`, install, upgrade, uninstall.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use identity_x509::{Anchor, Issuer};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests_cluster::{
    bed::{Bed, Needs},
    load, wait_for,
};

/// Directories of the charts.
const CHARTS: [&str; 4] = [
    "charts/mesh-crds",
    "charts/mesh-control-plane",
    "charts/mesh-viz",
    "charts/mesh-cni",
];
/// Required values of the control plane's chart.
const REQUIRED: &str =
    "--set identityTrustAnchorsPEM=x --set identity.issuer.tls.crtPEM=x --set identity.issuer.tls.keyPEM=x";
/// Namespace of the mesh, different from the default so that every name is covered.
const NAMESPACE: &str = "helm-mesh";
/// Namespace of a workload.
const WORKLOAD: &str = "helm-workload";
/// Lifetime of the credentials.
const DAYS: Duration = Duration::from_secs(30 * 86_400);

/// Tests. Those that install need a cluster without a mesh, so they run after the README's uninstall.
pub(crate) fn tests(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![
        bed.test("helm::lint", Needs::Cluster, lint),
        bed.test("helm::same_as_mesh_install", Needs::Cluster, same_as_mesh_install),
        bed.test("helm::restricted", Needs::Cluster, restricted),
        bed.test("helm::lifecycle", Needs::Images, lifecycle),
    ]
}

/// Runs shell lines in the repository, which must succeed.
fn shell(bed: &Bed, lines: &str) -> String {
    bed.cluster().shell(lines).unwrap_or_else(|why| panic!("{why}"))
}

/// Runs a line that must fail; returns its error.
fn refused(bed: &Bed, line: &str) -> String {
    let said = bed.cluster().shell(line).expect_err("it is refused");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn lint(bed: &Bed) {
    for chart in CHARTS {
        let required = if chart.ends_with("control-plane") { REQUIRED } else { "" };
        shell(bed, &format!("helm lint --strict --quiet {chart} {required}"));
    }
}

/// Credentials in a directory, with flags for Helm and for `mesh install`.
struct Credentials {
    dir: PathBuf,
}

impl Credentials {
    fn make(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mesh-tests-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        let anchor = Anchor::generate("root.linkerd.cluster.local", DAYS).expect("an anchor");
        let issuer = Issuer::generate(&anchor, "identity.linkerd.cluster.local", DAYS).expect("an issuer");
        for (file, text) in [
            ("ca.crt", anchor.certificate_pem()),
            ("issuer.crt", issuer.certificate_pem()),
            ("issuer.key", issuer.key_pem()),
        ] {
            fs::write(dir.join(file), text).expect("written");
        }
        Self { dir }
    }

    fn helm(&self) -> String {
        let file = |name: &str| self.dir.join(name).display().to_string();
        format!(
            "--set-file identityTrustAnchorsPEM={},identity.issuer.tls.crtPEM={},identity.issuer.tls.keyPEM={}",
            file("ca.crt"),
            file("issuer.crt"),
            file("issuer.key")
        )
    }

    fn mesh(&self) -> String {
        let dir = self.dir.display();
        format!(
            "--identity-trust-anchors-file {dir}/ca.crt --identity-issuer-certificate-file {dir}/issuer.crt \
             --identity-issuer-key-file {dir}/issuer.key"
        )
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Objects by kind and name.
fn objects(text: &str) -> BTreeMap<String, Value> {
    destination_yaml::all(text)
        .expect("YAML")
        .into_iter()
        .filter(|object| !object.is_null())
        .map(|object| (format!("{} {}", object["kind"], object["metadata"]["name"]), object))
        .collect()
}

/// Removes what only the program adds: the namespace and its own configuration.
fn without_what_the_program_adds(mut objects: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    objects.retain(|_, object| object["kind"] != "Namespace");
    for object in objects
        .values_mut()
        .filter(|object| object["metadata"]["name"] == "linkerd-config")
    {
        object["data"].as_object_mut().map(|data| data.remove("given"));
        let values = object["data"]["values"].take();
        // Formatted differently, but equal.
        let values = destination_yaml::one(values.as_str().expect("text")).expect("YAML");
        object["data"]["values"] = values;
    }
    objects
}

fn same_as_mesh_install(bed: &Bed) {
    let credentials = Credentials::make("same");
    let file = |name: &str, text: &str| {
        let path = credentials.dir.join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let high = "charts/mesh-control-plane/values-ha.yaml".to_owned();
    let small = file(
        "small.yaml",
        "controllerReplicas: 2\nproxy: {logLevel: debug, resources: {cpu: {limit: 1}}}\n",
    );
    let other = file(
        "other.yaml",
        "podAnnotations: {a.b/c: d}\ntolerations: [{key: spot, operator: Exists}]\ncniEnabled: true\n",
    );
    let variants = [
        String::new(),
        format!("-f {high}"),
        format!("-f {small} -f {other} --set proxy.opaquePorts=25\\\\,26"),
    ];
    for flags in variants {
        let (helm, mesh) = (credentials.helm(), credentials.mesh());
        let theirs = shell(
            bed,
            &format!("helm template mesh charts/mesh-control-plane -n linkerd {helm} {flags}"),
        );
        let ours = shell(bed, &format!("mesh install --ignore-cluster {mesh} {flags}"));
        compare(&theirs, &ours, &flags);
    }
    let theirs = shell(bed, "helm template mesh charts/mesh-crds -n linkerd");
    compare(&theirs, &shell(bed, "mesh install --crds --ignore-cluster"), "--crds");
    for flags in [
        "",
        "--set proxyUID=5,repairController.enabled=false,skipSubnets=10.0.0.0/8",
    ] {
        let theirs = shell(
            bed,
            &format!("helm template cni charts/mesh-cni -n linkerd-cni {flags}"),
        );
        compare(
            &theirs,
            &shell(bed, &format!("mesh install-cni {flags}")),
            "install-cni",
        );
    }
}

fn compare(theirs: &str, ours: &str, flags: &str) {
    let (theirs, ours) = (
        without_what_the_program_adds(objects(theirs)),
        without_what_the_program_adds(objects(ours)),
    );
    let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs), "{flags}");
    for (name, object) in &ours {
        assert_eq!(object, &theirs[name], "{flags}: {name}");
    }
}

/// Response of the API server to the pods of a chart in a namespace of the level `restricted`.
fn judged(bed: &Bed, rendered: &str, namespace: &str) -> Result<String, String> {
    let mut pods = String::new();
    for object in objects(rendered)
        .values()
        .filter(|object| object["kind"] == "Deployment")
    {
        let template = &object["spec"]["template"];
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["name"] = object["metadata"]["name"].clone();
        pod["metadata"]["namespace"] = namespace.into();
        // The account does not exist.
        pod["spec"]["serviceAccountName"] = "default".into();
        pods += &format!("{pod}\n---\n");
    }
    assert!(!pods.is_empty(), "no pods are rendered");
    let file = std::env::temp_dir().join(format!("mesh-tests-pods-{}.yaml", std::process::id()));
    fs::write(&file, pods).expect("written");
    let path = file.display().to_string();
    let said = bed.cluster().try_kubectl(&["create", "--dry-run=server", "-f", &path]);
    let _ = fs::remove_file(file);
    said
}

/// All pods except those that redirect run at the level `restricted`.
fn restricted(bed: &Bed) {
    let cluster = bed.cluster();
    let namespace = cluster.namespace("helm-restricted");
    cluster.kubectl(&[
        "label",
        "namespace",
        &namespace.name,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    // The default service account is created a moment after the namespace.
    wait_for("the namespace has a service account", || {
        cluster
            .try_kubectl(&["-n", &namespace.name, "get", "serviceaccount", "default"])
            .is_ok()
    });
    let control_plane = format!("helm template mesh charts/mesh-control-plane -n helm-restricted {REQUIRED}");
    for rendered in [
        shell(bed, &format!("{control_plane} --set cniEnabled=true")),
        shell(bed, "helm template viz charts/mesh-viz -n helm-restricted"),
        shell(bed, "mesh demo --manifest"),
    ] {
        judged(bed, &rendered, &namespace.name).unwrap_or_else(|why| panic!("{why}"));
    }
    let said = judged(bed, &shell(bed, &control_plane), &namespace.name).expect_err("the init container redirects");
    let violations = said.matches("(container").count() + said.matches("(containers").count();
    let of_init = said.matches("(container \"linkerd-init\"").count();
    assert!(
        of_init > 0 && violations == of_init,
        "only what redirects needs more: {said}"
    );
}

fn lifecycle(bed: &Bed) {
    let cluster = bed.cluster();
    assert!(
        !there_is_a_mesh(bed),
        "there is a mesh on this cluster already; helm::lifecycle wants one without"
    );
    let credentials = Credentials::make("lifecycle");
    let begun = std::time::Instant::now();
    install(bed, &credentials);
    tests_cluster::say(&format!(
        "helm install: ready after {:.1} s",
        begun.elapsed().as_secs_f64()
    ));
    let roots = trust_roots(bed);
    join(bed);
    left_to_helm(bed);
    upgrade(bed, &roots);
    cluster.kubectl(&["delete", "namespace", WORKLOAD, "--wait"]);
    uninstall(bed);
    assert!(!there_is_a_mesh(bed));
    bed.forget();
}

fn there_is_a_mesh(bed: &Bed) -> bool {
    let kinds = "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,customresourcedefinitions";
    let found = bed
        .cluster()
        .kubectl(&["get", kinds, "-l", "linkerd.io/control-plane-ns", "-o", "name"]);
    !found.trim().is_empty()
}

fn install(bed: &Bed, credentials: &Credentials) {
    let missing = refused(
        bed,
        &format!("helm install mesh charts/mesh-control-plane -n {NAMESPACE} --create-namespace"),
    );
    assert!(
        missing.contains("is required") && missing.contains("mesh install generates one"),
        "{missing}"
    );
    let unknown = refused(
        bed,
        &format!(
            "helm template mesh charts/mesh-control-plane {} --set proxy.lgoLevel=x",
            credentials.helm()
        ),
    );
    assert!(unknown.contains("lgoLevel"), "{unknown}");
    shell(
        bed,
        &format!("helm install crds charts/mesh-crds -n {NAMESPACE} --create-namespace --wait"),
    );
    shell(
        bed,
        &format!(
            "helm install mesh charts/mesh-control-plane -n {NAMESPACE} {} --wait --timeout 120s",
            credentials.helm()
        ),
    );
    bed.ready(NAMESPACE).unwrap_or_else(|why| panic!("{why}"));
}

fn trust_roots(bed: &Bed) -> String {
    let path = "jsonpath={.data.ca-bundle\\.crt}";
    bed.cluster().kubectl(&[
        "-n",
        NAMESPACE,
        "get",
        "configmap",
        "linkerd-identity-trust-roots",
        "-o",
        path,
    ])
}

/// A workload joins this mesh.
fn join(bed: &Bed) {
    let cluster = bed.cluster();
    cluster.kubectl(&["create", "namespace", WORKLOAD]);
    cluster.kubectl(&["annotate", "namespace", WORKLOAD, "linkerd.io/inject=enabled"]);
    // The injector learns of the namespace a moment later, and its certificate becomes trusted.
    wait_for("a pod gets its sidecar", || {
        let _ = cluster.try_kubectl(&[
            "-n",
            WORKLOAD,
            "delete",
            "deployment",
            "server",
            "--ignore-not-found",
            "--wait",
        ]);
        cluster.apply(&load::server(WORKLOAD, "server", 1));
        std::thread::sleep(Duration::from_secs(1));
        let path = "jsonpath={.items[*].spec['initContainers','containers'][*].name}";
        cluster
            .kubectl(&["-n", WORKLOAD, "get", "pods", "-o", path])
            .contains("linkerd-proxy")
    });
    bed.ready(WORKLOAD).unwrap_or_else(|why| panic!("{why}"));
}

/// `mesh` refuses to change an installation of Helm.
fn left_to_helm(bed: &Bed) {
    for command in ["upgrade", "prune", "uninstall"] {
        let said = refused(bed, &format!("mesh {command} -L {NAMESPACE}"));
        assert!(said.contains("installed by Helm") && said.contains("helm "), "{said}");
    }
    let said = refused(bed, "mesh install");
    assert!(
        said.contains(&format!("by Helm in the namespace {NAMESPACE}")),
        "{said}"
    );
}

fn upgrade(bed: &Bed, roots: &str) {
    shell(
        bed,
        &format!(
            "helm upgrade mesh charts/mesh-control-plane -n {NAMESPACE} --reuse-values --set controllerLogLevel=debug --wait --timeout 120s"
        ),
    );
    bed.ready(NAMESPACE).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(trust_roots(bed), roots, "the trust anchors stay");
    let path =
        "jsonpath={.spec.template.spec.containers[?(@.name==\"destination\")].env[?(@.name==\"MESH_LOG\")].value}";
    let level = bed
        .cluster()
        .kubectl(&["-n", NAMESPACE, "get", "deployment", "linkerd-destination", "-o", path]);
    assert_eq!(level, "debug");
}

fn uninstall(bed: &Bed) {
    shell(
        bed,
        &format!("helm uninstall mesh -n {NAMESPACE} --wait; helm uninstall crds -n {NAMESPACE} --wait"),
    );
    bed.cluster().kubectl(&["delete", "namespace", NAMESPACE, "--wait"]);
}
