//! Directories on a real file system: reading, rejection, and the delay until a change is live.

use std::{fs, path::Path, time::Instant};

use destination_k8s::Kind;

use super::*;

const SPLIT: &str = "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: s, namespace: a}\n\
                     spec:\n  service: web\n  backends:\n  - {service: web-1, weight: WEIGHT}\n";

fn service(name: &str, port: u32) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: a}}\nspec:\n  ports:\n  - port: {port}\n---\n"
    )
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("written");
}

fn names(objects: &[Object]) -> Vec<String> {
    objects.iter().map(|object| object.object_ref().to_string()).collect()
}

async fn next(updates: &mut mpsc::Receiver<Update>) -> Update {
    let update = tokio::time::timeout(Duration::from_secs(3), updates.recv()).await;
    update.expect("an update in time").expect("the source is open")
}

#[test]
fn later_directories_win_and_duplicates_are_rejected() {
    let (one, two) = (
        tempfile::tempdir().expect("tempdir"),
        tempfile::tempdir().expect("tempdir"),
    );
    write(one.path(), "a.yaml", &(service("web", 80) + &service("other", 80)));
    write(one.path(), "b.yaml", &service("web", 81));
    write(one.path(), "notes.txt", "not a manifest: [");
    fs::create_dir(one.path().join("sub")).expect("folder");
    write(&one.path().join("sub"), "c.yml", &service("deep", 80));
    write(
        two.path(),
        "a.json",
        &serde_json::to_string(&load(&[one.path().into()]).objects[2]).expect("json"),
    );
    let loaded = load(&[one.path().into(), two.path().into()]);
    assert_eq!(
        names(&loaded.objects),
        ["Service a/deep", "Service a/other", "Service a/web"]
    );
    assert_eq!(loaded.refused.len(), 1);
    let shown = loaded.refused[0].to_string();
    assert!(
        shown.contains("b.yaml: Service a/web is already defined in") && shown.ends_with("a.yaml"),
        "{shown}"
    );
}

#[test]
fn rejects_invalid_input_by_file_and_line_and_keeps_the_rest() {
    let dir = tempfile::tempdir().expect("tempdir");
    write(dir.path(), "good.yaml", &service("web", 80));
    write(
        dir.path(),
        "kind.yaml",
        "apiVersion: v1\nkind: Teapot\nmetadata: {name: t}\n",
    );
    write(dir.path(), "port.yaml", &service("port", 70_000));
    write(dir.path(), "broken.yaml", "kind: Service\nmetadata: {name: [\n");
    write(dir.path(), "long.yaml", &service(&"x".repeat(64), 80));
    fs::write(dir.path().join("binary.yaml"), [0xff, 0xfe]).expect("written");
    let loaded = load(&[dir.path().into(), dir.path().join("absent")]);
    assert_eq!(names(&loaded.objects), ["Service a/web"]);
    let shown: Vec<String> = loaded.refused.iter().map(ToString::to_string).collect();
    let says = |file: &str, reason: &str| {
        assert!(
            shown.iter().any(|s| s.contains(file) && s.contains(reason)),
            "{file} {reason}: {shown:#?}"
        );
    };
    says("kind.yaml:2:", "the kind Teapot (v1) is not one");
    says("port.yaml:6:", "70000 is not a port");
    says("broken.yaml:", "invalid YAML");
    says("long.yaml:3:", "the limit is 63");
    says("binary.yaml:", "not UTF-8");
    says("absent:", "cannot read the directory");
    assert_eq!(shown.len(), 6);
}

#[tokio::test]
async fn changes_are_live_within_a_second() {
    let dir = tempfile::tempdir().expect("tempdir");
    write(dir.path(), "split.yaml", &SPLIT.replace("WEIGHT", "90"));
    let mut updates = watch(vec![dir.path().into()]).expect("watches");
    assert!(matches!(next(&mut updates).await, Update::Reset(objects) if objects.len() == 1));

    let start = Instant::now();
    write(dir.path(), "split.yaml", &SPLIT.replace("WEIGHT", "10"));
    let Update::Changed { applied, deleted } = next(&mut updates).await else {
        panic!("a change")
    };
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(
        (names(&applied), deleted),
        (vec!["TrafficSplit a/s".to_owned()], vec![])
    );

    // As editors do it: a new file, renamed over the old one.
    write(dir.path(), ".split.tmp", &SPLIT.replace("WEIGHT", "20"));
    fs::rename(dir.path().join(".split.tmp"), dir.path().join("split.yaml")).expect("renamed");
    assert!(matches!(next(&mut updates).await, Update::Changed { applied, .. } if applied.len() == 1));

    fs::remove_file(dir.path().join("split.yaml")).expect("removed");
    let Update::Changed { deleted, .. } = next(&mut updates).await else {
        panic!("a change")
    };
    assert_eq!(deleted, [ObjectRef::new(Kind::TrafficSplit, "a", "s")]);
}

#[tokio::test]
async fn keeps_the_last_valid_state_of_a_broken_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    write(dir.path(), "all.yaml", &(service("one", 80) + &service("two", 80)));
    let mut updates = watch(vec![dir.path().into()]).expect("watches");
    assert!(matches!(next(&mut updates).await, Update::Reset(objects) if objects.len() == 2));

    write(dir.path(), "all.yaml", "a: [\n");
    let Update::Refused(refused) = next(&mut updates).await else {
        panic!("a refusal, and nothing deleted")
    };
    assert!(refused[0].to_string().contains("all.yaml:"), "{refused:?}");

    // One object is rejected and stays; the other one is deleted.
    write(dir.path(), "all.yaml", &service("one", 70_000));
    let Update::Changed { applied, deleted } = next(&mut updates).await else {
        panic!("a change")
    };
    assert_eq!(
        (applied, deleted),
        (vec![], vec![ObjectRef::new(Kind::Service, "a", "two")])
    );
    assert!(matches!(next(&mut updates).await, Update::Refused(refused) if refused[0].line == Some(6)));
}

#[tokio::test]
async fn reports_files_that_recover_without_a_change() {
    let dir = tempfile::tempdir().expect("tempdir");
    write(dir.path(), "all.yaml", &service("one", 80));
    let mut updates = watch(vec![dir.path().into()]).expect("watches");
    assert!(matches!(next(&mut updates).await, Update::Reset(_)));
    write(dir.path(), "all.yaml", "a: [\n");
    assert!(matches!(next(&mut updates).await, Update::Refused(_)));
    write(dir.path(), "all.yaml", &service("one", 80));
    assert_eq!(
        next(&mut updates).await,
        Update::Recovered(vec![dir.path().join("all.yaml")])
    );
}

#[test]
fn rejects_a_missing_directory() {
    let error = watch(vec!["/nonexistent/dir".into()])
        .expect_err("rejected")
        .to_string();
    assert!(
        error.starts_with("cannot read the manifest directory /nonexistent/dir:"),
        "{error}"
    );
}
