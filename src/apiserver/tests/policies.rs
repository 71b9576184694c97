//! Admission policies, and the rules of custom resources.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it proves in its name, and fails by panicking"
)]

mod common;

use std::time::Duration;

use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn policy(kind: &str, rest: &Value) -> Value {
    let mut spec = json!({"matchConstraints": {"resourceRules": [{"apiGroups": [""],
        "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]}});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": "p.example.com"}, "spec": spec})
}

fn binding(kind: &str, rest: &Value) -> Value {
    let mut spec = json!({"policyName": "p.example.com"});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": "b.example.com"}, "spec": spec})
}

fn map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn made(server: &common::Server, path: &str, object: &Value) -> Value {
    let (code, answer) = server.post(path, object).await;
    assert_eq!(code, 201, "{answer}");
    answer
}

fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_validating_policy_judges_with_parameters_and_variables() {
    let server = common::start().await;
    let rules = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "not-limits", "expression": "object.metadata.name != 'limits'"}],
        "variables": [
            {"name": "most", "expression": "int(params.data.most)"},
            {"name": "size", "expression": "has(object.data) ? object.data.size() : 0"},
        ],
        "validations": [
            {"expression": "variables.size <= variables.most", "reason": "Forbidden",
                "messageExpression": "'at most ' + string(variables.most)"},
            {"expression": "namespaceObject.metadata.name == request.namespace"},
            {"expression": "authorizer.requestResource.check('create').allowed()"},
        ],
    });
    let path = format!("{GROUP}/validatingadmissionpolicies");
    made(&server, &path, &policy("ValidatingAdmissionPolicy", &rules)).await;
    made(&server, MAPS, &map("limits", &json!({"most": "1"}))).await;
    let bound = binding(
        "ValidatingAdmissionPolicyBinding",
        &json!({"validationActions": ["Deny"],
        "paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}}),
    );
    made(&server, &format!("{GROUP}/validatingadmissionpolicybindings"), &bound).await;

    made(&server, MAPS, &map("small", &json!({"a": "1"}))).await;
    let (code, refused) = server.post(MAPS, &map("large", &json!({"a": "1", "b": "2"}))).await;
    assert_eq!((code, &refused["reason"]), (403, &json!("Forbidden")), "{refused}");
    assert_eq!(
        message(&refused),
        "configmaps \"large\" is forbidden: ValidatingAdmissionPolicy 'p.example.com' with binding \
         'b.example.com' denied request: at most 1"
    );
    // Parameters are read as they are now, and without them nothing passes.
    let patch = json!({"data": {"most": "2"}});
    server.patch(&format!("{MAPS}/limits"), "merge-patch+json", &patch).await;
    made(&server, MAPS, &map("large", &json!({"a": "1", "b": "2"}))).await;
    server.delete(&format!("{MAPS}/limits"), &json!({})).await;
    let (code, refused) = server.post(MAPS, &map("any", &json!({}))).await;
    assert_eq!(code, 422);
    assert!(message(&refused).contains("no params found for policy binding"), "{refused}");
}

#[tokio::test]
async fn policies_that_cannot_be_compiled_are_refused() {
    let server = common::start().await;
    let path = format!("{GROUP}/validatingadmissionpolicies");
    for (expression, why) in [
        ("object.", "compilation failed: ERROR: <input>:1:8: Syntax error"),
        ("variables.x", "undeclared reference to 'variables'"),
        ("object.spec.replicas", "must evaluate to bool but got dyn"),
        ("request.nope == 'x'", "undefined field 'nope'"),
    ] {
        let rules = json!({"validations": [{"expression": expression}]});
        let policy = policy("ValidatingAdmissionPolicy", &rules);
        let (code, refused) = server.post(&path, &policy).await;
        assert_eq!(code, 422, "{refused}");
        assert!(message(&refused).contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_mutating_policy_applies_and_patches() {
    let server = common::start().await;
    let rules = json!({"reinvocationPolicy": "Never", "mutations": [
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
            "Object{metadata: Object.metadata{labels: {'size': string(object.data.size())}}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression":
            "[JSONPatch{op: 'test', path: '/data/a', value: '1'}, JSONPatch{op: 'add', path: \
             '/metadata/labels/' + jsonpatch.escapeKey('a.io/x'), value: object.metadata.labels.size}]"}},
    ]});
    let path = format!("{GROUP}/mutatingadmissionpolicies");
    made(&server, &path, &policy("MutatingAdmissionPolicy", &rules)).await;
    let bound = binding("MutatingAdmissionPolicyBinding", &json!({}));
    made(&server, &format!("{GROUP}/mutatingadmissionpolicybindings"), &bound).await;
    let both = made(&server, MAPS, &map("both", &json!({"a": "1"}))).await;
    assert_eq!(both["metadata"]["labels"]["size"], "1", "{both}");
    assert_eq!(both["metadata"]["labels"]["a.io/x"], "1", "{both}");
    let one = made(&server, MAPS, &map("one", &json!({"a": "2"}))).await;
    assert_eq!(one["metadata"]["labels"]["size"], "1");
    assert_eq!(one["metadata"]["labels"].get("a.io/x"), None, "a test that fails is a condition");
    let (code, refused) = server
        .post(
            MAPS,
            &json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "none"}}),
        )
        .await;
    assert_eq!(code, 403, "{refused}");
    assert!(
        message(&refused).starts_with("policy 'p.example.com' with binding 'b.example.com' denied"),
        "{refused}"
    );
}

#[tokio::test]
async fn rules_of_custom_resources_are_checked_and_kept_to() {
    let server = common::start().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = |rule: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "boxes", "kind": "Box"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {
                "openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                    "x-kubernetes-validations": [{"rule": rule}],
                    "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
                }}}}}]}})
    };
    let (code, refused) = server.post(definitions, &definition("self.low <= self.hihg")).await;
    assert_eq!(code, 422, "{refused}");
    assert!(message(&refused).contains("undefined field 'hihg'"), "{refused}");
    assert!(
        message(&refused)
            .contains("openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"),
        "{refused}"
    );
    made(&server, definitions, &definition("self.low <= self.high")).await;
    let boxes = "/apis/example.com/v1/namespaces/default/boxes";
    let object = |low: i32| {
        json!({"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "a"},
            "spec": {"low": low, "high": 3}})
    };
    for _ in 0..1000 {
        if server.get(boxes).await.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (code, refused) = server.post(boxes, &object(4)).await;
    assert_eq!(code, 422);
    assert!(
        message(&refused).contains("spec: Invalid value: failed rule: self.low <= self.high")
            || message(&refused).contains("failed rule: self.low <= self.high"),
        "{refused}"
    );
    made(&server, boxes, &object(2)).await;
    let patch = json!({"spec": {"low": 9}});
    let (code, _) = server.patch(&format!("{boxes}/a"), "merge-patch+json", &patch).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn a_policys_types_are_looked_at() {
    let server = common::start().await;
    let path = format!("{GROUP}/validatingadmissionpolicies");
    let rules = json!({
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["deployments"], "operations": ["CREATE"]}]},
        "variables": [{"name": "count", "expression": "object.spec.replicas"}],
        "validations": [
            {"expression": "variables.count > 1 && object.spec.template.spec.containers.all(c, \
                c.name != '')"},
            {"expression": "object.spec.replicas > '1'", "messageExpression":
                "'got ' + object.spec.replicas"},
        ],
    });
    made(&server, &path, &policy("ValidatingAdmissionPolicy", &rules)).await;
    let mut status = Value::Null;
    for _ in 0..1000 {
        status = server.get(&format!("{path}/p.example.com")).await.1["status"].take();
        if status["observedGeneration"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let warnings = status["typeChecking"]["expressionWarnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{status}");
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[1].expression");
    let text = warnings[0]["warning"].as_str().unwrap();
    assert!(text.starts_with("apps/v1, Kind=Deployment: compilation failed: ERROR"), "{text}");
    assert!(text.contains("overload for '_>_' applied to '(int, string)'"), "{text}");
    assert_eq!(warnings[1]["fieldRef"], "spec.validations[1].messageExpression");
}
