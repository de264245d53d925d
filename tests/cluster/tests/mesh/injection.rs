//! Admission: the webhook has the result of `mesh inject --manual`, rejects invalid settings, reports skipped pods, and
//! is not needed for a pod to start.
//!
//! Most tests use the dry run of the API server, which calls the webhooks and stores nothing.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tests_cluster::{
    Cluster,
    bed::{Bed, Needs},
    load::container,
    readme, say, wait_at_most, wait_for,
};

/// Namespace with injection.
const ON: &str = "mesh-inject-on";
/// Namespace that the webhooks ignore.
const OFF: &str = "mesh-inject-off";
/// Manifests of the tests and of the demo, injected in both ways.
const MANIFESTS: [&str; 2] = ["tests/local/manifests/apps.yaml", "cli/src/demo/manifests/app.yaml"];
const CERTIFICATE: &str = "linkerd-proxy-injector-k8s-tls";
/// Longest time until the webhook matches its Secret.
const FOLLOWS: Duration = Duration::from_secs(30);

/// Tests.
pub(crate) fn tests(bed: &Arc<Bed>) -> Vec<Trial> {
    vec![
        bed.test("injection::webhook_and_manual_agree", Needs::Mesh, agree),
        bed.test("injection::rejects_invalid_manifests", Needs::Mesh, refused),
        bed.test("injection::reports_events", Needs::Mesh, told),
        bed.test("injection::the_certificate_is_kept", Needs::Mesh, certificate),
        bed.test("injection::pods_start_without_the_webhook", Needs::Mesh, down),
    ]
}

/// Both namespaces, deleted when dropped.
struct Bench<'a> {
    cluster: &'a Cluster,
}

impl<'a> Bench<'a> {
    fn new(bed: &'a Bed) -> Self {
        let bench = Self { cluster: bed.cluster() };
        bench.delete(true);
        let namespace = |name: &str, labels: Value, annotations: Value| {
            let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}).to_string()
        };
        let disabled = json!({"config.linkerd.io/admission-webhooks": "disabled"});
        bench.cluster.apply(&namespace(OFF, disabled, json!({})));
        let enabled = json!({"linkerd.io/inject": "enabled"});
        bench.cluster.apply(&namespace(ON, json!({}), enabled));
        for name in [ON, OFF] {
            wait_for(&format!("{name} has its ServiceAccount"), || {
                let args = ["-n", name, "get", "serviceaccount", "default"];
                bench.cluster.try_kubectl(&args).is_ok()
            });
        }
        // The watch of the injector learns of the namespace a moment later.
        wait_for("pods are injected", || {
            let tried = bench.dry_run(ON, &pod("probe", json!({})));
            tried.is_ok_and(|pod| has_sidecar(&pod))
        });
        bench
    }

    fn delete(&self, wait: bool) {
        let wait = format!("--wait={wait}");
        let args = ["delete", "namespace", ON, OFF, "--ignore-not-found", &wait];
        let _ = self.cluster.try_kubectl(&args);
    }

    /// Returns an object as the API server would store it.
    fn dry_run(&self, namespace: &str, object: &Value) -> Result<Value, String> {
        let file = written(object);
        let path = file.display().to_string();
        let args = ["-n", namespace, "create", "--dry-run=server", "-o", "json", "-f", &path];
        let made = self.cluster.try_kubectl(&args);
        let _ = fs::remove_file(file);
        made.map(|text| serde_json::from_str(&text).expect("kubectl prints JSON"))
    }

    /// Returns the output of kubectl for the dry run of an object, warnings included.
    fn said(&self, namespace: &str, object: &Value) -> String {
        let file = written(object);
        let line = format!(
            "kubectl -n {namespace} create --dry-run=server -f {} 2>&1 || true",
            file.display()
        );
        let said = self.cluster.shell(&line);
        let _ = fs::remove_file(file);
        said.expect("a shell")
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        self.delete(false);
    }
}

fn written(object: &Value) -> PathBuf {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("mesh-injection-{}-{number}.json", std::process::id()));
    fs::write(&path, object.to_string()).expect("a file");
    path
}

fn pod(name: &str, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "localhost/none:1"}]}})
}

fn has_sidecar(pod: &Value) -> bool {
    let containers = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array().cloned());
    let mut containers = containers.into_iter().flatten().flatten();
    containers.any(|container| container["name"] == "linkerd-proxy")
}

fn agree(bed: &Bed) {
    let bench = Bench::new(bed);
    let mut compared = 0;
    for workload in workloads(&bench) {
        let resource = format!("{}/{}", workload["kind"], workload["metadata"]["name"]);
        accounts(&bench, &workload);
        let webhook = bench.dry_run(ON, &pod_of(&workload)).expect(&resource);
        let file = written(&workload);
        let manual = bench
            .cluster
            .mesh(&["inject", "--manual", "-o", "json", &file.display().to_string()])
            .expect(&resource);
        let _ = fs::remove_file(file);
        let manual: Value = serde_json::from_str(&manual).expect("one object");
        let manual = bench.dry_run(OFF, &pod_of(&manual)).expect(&resource);
        assert!(has_sidecar(&webhook), "{resource} is not injected");
        let (webhook, manual) = (plain(webhook), plain(manual));
        assert_eq!(
            differences(&webhook, &manual, ""),
            [""; 0],
            "{resource}: webhook, manual"
        );
        compared += 1;
    }
    assert!(compared >= 12, "only {compared} workloads");
    say(&format!(
        "{compared} workloads come out of the webhook as of mesh inject --manual"
    ));
}

/// Workloads of all kinds in the namespace that the webhook ignores.
fn workloads(bench: &Bench<'_>) -> Vec<Value> {
    let mut found = vec![];
    for manifest in MANIFESTS {
        let path = readme::root().join(manifest).display().to_string();
        let args = ["create", "--dry-run=client", "-o", "json", "-f", &path];
        let text = bench.cluster.kubectl(&args);
        for object in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
            let object = object.expect("kubectl prints JSON");
            let items = object["items"].as_array().cloned().unwrap_or_else(|| vec![object]);
            found.extend(items.into_iter().filter(|object| template(object).is_some()));
        }
    }
    assert!(found.len() >= 4, "the manifests hold {} workloads", found.len());
    found.extend(every_kind());
    for workload in &mut found {
        workload["metadata"]["namespace"] = OFF.into();
        // The local mesh needs no image, a cluster does.
        let spec = &mut template_mut(workload)["spec"];
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                let object = container.as_object_mut().expect("a container");
                object.entry("image").or_insert_with(|| "localhost/none:1".into());
            }
        }
    }
    found
}

fn every_kind() -> Vec<Value> {
    let template = |annotations: Value, more: Value| {
        let mut spec = json!({"containers": [container(&["serve"])]});
        spec.as_object_mut()
            .expect("a spec")
            .extend(more.as_object().cloned().unwrap_or_default());
        json!({"metadata": {"labels": {"app": "x"}, "annotations": annotations}, "spec": spec})
    };
    let of = |version: &str, kind: &str, spec: Value| {
        let name = kind.to_lowercase();
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
    };
    let plain = || template(json!({}), json!({}));
    let selector = json!({"matchLabels": {"app": "x"}});
    let ends = template(json!({}), json!({"restartPolicy": "Never"}));
    let mut first = container(&["load"]);
    first["name"] = "first".into();
    let init = template(
        json!({"config.linkerd.io/skip-outbound-ports": "25,8000-8010", "config.linkerd.io/opaque-ports": "9000",
            "config.linkerd.io/proxy-cpu-request": "50m", "config.linkerd.io/proxy-log-level": "debug"}),
        json!({"initContainers": [first], "automountServiceAccountToken": false}),
    );
    let classic = template(
        json!({"config.linkerd.io/proxy-enable-native-sidecar": "false",
            "config.alpha.linkerd.io/proxy-wait-before-exit-seconds": "5"}),
        json!({}),
    );
    let deployment = |name: &str, template: Value| {
        let mut made = of(
            "apps/v1",
            "Deployment",
            json!({"selector": selector, "template": template}),
        );
        made["metadata"]["name"] = name.into();
        made
    };
    vec![
        deployment("init", init),
        deployment("classic", classic),
        of(
            "apps/v1",
            "StatefulSet",
            json!({"selector": selector, "serviceName": "x", "template": plain()}),
        ),
        of(
            "apps/v1",
            "DaemonSet",
            json!({"selector": selector, "template": plain()}),
        ),
        of("batch/v1", "Job", json!({"template": ends})),
        of(
            "batch/v1",
            "CronJob",
            json!({"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": ends}}}),
        ),
        {
            let mut pod = pod("alone", json!({"config.linkerd.io/proxy-await": "disabled"}));
            pod["metadata"]["labels"] = json!({"app": "x"});
            pod
        },
    ]
}

fn path(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => Some("/spec/template"),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn template(object: &Value) -> Option<&Value> {
    object.pointer(path(object["kind"].as_str()?)?)
}

fn template_mut(object: &mut Value) -> &mut Value {
    let path = path(object["kind"].as_str().unwrap_or_default()).expect("a workload");
    object.pointer_mut(path).expect("a template")
}

/// Creates the ServiceAccounts of its pods.
fn accounts(bench: &Bench<'_>, workload: &Value) {
    let account = template(workload).and_then(|template| template["spec"]["serviceAccountName"].as_str());
    for namespace in account.iter().flat_map(|_| [ON, OFF]) {
        let name = account.unwrap_or_default();
        let _ = bench
            .cluster
            .try_kubectl(&["-n", namespace, "create", "serviceaccount", name]);
    }
}

/// Returns the pod that a controller would create for a workload.
fn pod_of(workload: &Value) -> Value {
    let mut pod = template(workload).expect("a workload").clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&workload["kind"]), text(&workload["metadata"]["name"]));
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = format!("{name}-made").into();
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("namespace");
    }
    let owner = |version: &str, kind: &str, name: &str| {
        json!([{"apiVersion": version, "kind": kind, "name": name, "controller": true,
            "uid": "0b1f8f1e-58a5-4d3a-9f2d-8f0f6f6f7a11"}])
    };
    match kind.as_str() {
        "Pod" => {}
        "Deployment" => {
            pod["metadata"]["labels"]["pod-template-hash"] = "5d4f".into();
            pod["metadata"]["ownerReferences"] = owner("apps/v1", "ReplicaSet", &format!("{name}-5d4f"));
        }
        "CronJob" | "Job" => pod["metadata"]["ownerReferences"] = owner("batch/v1", "Job", &name),
        _ => pod["metadata"]["ownerReferences"] = owner("apps/v1", &kind, &name),
    }
    pod
}

/// Removes naturally different fields: names, times, the injector, and the random end of a volume's name.
fn plain(mut pod: Value) -> Value {
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "managedFields",
        "ownerReferences",
        "generation",
    ] {
        pod["metadata"].as_object_mut().expect("metadata").remove(key);
    }
    let marks = pod["metadata"]["annotations"].as_object_mut().expect("annotations");
    marks.remove("linkerd.io/created-by");
    // The Job of a CronJob does not exist here, so the webhook cannot know its owner.
    let labels = pod["metadata"]["labels"].as_object_mut().expect("labels");
    if labels.remove("linkerd.io/proxy-cronjob").is_some() {
        labels.insert("linkerd.io/proxy-job".to_owned(), "cronjob".into());
    }
    // The API server's own volume is before ours or after them.
    by_name(&mut pod["spec"]["volumes"]);
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            by_name(&mut container["volumeMounts"]);
        }
    }
    let mut text = pod.to_string().replace(OFF, ON);
    let volume = "kube-api-access-";
    let mut from = 0;
    while let Some(at) = text[from..].find(volume) {
        from += at + volume.len();
        let end = text[from..].find('"').unwrap_or_default();
        text.replace_range(from..from + end, "");
    }
    serde_json::from_str(&text).expect("JSON")
}

fn by_name(list: &mut Value) {
    let name = |element: &Value| element["name"].as_str().unwrap_or_default().to_owned();
    if let Some(list) = list.as_array_mut() {
        list.sort_by_key(name);
    }
}

/// Paths at which two values differ.
fn differences(a: &Value, b: &Value, at: &str) -> Vec<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let mut keys: Vec<_> = x.keys().chain(y.keys()).collect();
            keys.sort();
            keys.dedup();
            let of = |map: &serde_json::Map<String, Value>, key: &String| map.get(key).cloned().unwrap_or_default();
            keys.into_iter()
                .flat_map(|key| differences(&of(x, key), &of(y, key), &format!("{at}.{key}")))
                .collect()
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => x
            .iter()
            .zip(y)
            .enumerate()
            .flat_map(|(i, (x, y))| differences(x, y, &format!("{at}[{i}]")))
            .collect(),
        _ if a == b => vec![],
        _ => vec![format!("{at}: {a} and {b}")],
    }
}

fn refused(bed: &Bed) {
    let bench = Bench::new(bed);
    let server = |spec: Value| json!({"apiVersion": "policy.linkerd.io/v1beta3", "kind": "Server", "metadata": {"name": "web"}, "spec": spec});
    for (object, said) in [
        (
            server(json!({"podSelector": {}, "port": 0})),
            "spec.port: 0 is not a port from 1 to 65535",
        ),
        (
            server(json!({"port": 80})),
            "exactly one of podSelector and externalWorkloadSelector must be set",
        ),
        (
            server(json!({"podSelector": {}, "port": 80, "protocol": "HTTP/1"})),
            "unknown field \"spec.protocol\"",
        ),
        (
            json!({"apiVersion": "linkerd.io/v1alpha2", "kind": "ServiceProfile", "metadata": {"name": "web.a.svc.cluster.local"},
                "spec": {"routes": [{"name": "a", "condition": {"pathRegex": "(("}}]}}),
            "invalid condition of the route \"a\": ",
        ),
        (
            pod("wrong", json!({"config.linkerd.io/admin-port": "x"})),
            "invalid annotation config.linkerd.io/admin-port on the workload: \"x\"",
        ),
        (
            json!({"apiVersion": "security.linkerd.io/v1", "kind": "Server", "metadata": {"name": "web"}, "spec": {}}),
            "no matches for kind \"Server\" in version \"security.linkerd.io/v1\"",
        ),
    ] {
        let error = bench.dry_run(ON, &object).expect_err(said);
        assert!(error.contains(said), "{error}");
    }
    let mut deployment = every_kind().swap_remove(0);
    template_mut(&mut deployment)["metadata"]["annotations"] = json!({"config.linkerd.io/skip-ports": "1"});
    let said = bench.said(ON, &deployment);
    assert!(
        said.contains("Warning: unknown annotation config.linkerd.io/skip-ports; it has no effect"),
        "{said}"
    );
    assert!(said.contains("created (server dry run)"), "{said}");
}

fn told(bed: &Bed) {
    let bench = Bench::new(bed);
    let cluster = bench.cluster;
    let mut host = every_kind().remove(1);
    host["metadata"]["name"] = "host".into();
    template_mut(&mut host)["spec"]["hostNetwork"] = true.into();
    let mut meshed = every_kind().remove(0);
    meshed["metadata"]["name"] = "meshed".into();
    for mut deployment in [host, meshed] {
        deployment["metadata"]["namespace"] = ON.into();
        cluster.apply(&deployment.to_string());
    }
    for (name, reason, text) in [
        ("meshed", "Injected", "Linkerd sidecar proxy injected"),
        (
            "host",
            "InjectionSkipped",
            "Linkerd sidecar proxy injection skipped: hostNetwork is enabled",
        ),
    ] {
        let fields = format!("involvedObject.kind=Deployment,involvedObject.name={name},reason={reason}");
        let path = "jsonpath={.items[*].message}";
        wait_for(&format!("{name} has an Event with reason {reason}"), || {
            let events = cluster.try_kubectl(&["-n", ON, "get", "events", "--field-selector", &fields, "-o", path]);
            events.is_ok_and(|events| events.contains(text))
        });
        let described = cluster.kubectl(&["-n", ON, "describe", "deployment", name]);
        assert!(described.contains(text), "{described}");
    }
    let annotate = ["annotate", "namespace", ON, "config.linkerd.io/opaque-ports=9000,9001"];
    cluster.kubectl(&annotate);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"},
        "spec": {"ports": [{"name": "h", "port": 80}, {"name": "e", "port": 9000}]}});
    wait_for("a Service gets the opaque ports of its namespace", || {
        let service = bench.dry_run(ON, &service).expect("a Service");
        service["metadata"]["annotations"]["config.linkerd.io/opaque-ports"] == "9000,9001"
    });
}

/// A lost Secret is created again and trusted by callers.
fn certificate(bed: &Bed) {
    let bench = Bench::new(bed);
    let cluster = bench.cluster;
    let bundle = || {
        let kinds = [
            "mutatingwebhookconfiguration/linkerd-proxy-injector-webhook-config",
            "validatingwebhookconfiguration/linkerd-policy-validator-webhook-config",
        ];
        let path = "jsonpath={.webhooks[*].clientConfig.caBundle}";
        kinds.map(|kind| cluster.kubectl(&["get", kind, "-o", path]))
    };
    let secret = || {
        let path = "jsonpath={.data.ca\\.crt}";
        cluster
            .try_kubectl(&["-n", "linkerd", "get", "secret", CERTIFICATE, "-o", path])
            .unwrap_or_default()
    };
    let before = secret();
    assert!(!before.is_empty() && bundle().iter().all(|bundle| bundle.contains(&before)));
    cluster.kubectl(&["-n", "linkerd", "delete", "secret", CERTIFICATE]);
    wait_at_most(FOLLOWS, "the certificate is issued again and trusted", || {
        let now = secret();
        !now.is_empty() && now != before && bundle().iter().all(|bundle| bundle.contains(&now))
    });
    wait_at_most(FOLLOWS, "the new certificate is served", || {
        let tried = bench.dry_run(ON, &pod("again", json!({})));
        tried.is_ok_and(|pod| has_sidecar(&pod))
    });
}

/// With the default failure policy `Ignore`, a pod starts without a sidecar while the webhook is down.
fn down(bed: &Bed) {
    let bench = Bench::new(bed);
    let cluster = bench.cluster;
    let scale = |replicas: u32| {
        let replicas = format!("--replicas={replicas}");
        cluster.kubectl(&["-n", "linkerd", "scale", "deployment/linkerd-proxy-injector", &replicas]);
    };
    scale(0);
    wait_for("pods pass without a sidecar", || {
        let made = bench
            .dry_run(ON, &pod("meanwhile", json!({})))
            .expect("the failure policy lets it pass");
        !has_sidecar(&made)
    });
    let mut meanwhile = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "meanwhile", "namespace": ON},
        "spec": {"containers": [container(&["serve"])]}});
    meanwhile["spec"]["terminationGracePeriodSeconds"] = 1.into();
    cluster.apply(&meanwhile.to_string());
    let args = [
        "-n",
        ON,
        "wait",
        "--for=condition=Ready",
        "pod/meanwhile",
        "--timeout=60s",
    ];
    cluster.kubectl(&args);
    scale(1);
    wait_for("pods are injected again", || {
        bench
            .dry_run(ON, &pod("again", json!({})))
            .is_ok_and(|pod| has_sidecar(&pod))
    });
}
