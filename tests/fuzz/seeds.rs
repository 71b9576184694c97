//! Good objects, which all inputs begin as.

use serde_json::{Value, json};

/// Words that mean something somewhere.
pub const WORDS: &[&str] = &[
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "managedFields",
    "generateName",
    "spec",
    "status",
    "containers",
    "image",
    "env",
    "ports",
    "containerPort",
    "protocol",
    "TCP",
    "8080",
    "http",
    "replicas",
    "selector",
    "matchLabels",
    "template",
    "strategy",
    "$patch",
    "replace",
    "delete",
    "merge",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "apps/v1",
    "v1",
    "Pod",
    "f:metadata",
    "k:{\"name\":\"a\"}",
    "250m",
    "1Gi",
    "2026-01-02T03:04:05Z",
    "a",
    "default",
    "kubernetes.io/hostname",
    "NaN",
    "~1",
    "~0",
    "-",
    "\u{0}",
    "\u{fffd}",
    "",
];

pub fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "default", "labels": {"app": "a", "tier": "front"},
            "annotations": {"note": "x"}, "finalizers": ["example.com/hold"],
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
        },
        "spec": {
            "containers": [
                {"name": "a", "image": "i:1", "command": ["sh", "-c", "true"],
                 "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                 "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 53, "protocol": "UDP"}],
                 "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
                 "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
                 "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                {"name": "b", "image": "i:2"},
            ],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s", "items": [{"key": "k", "path": "p", "mode": 256}]}}],
            "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        },
        "status": {"phase": "Running", "podIPs": [{"ip": "10.42.0.2"}], "startTime": "2026-01-02T03:04:05Z"},
    })
}

pub fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "a"}},
            "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}, "type": "RollingUpdate"},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": pod()["spec"]},
        },
    })
}

pub fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "default"},
        "spec": {"selector": {"app": "a"}, "type": "NodePort",
                 "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}, {"name": "x", "port": 81}]},
    })
}

pub fn config_map() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"},
        "data": {"k": "v"}, "binaryData": {"b": "AAEC"},
    })
}

pub fn custom_resource_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ships.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "ships", "singular": "ship", "kind": "Ship", "shortNames": ["sh"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": {"type": "object", "properties": {
                    "sails": {"type": "integer", "minimum": 1, "default": 2},
                    "crew": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                             "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}}}},
                    "any": {"x-kubernetes-preserve-unknown-fields": true}}}}}},
                "subresources": {"status": {}}, "additionalPrinterColumns": [{"name": "Sails", "type": "integer", "jsonPath": ".spec.sails"}]}],
        },
    })
}

/// All of them.
pub fn objects() -> Vec<Value> {
    vec![pod(), deployment(), service(), config_map(), custom_resource_definition()]
}
