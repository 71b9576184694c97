//! The node authorizer: a kubelet may read what the pods on its node refer to, and no more.
//!
//! Upstream keeps a graph of all pods and volumes. Here the question is answered from the store:
//! only pods of the asked namespace whose `spec.nodeName` is the node are looked at, and only those
//! whose bytes contain the asked name are parsed.

use apimachinery::{GroupResource, Key, Object};
use serde_json::Value;
use storage::{Collection, Durability, OpenError, Store};

use super::{Decision, rules::PolicyRule};
use crate::{
    kinds,
    request::{RequestInfo, UserInfo},
};

pub(super) struct NodeAuthorizer {
    /// What every node may do, for resources that are not divided up among nodes.
    rules: Vec<PolicyRule>,
    pods: Collection,
    volumes: Collection,
    attachments: Collection,
    slices: Collection,
    certificate_requests: Collection,
}

/// The name of the node that `user` is: `Some("")` for a node that does not say which.
pub fn node_name(user: &UserInfo) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.in_group("system:nodes").then_some(name)
}

fn no(reason: impl Into<String>) -> Decision {
    Decision { allowed: false, reason: reason.into() }
}

fn yes() -> Decision {
    Decision { allowed: true, reason: String::new() }
}

impl NodeAuthorizer {
    pub(super) async fn open(store: &Store, rules: Vec<PolicyRule>) -> Result<Self, OpenError> {
        let open = async |group: &str, resource: &str| {
            let resource = GroupResource::new(group, resource);
            let fields = kinds::hooks(&resource).fields();
            store.collection(&resource, fields, Durability::Durable).await
        };
        Ok(Self {
            rules,
            pods: open("", "pods").await?,
            volumes: open("", "persistentvolumes").await?,
            attachments: open("storage.k8s.io", "volumeattachments").await?,
            slices: open("resource.k8s.io", "resourceslices").await?,
            certificate_requests: open("certificates.k8s.io", "podcertificaterequests").await?,
        })
    }

    /// Decides for nodes; everyone else is nobody's business here.
    pub(super) fn decide(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        let Some(node) = node_name(user) else { return no("") };
        if node.is_empty() {
            return no(format!("unknown node for user {:?}", user.name));
        }
        if info.is_resource
            && let Some(decision) = self.divided(node, info)
        {
            return decision;
        }
        if self.rules.iter().any(|rule| rule.allows(info)) { yes() } else { no("") }
    }

    /// Decides on resources that are divided up among nodes.
    fn divided(&self, node: &str, info: &RequestInfo) -> Option<Decision> {
        let sub = info.subresource.as_str();
        let verb = info.verb.as_str();
        Some(match (info.group.as_str(), info.resource.as_str()) {
            ("", "secrets" | "configmaps") => self.read_namespaced(node, info),
            ("", "persistentvolumeclaims") if sub == "status" => match verb {
                "update" | "patch" => self.related(node, info),
                _ => no("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims" | "persistentvolumes")
            | ("resource.k8s.io", "resourceclaims")
            | ("storage.k8s.io", "volumeattachments") => self.get(node, info),
            ("", "serviceaccounts") => match (verb, sub) {
                ("get", "") => self.read_namespaced(node, info),
                ("create", "token") if !info.name.is_empty() => self.related(node, info),
                ("create", _) if !info.name.is_empty() => {
                    no("can only create token subresource of serviceaccount")
                }
                _ => no("can only create tokens for individual service accounts"),
            },
            ("coordination.k8s.io", "leases") => lease(node, info),
            ("storage.k8s.io", "csinodes") => csi_node(node, info),
            ("resource.k8s.io", "resourceslices") => self.slice(node, info),
            ("", "nodes") => own_node(node, info),
            ("", "pods") => self.pod(node, info),
            ("certificates.k8s.io", "podcertificaterequests") => match (verb, sub) {
                ("create", "") => yes(),
                ("get", "") => self.related(node, info),
                ("list" | "watch", "") if selects_node(info, "spec.nodeName", node) => yes(),
                ("list" | "watch", "") => {
                    no("can only list/watch podcertificaterequests with nodeName field selector")
                }
                (_, "") => no(format!("nodes may not {verb} podcertificaterequests")),
                _ => no("nodes may not access the status subresource of PodCertificateRequests"),
            },
            _ => return None,
        })
    }

    fn read_namespaced(&self, node: &str, info: &RequestInfo) -> Decision {
        match info.verb.as_str() {
            "get" | "list" | "watch" => {}
            _ => return no("can only read resources of this type"),
        }
        if !info.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if info.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, info)
    }

    fn get(&self, node: &str, info: &RequestInfo) -> Decision {
        if info.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !info.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(node, info)
    }

    fn pod(&self, node: &str, info: &RequestInfo) -> Decision {
        match (info.subresource.as_str(), info.verb.as_str()) {
            ("", "get") => self.get(node, info),
            ("", "list" | "watch") if selects_node(info, "spec.nodeName", node) => yes(),
            ("", "list" | "watch") if !info.name.is_empty() => self.related(node, info),
            ("", "list" | "watch") => {
                no("can only list/watch pods with spec.nodeName field selector")
            }
            // NodeRestriction narrows these down to the node's own pods.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                yes()
            }
            _ => no(""),
        }
    }

    fn slice(&self, node: &str, info: &RequestInfo) -> Decision {
        if !info.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match info.verb.as_str() {
            "create" => yes(),
            "get" | "update" | "patch" | "delete" => self.related(node, info),
            "watch" | "list" | "deletecollection" if selects_node(info, "spec.nodeName", node) => {
                yes()
            }
            "watch" | "list" | "deletecollection" => no(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    /// Whether the object has to do with a pod on the node.
    fn related(&self, node: &str, info: &RequestInfo) -> Decision {
        if info.name.is_empty() {
            return no("No Object name found");
        }
        let RequestInfo { namespace, name, .. } = info;
        let on_node = |collection: &Collection, path: &str| {
            let key = Key::new(namespace.as_str(), name.as_str());
            collection.get(&key).is_some_and(|object| is_on(collection, &object, path, node))
        };
        let found = match info.resource.as_str() {
            "pods" => on_node(&self.pods, "spec.nodeName"),
            "volumeattachments" => on_node(&self.attachments, "spec.nodeName"),
            "resourceslices" => on_node(&self.slices, "spec.nodeName"),
            "podcertificaterequests" => on_node(&self.certificate_requests, "spec.nodeName"),
            "persistentvolumes" => {
                self.volumes.get(&Key::new("", name.as_str())).is_some_and(|volume| {
                    claim_of(&volume).is_some_and(|claim| {
                        self.used_on(node, &claim.namespace, "persistentvolumeclaims", &claim.name)
                    })
                })
            }
            "secrets" => {
                self.used_on(node, namespace, "secrets", name)
                    || self.used_by_volume(node, namespace, name)
            }
            resource => self.used_on(node, namespace, resource, name),
        };
        match found {
            true => yes(),
            false => no(format!("no relationship found between node '{node}' and this object")),
        }
    }

    /// Whether a pod of `namespace` on the node refers to the object.
    fn used_on(&self, node: &str, namespace: &str, resource: &str, name: &str) -> bool {
        let snapshot = self.pods.snapshot();
        snapshot.range(namespace).any(|pod| {
            is_on(&self.pods, pod, "spec.nodeName", node)
                && std::str::from_utf8(&pod.body).is_ok_and(|body| mentions(body, name))
                && pod.value().is_ok_and(|pod| refers(&pod, resource, name))
        })
    }

    /// Whether a volume refers to the secret, and a claim of it is used by a pod on the node.
    fn used_by_volume(&self, node: &str, namespace: &str, secret: &str) -> bool {
        self.volumes.snapshot().iter().any(|volume| {
            std::str::from_utf8(&volume.body).is_ok_and(|body| body.contains(secret))
                && volume.value().is_ok_and(|value| {
                    let claim = value.pointer("/spec/claimRef/namespace").and_then(Value::as_str);
                    volume_secret(&value["spec"], claim.unwrap_or_default(), namespace, secret)
                })
                && claim_of(volume).is_some_and(|claim| {
                    self.used_on(node, &claim.namespace, "persistentvolumeclaims", &claim.name)
                })
        })
    }
}

/// Whether the field at `path` of the object is the node's name.
fn is_on(collection: &Collection, object: &Object, path: &str, node: &str) -> bool {
    match collection.fields().iter().position(|field| *field == path) {
        Some(at) => object.fields.get(at).is_some_and(|value| **value == *node),
        None => object.value().is_ok_and(|value| {
            let found = path.split('.').try_fold(&value, |at, step| at.get(step));
            found.and_then(Value::as_str) == Some(node)
        }),
    }
}

/// The claim that a volume is bound to.
fn claim_of(volume: &Object) -> Option<Key> {
    let value = volume.value().ok()?;
    let claim = value.pointer("/spec/claimRef")?;
    Some(Key::new(claim.get("namespace")?.as_str()?, claim.get("name")?.as_str()?))
}

/// Whether a pod's bytes may refer to `name`. Claims of ephemeral volumes are named after pod and
/// volume, so that only the volume's part stands in the bytes.
fn mentions(body: &str, name: &str) -> bool {
    body.contains(name) || body.contains("\"ephemeral\"")
}

/// Whether a pod refers to the object. A mirror pod, which a node makes itself, never does: it
/// must not give the node access to anything.
fn refers(pod: &Value, resource: &str, name: &str) -> bool {
    let annotations = pod.pointer("/metadata/annotations");
    if annotations.is_some_and(|all| all.get("kubernetes.io/config.mirror").is_some()) {
        return false;
    }
    let spec = &pod["spec"];
    match resource {
        "serviceaccounts" => spec["serviceAccountName"] == *name,
        "secrets" => {
            let pull = spec["imagePullSecrets"].as_array();
            pull.is_some_and(|list| list.iter().any(|secret| secret["name"] == *name))
                || names(spec, name, &SECRET_FIELDS)
        }
        "configmaps" => names(spec, name, &CONFIG_MAP_FIELDS),
        "persistentvolumeclaims" => {
            let pod_name =
                pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let volumes = spec["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
            volumes.iter().any(|volume| {
                let own = volume.get("ephemeral").and_then(|_| volume["name"].as_str());
                volume["persistentVolumeClaim"]["claimName"] == *name
                    || own.is_some_and(|volume| name == format!("{pod_name}-{volume}"))
            })
        }
        "resourceclaims" => {
            let named = |list: &Value, field: &str| {
                let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
                list.iter().any(|claim| claim[field] == *name)
            };
            named(&spec["resourceClaims"], "resourceClaimName")
                || named(&pod["status"]["resourceClaimStatuses"], "resourceClaimName")
                || pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"] == *name
        }
        _ => false,
    }
}

const SECRET_FIELDS: [&str; 4] = ["secretRef", "secretKeyRef", "secret", "nodePublishSecretRef"];
const CONFIG_MAP_FIELDS: [&str; 3] = ["configMapRef", "configMapKeyRef", "configMap"];

/// Whether a pod spec refers to any secret.
pub fn refers_to_secrets(spec: &Value) -> bool {
    let pull = spec["imagePullSecrets"].as_array();
    pull.is_some_and(|list| !list.is_empty())
        || mentions_any(spec, &SECRET_FIELDS)
        || mentions_any(&spec["volumes"], &["secretName"])
}

/// Whether a pod spec refers to any config map.
pub fn refers_to_config_maps(spec: &Value) -> bool {
    mentions_any(spec, &CONFIG_MAP_FIELDS)
}

fn mentions_any(value: &Value, fields: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, inner)| {
            (fields.contains(&key.as_str()) && !inner.is_null()) || mentions_any(inner, fields)
        }),
        Value::Array(list) => list.iter().any(|inner| mentions_any(inner, fields)),
        _ => false,
    }
}

/// Whether anywhere in `value` one of `fields` names the object: by `name` or, in the volume
/// sources that say so, by `secretName`.
fn names(value: &Value, name: &str, fields: &[&str]) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, inner)| {
            (fields.contains(&key.as_str()) && inner["name"] == *name)
                || (key == "secretName" && fields.contains(&"secret") && inner == name)
                || names(inner, name, fields)
        }),
        Value::Array(list) => list.iter().any(|inner| names(inner, name, fields)),
        _ => false,
    }
}

/// Whether a volume's source names the secret, in the namespace that it says or its claim's.
/// Secrets that only controllers use (`controller*SecretRef`) are not for kubelets.
fn volume_secret(spec: &Value, claim_namespace: &str, namespace: &str, name: &str) -> bool {
    let Some(spec) = spec.as_object() else { return false };
    let same = |reference: &Value| {
        let place = reference["namespace"].as_str().filter(|place| !place.is_empty());
        reference["name"] == *name && place.unwrap_or(claim_namespace) == namespace
    };
    spec.values().filter_map(Value::as_object).any(|source| {
        source.iter().any(|(key, reference)| match key.as_str() {
            "secretRef" | "nodePublishSecretRef" | "nodeStageSecretRef" | "nodeExpandSecretRef" => {
                same(reference)
            }
            "secretName" => {
                let place = source.get("secretNamespace").and_then(Value::as_str);
                reference == name && place.unwrap_or(claim_namespace) == namespace
            }
            _ => false,
        })
    })
}

fn lease(node: &str, info: &RequestInfo) -> Decision {
    match info.verb.as_str() {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a node lease"),
    }
    if info.namespace != "kube-node-lease" {
        return no(r#"can only access leases in the "kube-node-lease" system namespace"#);
    }
    // The name of a creation is in its body, which NodeRestriction looks at.
    if info.verb != "create" && info.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(node: &str, info: &RequestInfo) -> Decision {
    match (info.subresource.as_str(), info.verb.as_str()) {
        ("", "get" | "create" | "update" | "patch" | "delete") => {}
        ("", _) => return no("can only get, create, update, patch, or delete a CSINode"),
        ("status", _) => return no("CSINode status access requires CSIVolumeHealth feature"),
        _ => return no("cannot authorize CSINode subresources"),
    }
    if info.verb != "create" && info.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

fn own_node(node: &str, info: &RequestInfo) -> Decision {
    match (info.subresource.as_str(), info.verb.as_str()) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        ("", "get" | "list" | "watch") => match info.name.as_str() {
            "" => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            name if name == node => yes(),
            name => no(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        _ => no(""),
    }
}

/// Whether the request's field selector narrows it down to the node.
fn selects_node(info: &RequestInfo, field: &str, node: &str) -> bool {
    let Some(selector) = &info.selectors.1 else { return false };
    selector.split(',').any(|term| {
        let pair = term.split_once("==").or_else(|| term.split_once('='));
        pair.is_some_and(|(key, value)| key == field && value == node)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_refer_to_what_they_mount_and_read() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "sa",
                "imagePullSecrets": [{"name": "pull"}],
                "containers": [{
                    "env": [{"valueFrom": {"secretKeyRef": {"name": "env-secret", "key": "k"}}}],
                    "envFrom": [{"configMapRef": {"name": "env-map"}}],
                }],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "vol-secret"}},
                    {"name": "b", "projected": {"sources": [
                        {"configMap": {"name": "vol-map"}}, {"secret": {"name": "proj-secret"}}]}},
                    {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                    {"name": "d", "ephemeral": {}},
                ],
            },
        });
        for (resource, name) in [
            ("serviceaccounts", "sa"),
            ("secrets", "pull"),
            ("secrets", "env-secret"),
            ("secrets", "vol-secret"),
            ("secrets", "proj-secret"),
            ("configmaps", "env-map"),
            ("configmaps", "vol-map"),
            ("persistentvolumeclaims", "claim"),
            ("persistentvolumeclaims", "p-d"),
        ] {
            assert!(refers(&pod, resource, name), "{resource} {name}");
        }
        for (resource, name) in [
            ("secrets", "vol-map"),
            ("configmaps", "vol-secret"),
            ("persistentvolumeclaims", "p-c"),
        ] {
            assert!(!refers(&pod, resource, name), "{resource} {name}");
        }
        let mut mirror = pod;
        mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        assert!(!refers(&mirror, "secrets", "vol-secret"));
    }

    #[test]
    fn controller_secrets_of_volumes_stay_hidden() {
        let spec = json!({"claimRef": {"namespace": "n"}, "csi": {
            "nodeStageSecretRef": {"name": "stage", "namespace": "s"},
            "controllerPublishSecretRef": {"name": "control", "namespace": "s"},
        }});
        assert!(volume_secret(&spec, "n", "s", "stage"));
        assert!(!volume_secret(&spec, "n", "n", "stage"));
        assert!(!volume_secret(&spec, "n", "s", "control"));
    }
}
