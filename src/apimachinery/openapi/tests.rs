//! What kubectl reads of the documents, and what becomes of a custom resource. All of the documents
//! are compared with an API server's by `embedded/schema/compare-openapi`.

use serde_json::{Value, json};

use super::*;
use crate::schema::{Subresource, builtin_resources};

fn document(group: &str, version: &str) -> Value {
    let resources = builtin_resources();
    let kinds = resources.iter().filter(|r| r.group == group && r.version == version);
    let kinds: Vec<_> = kinds.map(|resource| Kind { resource, custom: None }).collect();
    serde_json::from_slice(&v3(group, version, &kinds)).unwrap()
}

#[test]
fn describes_built_in_kinds() {
    let apps = document("apps", "v1");
    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
    assert_eq!(deployment["required"], json!(["spec"]));
    let spec = &deployment["properties"]["spec"];
    let reference = "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec";
    assert_eq!(spec["allOf"], json!([{"$ref": reference}]));
    assert_eq!(spec["default"], json!({}));
    assert_eq!(spec["description"], "Specification of the desired behavior of the Deployment.");
    let ports = &schemas["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    // Upstream's code defaults this, and its OpenAPI does not say so.
    let policy = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["restartPolicy"];
    assert_eq!(policy["default"], Value::Null);
    assert_eq!(policy["enum"], json!(["Always", "Never", "OnFailure"]));
}

#[test]
fn refers_to_nothing_that_is_not_there() {
    for (group, version) in [("", "v1"), ("apps", "v1"), ("apiextensions.k8s.io", "v1")] {
        let document = document(group, version);
        let text = document.to_string();
        let prefix = "\"#/components/schemas/";
        for reference in text.split(prefix).skip(1).filter_map(|rest| rest.split('"').next()) {
            let target = &document["components"]["schemas"][reference];
            assert!(target.is_object(), "{reference} in {group}/{version}");
        }
    }
}

#[test]
fn patches_know_field_validation() {
    let core = document("", "v1");
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    let kind = json!({"group": "", "kind": "Pod", "version": "v1"});
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    let names: Vec<_> =
        patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].clone()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
}

fn cron_tab() -> (Resource, Value) {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let resource = Resource {
        group: "stable.example.com".to_owned(),
        version: "v1".to_owned(),
        plural: "crontabs".to_owned(),
        singular: "crontab".to_owned(),
        kind: "CronTab".to_owned(),
        list_kind: "CronTabList".to_owned(),
        namespaced: true,
        verbs: own(&["get", "list", "patch"]),
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: None,
        returns_deleted: false,
        subresources: vec![Subresource {
            name: "scale".to_owned(),
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
            verbs: own(&["get"]),
        }],
    };
    let schema = json!({
        "type": "object",
        "description": "A cron tab.",
        "required": ["spec"],
        "properties": {
            "metadata": {"type": "object", "properties": {"name": {"maxLength": 20, "type": "string"}}},
            "spec": {
                "type": "object",
                "required": ["cronSpec", "replicas"],
                "properties": {
                    "cronSpec": {"type": "string", "default": "ab", "pattern": "^a"},
                    "replicas": {"type": "integer", "nullable": true, "minimum": 1},
                    "port": {"x-kubernetes-int-or-string": true},
                    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "template": {
                        "type": "object",
                        "x-kubernetes-embedded-resource": true,
                        "properties": {"spec": {"type": "object"}},
                    },
                    "choice": {
                        "type": "object",
                        "oneOf": [{"required": ["a"]}],
                        "properties": {"a": {"type": "string"}},
                    },
                },
            },
        },
    });
    (resource, schema)
}

/// The expectations are those of Kubernetes v1.37's API server.
#[test]
fn describes_custom_resources() {
    let (resource, schema) = cron_tab();
    let kinds = [Kind { resource: &resource, custom: Some(&schema) }];
    let document: Value = serde_json::from_slice(&v3("stable.example.com", "v1", &kinds)).unwrap();
    let schemas = &document["components"]["schemas"];
    let cron_tab = &schemas["com.example.stable.v1.CronTab"];
    let metadata = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    assert_eq!(cron_tab["properties"]["metadata"]["allOf"], json!([{"$ref": metadata}]));
    let spec = &cron_tab["properties"]["spec"]["properties"];
    let types = json!([{"type": "integer"}, {"type": "string"}]);
    assert_eq!(spec["port"], json!({"anyOf": types, "x-kubernetes-int-or-string": true}));
    assert_eq!(spec["cronSpec"]["default"], "ab");
    assert_eq!(spec["template"]["required"], json!(["kind", "apiVersion"]));
    assert!(schemas["com.example.stable.v1.CronTabList"].is_object());
    assert!(schemas["io.k8s.api.autoscaling.v1.Scale"].is_object());
    let path = "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}";
    let id = &document["paths"][path]["patch"]["operationId"];
    assert_eq!(id, "patchStableExampleComV1NamespacedCronTab");

    let document: Value = serde_json::from_slice(&v2(&kinds)).unwrap();
    let spec = &document["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"];
    assert_eq!(spec["required"], json!(["cronSpec"]));
    let spec = &spec["properties"];
    assert_eq!(spec["cronSpec"], json!({"type": "string", "pattern": "^a"}));
    assert_eq!(spec["replicas"], json!({"minimum": 1}));
    assert_eq!(spec["port"], json!({"x-kubernetes-int-or-string": true}));
    assert_eq!(spec["open"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    let choice = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    assert_eq!(spec["choice"], choice);
}

#[test]
fn hashes_what_documents_are_made_of() {
    let (resource, schema) = cron_tab();
    let hash = |schema| hash(&[Kind { resource: &resource, custom: Some(schema) }]);
    assert_eq!(hash(&schema), hash(&schema));
    assert_ne!(hash(&schema), hash(&json!({"type": "object"})));
    let index = v3_index([("", "v1", "A".to_owned()), ("apps", "v1", "B".to_owned())].into_iter());
    assert_eq!(
        index,
        json!({"paths": {
            "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=A"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=B"},
        }})
    );
}
