//! How objects go: finalizers, dependents, namespaces.

use serde_json::Value;

use crate::support::{LONG, Shared, Space, eventually};

static SHARED: Shared = Shared::control_plane();

/// A Deployment whose pods stay pending: there is no node.
const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i}]}
"#;

fn deployed(name: &'static str) -> Space {
    let space = SHARED.space(name);
    space.apply(DEPLOYMENT);
    eventually("its pod", LONG, || {
        let pods = space.names(&["pods"]);
        if pods.len() == 1 { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    space
}

fn gone(space: &Space, resource: &str) {
    eventually(&format!("the {resource} to go"), LONG, || {
        let left = space.names(&[resource]);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn an_object_with_a_finalizer_goes_when_the_finalizer_does() {
    let space = SHARED.space("finalizers");
    let held = r#"{"apiVersion":"v1","kind":"ConfigMap",
        "metadata":{"name":"held","finalizers":["example.com/hold"]}}"#;
    space.apply(held);
    space.kubectl(&["delete", "configmap", "held", "--wait=false"]).stdout();
    let found = space.get(&["configmap", "held"]);
    assert!(found["metadata"]["deletionTimestamp"].is_string(), "{found}");
    let patch = |finalizers: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{finalizers}}}}}"#);
        space.kubectl(&["patch", "configmap", "held", "--type=merge", "-p", &patch])
    };
    let refused = patch(r#"["example.com/hold","example.com/more"]"#).refused();
    assert!(refused.contains("no new finalizers can be added"), "{refused}");
    patch("null").stdout();
    space.kubectl(&["get", "configmap", "held"]).refused();
}

#[test]
fn dependents_follow_their_owner() {
    let space = deployed("background");
    space.kubectl(&["delete", "deployment", "web"]).stdout();
    gone(&space, "replicasets");
    gone(&space, "pods");
}

#[test]
fn orphaned_dependents_stay_and_name_no_owner() {
    let space = deployed("orphan");
    space.kubectl(&["delete", "deployment", "web", "--cascade=orphan"]).stdout();
    let sets = space.get(&["replicasets"]);
    assert_eq!(sets["items"].as_array().unwrap().len(), 1);
    assert_eq!(sets["items"][0]["metadata"]["ownerReferences"], Value::Null);
    assert_eq!(space.names(&["pods"]).len(), 1);
}

#[test]
fn an_owner_deleted_in_the_foreground_goes_last() {
    let space = deployed("foreground");
    let set = space.names(&["replicasets"]).remove(0);
    let hold = |finalizers: &str| {
        let patch = format!(r#"{{"metadata":{{"finalizers":{finalizers}}}}}"#);
        space.kubectl(&["patch", "replicaset", &set, "--type=merge", "-p", &patch]).stdout();
    };
    hold(r#"["example.com/hold"]"#);
    let delete = ["delete", "deployment", "web", "--cascade=foreground", "--wait=false"];
    space.kubectl(&delete).stdout();
    space.until(&format!("replicaset/{set}"), "/metadata/deletionTimestamp", Value::is_string);
    let owner = space.get(&["deployment", "web"]);
    assert_eq!(owner["metadata"]["finalizers"], serde_json::json!(["foregroundDeletion"]));
    // The set was deleted in the foreground too, so that it still waits for its pods.
    let remove = r#"[{"op":"test","path":"/metadata/finalizers/0","value":"example.com/hold"},
        {"op":"remove","path":"/metadata/finalizers/0"}]"#;
    space.kubectl(&["patch", "replicaset", &set, "--type=json", "-p", remove]).stdout();
    gone(&space, "deployments");
    assert!(space.names(&["replicasets,pods"]).is_empty());
}

#[test]
fn a_deleted_namespace_takes_everything_along_and_refuses_what_is_new() {
    let space = deployed("doomed");
    let held = r#"{"apiVersion":"v1","kind":"ConfigMap",
        "metadata":{"name":"held","finalizers":["example.com/hold"]}}"#;
    space.apply(held);
    space.kubectl(&["delete", "namespace", "doomed", "--wait=false"]).stdout();
    gone(&space, "deployments");
    gone(&space, "pods");
    let refused = space.kubectl(&["create", "configmap", "new"]).refused();
    assert!(refused.contains("because it is being terminated"), "{refused}");
    let patch =
        ["patch", "configmap", "held", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#];
    space.kubectl(&patch).stdout();
    eventually("the namespace to go", LONG, || {
        match space.cluster.kubectl(&["get", "namespace", "doomed"]).result() {
            Ok(there) => Err(there),
            Err(gone) if gone.contains("NotFound") => Ok(()),
            Err(other) => Err(other),
        }
    });
}

#[test]
fn a_deletion_meant_for_another_object_of_the_name_is_a_conflict() {
    let space = SHARED.space("preconditions");
    space.kubectl(&["create", "configmap", "one"]).stdout();
    let options = r#"{"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"other"}}"#;
    let arguments = ["-H", "Content-Type: application/json", "-d", options];
    let (code, answer) = space.request("DELETE", "/configmaps/one", &arguments);
    assert_eq!(code, 409, "{answer}");
    let (code, _) = space.request("DELETE", "/configmaps?labelSelector=none%3Dsuch", &[]);
    assert_eq!((code, space.names(&["configmaps"]).len()), (200, 2));
    let (code, _) = space.request("DELETE", "/configmaps?fieldSelector=metadata.name%3Done", &[]);
    assert_eq!((code, space.names(&["configmaps"])), (200, vec!["kube-root-ca.crt".to_owned()]));
}

#[test]
fn nothing_is_deleted_in_all_namespaces_at_once() {
    let space = SHARED.space("everywhere");
    space.kubectl(&["create", "configmap", "kept"]).stdout();
    let refused = space.kubectl(&["delete", "--raw", "/api/v1/configmaps"]).result();
    let said = refused.unwrap_err();
    assert!(said.contains("the server does not allow this method"), "{said}");
    space.kubectl(&["get", "configmap", "kept"]).stdout();
}
