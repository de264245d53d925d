//! Tests of `destination-source` with a real API server: watches, outages, reviews, leases, writes.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use destination_k8s::{Kind, Object, ObjectRef};
use destination_source::{
    Error, Update,
    cluster::{self, Access, CaBundleOf, Client, ClientOptions, Elector, LeaseOptions, Selection, Watch},
};
use serde_json::json;
use tests_cluster::{Cluster, say};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Timeout of short waits.
const SOON: Duration = Duration::from_secs(20);
const NAMESPACE: &str = "mesh-tests-source";

/// A single test, because all scenarios share a cluster, and one of them stops its API server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_source_on_a_real_cluster() {
    let Some(cluster) = Cluster::find() else { return };
    let options = ClientOptions {
        kubeconfig: Some(cluster.kubeconfig().to_owned()),
        ..ClientOptions::default()
    };
    let client = cluster::client(&options).await.expect("a client");
    say(&format!(
        "on {} at {}",
        client.version().await.expect("a version"),
        client.url()
    ));
    let _namespace = cluster.namespace(NAMESPACE);
    tokens_are_reviewed(&cluster, &client).await;
    reports_missing_permissions(&client, &options).await;
    a_lease_has_one_holder(&client).await;
    writes_are_stored(&cluster, &client).await;
    let mut state = objects_come_and_go(&cluster, &client).await;
    if cluster.is_ours_to_stop() {
        an_outage_loses_nothing(&cluster, &mut state).await;
    } else {
        say("SKIPPED: the API server of this cluster is not ours to stop");
    }
}

/// Objects that a reader of the updates knows.
struct Reader {
    watch: Watch,
    objects: BTreeMap<ObjectRef, Object>,
}

impl Reader {
    async fn new(client: &Client) -> Self {
        let watch = cluster::watch(client, cluster::FOR_DESTINATION.iter().copied().map(Selection::from));
        let mut reader = Self {
            watch,
            objects: BTreeMap::new(),
        };
        reader
            .until("everything is read", |reader| !reader.objects.is_empty())
            .await;
        assert!(reader.watch.states.is_synced());
        reader
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            let left = SOON.saturating_sub(begun.elapsed());
            let update = timeout(left, self.watch.updates.recv()).await;
            match update.unwrap_or_else(|_| panic!("in vain: {what}")).expect("open") {
                Update::Reset(objects) => {
                    self.objects = objects
                        .into_iter()
                        .map(|object| (object.object_ref(), object))
                        .collect();
                }
                Update::Changed { applied, deleted } => {
                    self.objects.retain(|key, _| !deleted.contains(key));
                    self.objects
                        .extend(applied.into_iter().map(|object| (object.object_ref(), object)));
                }
                Update::Refused(refused) => panic!("{refused:?}"),
                Update::Recovered(_) => {}
            }
        }
    }

    fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&ObjectRef::new(kind, NAMESPACE, name))
    }

    fn port(&self, name: &str) -> Option<i32> {
        match self.get(Kind::Service, name)? {
            Object::Service(service) => Some(service.spec.as_ref()?.ports.as_ref()?.first()?.port),
            _ => None,
        }
    }

    fn weights(&self, name: &str) -> Option<Vec<String>> {
        match self.get(Kind::TrafficSplit, name)? {
            Object::TrafficSplit(split) => Some(split.spec.backends.iter().map(|b| b.weight.to_string()).collect()),
            _ => None,
        }
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\nspec: {{ports: [{{port: {port}}}]}}\n"
    )
}

fn split(version: &str, weights: [&str; 2]) -> String {
    let [one, two] = weights;
    format!(
        "apiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\nmetadata: {{name: web, namespace: {NAMESPACE}}}\n\
         spec: {{service: web, backends: [{{service: web-1, weight: {one}}}, {{service: web-2, weight: {two}}}]}}\n"
    )
}

/// CRD of all versions with one schema and no conversion: a weight is a number or a quantity.
fn split_crd() -> String {
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "trafficsplits.split.smi-spec.io"},
        "spec": {"group": "split.smi-spec.io", "scope": "Namespaced",
            "names": {"kind": "TrafficSplit", "plural": "trafficsplits", "singular": "trafficsplit"},
            "versions": [version("v1alpha1", false), version("v1alpha2", false), version("v1alpha3", false),
                version("v1alpha4", true)]}})
    .to_string()
}

async fn objects_come_and_go(cluster: &Cluster, client: &Client) -> Reader {
    let had_crd = cluster
        .try_kubectl(&["get", "crd", "trafficsplits.split.smi-spec.io"])
        .is_ok();
    let mut reader = Reader::new(client).await;
    cluster.apply(&service("web", 80));
    reader
        .until("the Service is there", |r| r.port("web") == Some(80))
        .await;
    cluster.apply(&service("web", 81));
    reader.until("it has another port", |r| r.port("web") == Some(81)).await;
    cluster.kubectl(&["delete", "service", "web", "-n", NAMESPACE]);
    reader.until("it is gone", |r| r.port("web").is_none()).await;

    cluster.apply(&split_crd());
    cluster.kubectl(&[
        "wait",
        "--for=condition=established",
        "crd/trafficsplits.split.smi-spec.io",
    ]);
    let begun = Instant::now();
    cluster.apply(&split("v1alpha1", ["900m", "100m"]));
    let weights = |r: &Reader, expected: [&str; 2]| r.weights("web").is_some_and(|weights| weights == expected);
    reader
        .until("the split of v1alpha1 is there", |r| weights(r, ["900m", "100m"]))
        .await;
    let took = begun.elapsed();
    say(&format!("a split of a new CRD was there {took:?} after it was applied"));
    cluster.apply(&split("v1alpha4", ["70", "30"]));
    reader.until("it has other weights", |r| weights(r, ["70", "30"])).await;
    let status = json!({"seen": true});
    let object = ObjectRef::new(Kind::TrafficSplit, NAMESPACE, "web");
    let version = "split.smi-spec.io/v1alpha4";
    cluster::write_status(client, &object, version, &status)
        .await
        .expect("written");
    let seen = cluster.kubectl(&[
        "get",
        "trafficsplit",
        "web",
        "-n",
        NAMESPACE,
        "-o",
        "jsonpath={.status.seen}",
    ]);
    assert_eq!(seen, "true");
    if !had_crd {
        cluster.kubectl(&["delete", "crd", "trafficsplits.split.smi-spec.io"]);
        reader
            .until("the split went with its CRD", |r| r.weights("web").is_none())
            .await;
    }
    reader
}

async fn an_outage_loses_nothing(cluster: &Cluster, reader: &mut Reader) {
    cluster.apply(&service("stays", 80));
    cluster.apply(&service("goes", 80));
    reader
        .until("both are there", |r| {
            r.port("stays").is_some() && r.port("goes").is_some()
        })
        .await;
    let known = reader.objects.len();
    cluster.stop("apiserver");
    let nothing = timeout(Duration::from_secs(8), reader.watch.updates.recv()).await;
    assert!(nothing.is_err(), "an outage changed something: {nothing:?}");
    assert!(reader.watch.states.away().is_some());
    assert_eq!(reader.objects.len(), known);
    cluster.start("apiserver");
    let begun = Instant::now();
    cluster.kubectl(&["delete", "service", "goes", "-n", NAMESPACE]);
    cluster.apply(&service("stays", 81));
    reader
        .until("both changes are there", |r| {
            r.port("goes").is_none() && r.port("stays") == Some(81)
        })
        .await;
    let took = begun.elapsed();
    say(&format!(
        "after an outage, changes were there {took:?} after they were made"
    ));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        reader.watch.states.kinds().iter().all(|kind| kind.synced),
        "{:?}",
        reader.watch.states.kinds()
    );
}

async fn tokens_are_reviewed(cluster: &Cluster, client: &Client) {
    let audience = "identity.l5d.io";
    let made = |audience: &[&str]| {
        let args = [&["create", "token", "default", "-n", NAMESPACE], audience].concat();
        cluster.kubectl(&args).trim().to_owned()
    };
    // A controller creates the account soon after its namespace.
    tests_cluster::wait_for("the account is there", || {
        cluster
            .try_kubectl(&["get", "serviceaccount", "default", "-n", NAMESPACE])
            .is_ok()
    });
    let ours = made(&["--audience", audience]);
    let user = format!("system:serviceaccount:{NAMESPACE}:default");
    let reviewed = cluster::token_review(client, &ours, &[audience])
        .await
        .expect("reviewed");
    assert!(reviewed.authenticated && reviewed.user == user, "{reviewed:?}");
    assert_eq!(reviewed.audiences, [audience]);
    let plain = made(&[]);
    let for_others = cluster::token_review(client, &plain, &[audience])
        .await
        .expect("reviewed");
    let error = for_others.error.expect("a reason");
    assert!(
        !for_others.authenticated && error.contains("token audiences"),
        "{error}"
    );
    let own = cluster::token_review(client, &plain, &[]).await.expect("reviewed");
    assert!(own.authenticated && own.user == user, "{own:?}");
    let garbage = cluster::token_review(client, "x.y.z", &[audience])
        .await
        .expect("reviewed");
    assert!(!garbage.authenticated && garbage.error.is_some(), "{garbage:?}");
}

async fn reports_missing_permissions(client: &Client, options: &ClientOptions) {
    let pods = Access {
        verb: "list".to_owned(),
        resource: "pods".to_owned(),
        ..Access::default()
    };
    let decided = cluster::self_subject_access_review(client, &pods)
        .await
        .expect("decided");
    assert!(decided.allowed, "{decided:?}");
    let user = format!("system:serviceaccount:{NAMESPACE}:default");
    let subject = cluster::Subject {
        name: user.clone(),
        ..cluster::Subject::default()
    };
    let decided = cluster::subject_access_review(client, &subject, &pods)
        .await
        .expect("decided");
    assert!(!decided.allowed, "{decided:?}");
    let nobody = ClientOptions {
        impersonate: Some(user.clone()),
        ..options.clone()
    };
    let nobody = cluster::client(&nobody).await.expect("a client");
    let refused = cluster::token_review(&nobody, "t", &[]).await.expect_err("no right");
    assert!(matches!(refused, Error::Forbidden { .. }), "{refused}");
    assert!(refused.to_string().contains(&user), "{refused}");
    let watch = cluster::watch(&nobody, [Selection::from(Kind::Pod)]);
    sleep(Duration::from_millis(500)).await;
    let pods = watch.states.kinds().remove(0);
    let error = pods.error.expect("a reason");
    assert!(
        !pods.synced && error.starts_with("permission denied: cannot list pods"),
        "{error}"
    );
}

async fn a_lease_has_one_holder(client: &Client) {
    let elector = |holder: &str| {
        let options = LeaseOptions {
            duration: Duration::from_secs(3),
            renew: Duration::from_secs(1),
            ..LeaseOptions::new(NAMESPACE, "writer", holder)
        };
        let (elector, leads) = Elector::new(client, options);
        let stop = CancellationToken::new();
        (leads, stop.clone(), tokio::spawn(elector.run(stop)))
    };
    let (mut one, stop_one, ended) = elector("one");
    timeout(SOON, one.wait_for(|leads| *leads))
        .await
        .expect("in time")
        .expect("runs");
    let (mut two, stop_two, _two) = elector("two");
    sleep(Duration::from_secs(4)).await;
    assert!(*one.borrow() && !*two.borrow(), "two holders, or the first lost it");
    stop_one.cancel();
    ended.await.expect("ends");
    let begun = Instant::now();
    timeout(SOON, two.wait_for(|leads| *leads))
        .await
        .expect("in time")
        .expect("runs");
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "a lease that is given back is free at once"
    );
    stop_two.cancel();
}

async fn writes_are_stored(cluster: &Cluster, client: &Client) {
    let new = |value: &str| cluster::NewSecret {
        namespace: NAMESPACE.to_owned(),
        name: "tls".to_owned(),
        kind: "Opaque".to_owned(),
        data: BTreeMap::from([("a".to_owned(), value.as_bytes().to_vec())]),
        labels: BTreeMap::new(),
    };
    assert_eq!(
        cluster::read_secret(client, NAMESPACE, "tls").await.expect("read"),
        None
    );
    cluster::create_secret(client, new("1")).await.expect("made");
    let again = cluster::create_secret(client, new("2")).await;
    assert!(matches!(again, Err(Error::Conflict { .. })), "{again:?}");
    let data = BTreeMap::from([("b".to_owned(), b"2".to_vec())]);
    cluster::write_secret(client, NAMESPACE, "tls", data)
        .await
        .expect("written");
    let read = cluster::read_secret(client, NAMESPACE, "tls")
        .await
        .expect("read")
        .expect("there");
    assert_eq!(
        read,
        BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())])
    );

    let note = cluster::Note {
        of: k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            name: Some("tls".to_owned()),
            ..Default::default()
        },
        weight: cluster::Weight::Warning,
        reason: "Tested",
        text: "a test wrote this",
        by: "mesh-tests",
    };
    cluster::event(client, &note).await.expect("the Event is stored");
    let events = cluster.kubectl(&["get", "events", "-n", NAMESPACE, "--field-selector", "reason=Tested"]);
    assert!(events.contains("a test wrote this"), "{events}");

    let name = "mesh-tests-source";
    cluster.apply(&format!(
        "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {{name: {name}}}\n\
         webhooks:\n- name: a.example.com\n  sideEffects: None\n  admissionReviewVersions: [v1]\n  failurePolicy: Ignore\n  \
         clientConfig: {{service: {{name: none, namespace: {NAMESPACE}}}}}\n  objectSelector: {{matchLabels: {{never: ever}}}}\n  \
         rules: [{{apiGroups: [example.com], apiVersions: [v1], operations: [CREATE], resources: [things]}}]\n"
    ));
    let pem = cluster.kubectl(&[
        "get",
        "configmap",
        "kube-root-ca.crt",
        "-n",
        "kube-system",
        "-o",
        "jsonpath={.data.ca\\.crt}",
    ]);
    let write = || cluster::write_ca_bundle(client, CaBundleOf::Mutating, name, pem.as_bytes());
    assert!(write().await.expect("written"));
    assert!(!write().await.expect("the same"));
    cluster.kubectl(&["delete", "mutatingwebhookconfiguration", name]);
}
