//! NodeRestriction: a kubelet writes its own node, lease and pods only. Reading is the node
//! authorizer's part.

mod pod_certificates;

use apimachinery::{GroupResource, Status};
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Operation, Plugin};
use crate::{
    authorization::node::{node_name, refers_to_config_maps, refers_to_secrets},
    kinds::{
        diff::diff,
        value::{Fields as _, same},
    },
};

pub(super) struct NodeRestriction;

const MIRROR: &str = "kubernetes.io/config.mirror";

#[async_trait]
impl Plugin for NodeRestriction {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.operation != Operation::Connect && node_name(request.user).is_some()
    }

    async fn mutate(&self, call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
        let request = call.request;
        let node = node_name(request.user).unwrap_or_default();
        let check = Check { call, request, node, object };
        if node.is_empty() {
            return check
                .no(&format!("could not determine node from user {:?}", request.user.name));
        }
        let sub = request.info.subresource.as_str();
        match (request.info.group.as_str(), request.info.resource.as_str()) {
            ("", "pods") => match sub {
                "" => check.pod(),
                "status" => check.pod_status(),
                "eviction" => check.eviction(),
                _ => check.no(&format!(
                    "unexpected pod subresource {sub:?}, only 'status' and 'eviction' are allowed"
                )),
            },
            ("", "nodes") => check.node(),
            ("", "persistentvolumeclaims") if sub == "status" => check.claim_status(),
            ("", "persistentvolumeclaims") => check.no("may only update PVC status"),
            ("", "serviceaccounts") if sub == "token" && request.creates() => check.token(),
            ("coordination.k8s.io", "leases") => check.lease(),
            ("storage.k8s.io", "csinodes") => check.csi_node(),
            ("resource.k8s.io", "resourceslices") => check.slice(),
            ("certificates.k8s.io", "certificatesigningrequests") if request.creates() => {
                check.signing_request()
            }
            ("certificates.k8s.io", "podcertificaterequests") => check.pod_certificate(),
            _ => Ok(()),
        }
    }
}

struct Check<'a> {
    call: &'a Call<'a>,
    request: &'a AdmissionRequest<'a>,
    node: &'a str,
    object: &'a Value,
}

impl Check<'_> {
    fn no(&self, why: &str) -> Result<(), Status> {
        Err(self.request.forbidden(self.object, why))
    }

    fn require(&self, condition: bool, why: impl FnOnce() -> String) -> Result<(), Status> {
        if condition { Ok(()) } else { self.no(&why()) }
    }

    fn unexpected(&self) -> Result<(), Status> {
        self.no(&format!("unexpected operation {:?}", self.request.operation.as_str()))
    }

    /// The stored pod of this name, and 404 without it.
    fn stored_pod(&self, name: &str) -> Result<Value, Status> {
        self.call
            .get("", "pods", &self.request.info.namespace, name)
            .ok_or_else(|| Status::not_found(&GroupResource::new("", "pods"), name))
    }

    fn pod(&self) -> Result<(), Status> {
        let node = self.node;
        match self.request.operation {
            Operation::Create => self.mirror_pod(),
            Operation::Delete => {
                let own = self.request.old()["spec"].text("nodeName") == node;
                self.require(own, || {
                    format!("node {node:?} can only delete pods with spec.nodeName set to itself")
                })
            }
            Operation::Update | Operation::Connect => self.no(&format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                self.request.operation.as_str()
            )),
        }
    }

    fn mirror_pod(&self) -> Result<(), Status> {
        let (node, pod) = (self.node, self.object);
        self.require(pod["metadata"]["annotations"].has(MIRROR), || {
            format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            )
        })?;
        self.require(pod["spec"].text("nodeName") == node, || {
            format!("node {node:?} can only create pods with spec.nodeName set to itself")
        })?;
        let owner = match pod["metadata"].list("ownerReferences") {
            [owner] => owner,
            [] => {
                return self.no(&format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            _ => {
                return self.no(&format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        let is_node = owner.text("apiVersion") == "v1"
            && owner.text("kind") == "Node"
            && owner.text("name") == node;
        self.require(is_node, || {
            format!("node {node:?} can only create pods with an owner reference set to itself")
        })?;
        self.require(owner.on("controller"), || {
            format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            )
        })?;
        self.require(!owner.on("blockOwnerDeletion"), || {
            format!("node {node:?} must not set blockOwnerDeletion on an owner reference")
        })?;
        let Some(stored) = self.call.server.get("", "nodes", "", node) else {
            return Err(Status::not_found(&GroupResource::new("", "nodes"), node));
        };
        self.require(*owner.text("uid") == *stored.uid, || {
            let uid = owner.text("uid");
            format!("node {node} UID mismatch: expected {uid} got {}", stored.uid)
        })?;
        match api_reference(&pod["spec"]) {
            Some(what) => {
                self.no(&format!("node {node:?} can not create pods that reference {what}"))
            }
            None => Ok(()),
        }
    }

    fn pod_status(&self) -> Result<(), Status> {
        let node = self.node;
        if !self.request.updates() {
            return self.unexpected();
        }
        let (old, new) = (self.request.old(), self.object);
        self.require(old["spec"].text("nodeName") == node, || {
            format!(
                "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
            )
        })?;
        self.require(same(&old["metadata"]["labels"], &new["metadata"]["labels"]), || {
            format!("node {node:?} cannot update labels through pod status")
        })?;
        for (field, what) in [
            ("resourceClaimStatuses", "resource claim statues"),
            ("extendedResourceClaimStatus", "extended resource claim status"),
            ("nodeAllocatableResourceClaimStatuses", "node allocatable resource claim statuses"),
        ] {
            self.require(same(&old["status"][field], &new["status"][field]), || {
                format!("node {node:?} cannot update {what}")
            })?;
        }
        Ok(())
    }

    fn eviction(&self) -> Result<(), Status> {
        let node = self.node;
        if !self.request.creates() {
            return self.no(&format!("unexpected operation {}", self.request.operation.as_str()));
        }
        let names = [self.request.info.name.as_str(), self.object["metadata"].text("name")];
        let Some(name) = names.into_iter().find(|name| !name.is_empty()) else {
            return self.no("could not determine pod from request data");
        };
        let pod = self.stored_pod(name)?;
        self.require(pod["spec"].text("nodeName") == node, || {
            format!("node {node} can only evict pods with spec.nodeName set to itself")
        })
    }

    fn claim_status(&self) -> Result<(), Status> {
        if !self.request.updates() {
            return self.unexpected();
        }
        let strip = |claim: &Value| {
            let mut claim = claim.clone();
            for field in ["resourceVersion", "managedFields"] {
                claim["metadata"][field] = Value::Null;
            }
            for field in
                ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"]
            {
                claim["status"][field] = Value::Null;
            }
            claim
        };
        let (old, new) = (strip(self.request.old()), strip(self.object));
        self.require(same(&old, &new), || {
            format!(
                "node {:?} is not allowed to update fields other than status.quantity and \
                 status.conditions: {}",
                self.node,
                diff("core.PersistentVolumeClaim", &old, &new)
            )
        })
    }

    fn node(&self) -> Result<(), Status> {
        let (node, new) = (self.node, self.object);
        let own = self.request.info.name.as_str();
        let asked = if own.is_empty() { new["metadata"].text("name") } else { own };
        self.require(asked == node, || {
            format!("node {node:?} is not allowed to modify node {asked:?}")
        })?;
        let source = &new["spec"]["configSource"];
        match self.request.operation {
            Operation::Create => {
                self.require(source.is_null(), || {
                    format!(
                        "node {node:?} is not allowed to create pods with a non-nil configSource"
                    )
                })?;
                let forbidden = forbidden_labels(new, &Value::Null);
                self.require(forbidden.is_empty(), || {
                    let labels = forbidden.join(", ");
                    format!("node {node:?} is not allowed to set the following labels: {labels}")
                })
            }
            Operation::Update => {
                let old = self.request.old();
                let kept = source.is_null() || same(source, &old["spec"]["configSource"]);
                self.require(kept, || {
                    format!(
                        "node {node:?} is not allowed to update configSource to a new non-nil \
                         configSource"
                    )
                })?;
                self.require(same(&new["spec"]["taints"], &old["spec"]["taints"]), || {
                    format!("node {node:?} is not allowed to modify taints")
                })?;
                let owners = |node: &Value| node["metadata"]["ownerReferences"].clone();
                self.require(same(&owners(new), &owners(old)), || {
                    format!("node {node:?} is not allowed to modify ownerReferences")
                })?;
                let forbidden = forbidden_labels(new, old);
                self.require(forbidden.is_empty(), || {
                    format!("is not allowed to modify labels: {}", forbidden.join(", "))
                })
            }
            Operation::Delete | Operation::Connect => Ok(()),
        }
    }

    /// A token for a pod that runs on the node, for an audience that the pod asks for.
    fn token(&self) -> Result<(), Status> {
        let reference = &self.object["spec"]["boundObjectRef"];
        let bound = reference.text("apiVersion") == "v1"
            && reference.text("kind") == "Pod"
            && !reference.text("name").is_empty();
        self.require(bound, || "node requested token not bound to a pod".to_owned())?;
        let uid = reference.text("uid");
        self.require(!uid.is_empty(), || {
            "node requested token with a pod binding without a uid".to_owned()
        })?;
        let pod = self.stored_pod(reference.text("name"))?;
        self.require(pod["metadata"].text("uid") == uid, || {
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            )
        })?;
        self.require(pod["spec"].text("nodeName") == self.node, || {
            "node requested token bound to a pod scheduled on a different node".to_owned()
        })?;
        let audiences = self.object["spec"].list("audiences");
        self.require(audiences.len() < 2, || "node may only request 0 or 1 audiences".to_owned())?;
        let audience = audiences.first().and_then(Value::as_str).unwrap_or_default();
        // Where the node asked for none, the server's own audience stands there by now.
        let own = audience == self.call.server.authenticator.tokens.issuer();
        if self.pod_wants(&pod, audience) || own && self.pod_wants(&pod, "") {
            return Ok(());
        }
        let info = self.request.info;
        let verb = "request-serviceaccounts-token-audience";
        self.require(self.call.may(verb, "", audience, &info.namespace, &info.name), || {
            format!(
                "{} is not authorized to request tokens for audience {audience:?}",
                self.request.user.name
            )
        })
    }

    fn pod_wants(&self, pod: &Value, audience: &str) -> bool {
        let namespace = &self.request.info.namespace;
        pod["spec"].list("volumes").iter().any(|volume| {
            let sources = volume["projected"].list("sources").iter();
            let mut tokens = sources.filter_map(|source| source.sub("serviceAccountToken"));
            if tokens.any(|token| token.text("audience") == audience) {
                return true;
            }
            let claim = match volume.sub("ephemeral") {
                Some(_) => format!("{}-{}", pod["metadata"].text("name"), volume.text("name")),
                None => volume["persistentVolumeClaim"].text("claimName").to_owned(),
            };
            let driver = match volume.sub("csi") {
                Some(csi) => csi.text("driver").to_owned(),
                None => self.driver_of(namespace, &claim).unwrap_or_default(),
            };
            let driver = self.call.get("storage.k8s.io", "csidrivers", "", &driver);
            driver.is_some_and(|driver| {
                let tokens = driver["spec"].list("tokenRequests");
                tokens.iter().any(|token| token.text("audience") == audience)
            })
        })
    }

    fn driver_of(&self, namespace: &str, claim: &str) -> Option<String> {
        let claim = self.call.get("", "persistentvolumeclaims", namespace, claim)?;
        let volume = claim["spec"].text("volumeName");
        let volume = self.call.get("", "persistentvolumes", "", volume)?;
        Some(volume["spec"]["csi"].opt_text("driver")?.to_owned())
    }

    /// The name of the object: of a creation it is in the body.
    fn name(&self) -> &str {
        match self.request.operation {
            Operation::Create => self.object["metadata"].text("name"),
            _ => &self.request.info.name,
        }
    }

    fn lease(&self) -> Result<(), Status> {
        self.require(self.request.info.namespace == "kube-node-lease", || {
            r#"can only access leases in the "kube-node-lease" system namespace"#.to_owned()
        })?;
        self.require(self.name() == self.node, || {
            "can only access node lease with the same name as the requesting node".to_owned()
        })
    }

    fn csi_node(&self) -> Result<(), Status> {
        self.require(self.name() == self.node, || {
            "can only access CSINode with the same name as the requesting node".to_owned()
        })
    }

    fn slice(&self) -> Result<(), Status> {
        let (slice, verb) = match self.request.operation {
            Operation::Create => (self.object, "create"),
            Operation::Delete => (self.request.old(), "delete"),
            Operation::Update | Operation::Connect => return Ok(()),
        };
        self.require(slice["spec"].text("nodeName") == self.node, || {
            format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")
        })
    }

    fn signing_request(&self) -> Result<(), Status> {
        let signer = self.object["spec"].text("signerName");
        let kubelet =
            ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
        if !kubelet.contains(&signer) {
            return Ok(());
        }
        let parsed = match super::certificates::parse(self.object) {
            Ok(parsed) => parsed,
            Err(why) => return self.no(&format!("unable to parse csr: {why}")),
        };
        let name = format!("system:node:{}", self.node);
        self.require(parsed.subject.common_name == name, || {
            format!("can only create a node CSR with CN={name}")
        })
    }
}

/// The labels that differ between two nodes and that a kubelet may not set on itself.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let (new, old) = (&new["metadata"]["labels"], &old["metadata"]["labels"]);
    let keys = |labels: &Value| -> Vec<String> {
        labels.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    };
    let mut all = [keys(new), keys(old)].concat();
    all.sort();
    all.dedup();
    all.retain(|key| new.sub(key) != old.sub(key) && is_forbidden_label(key));
    all
}

fn is_forbidden_label(key: &str) -> bool {
    let place = key.split_once('/').map_or("", |(place, _)| place);
    let within = |domain: &str| {
        place == domain || place.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let reserved = within("kubernetes.io") || within("k8s.io");
    let of_kubelet = matches!(
        key,
        "kubernetes.io/hostname"
            | "topology.kubernetes.io/zone"
            | "topology.kubernetes.io/region"
            | "failure-domain.beta.kubernetes.io/zone"
            | "failure-domain.beta.kubernetes.io/region"
            | "beta.kubernetes.io/instance-type"
            | "node.kubernetes.io/instance-type"
            | "kubernetes.io/os"
            | "kubernetes.io/arch"
            | "beta.kubernetes.io/os"
            | "beta.kubernetes.io/arch"
    );
    reserved && !of_kubelet && !within("kubelet.kubernetes.io") && !within("node.kubernetes.io")
}

/// What a pod refers to that is in the API, if anything.
fn api_reference(spec: &Value) -> Option<&'static str> {
    if !spec.text("serviceAccountName").is_empty() {
        return Some("serviceaccounts");
    }
    if refers_to_secrets(spec) {
        return Some("secrets");
    }
    if refers_to_config_maps(spec) {
        return Some("configmaps");
    }
    if !spec.list("resourceClaims").is_empty() {
        return Some("resourceclaims");
    }
    spec.list("volumes").iter().find_map(|volume| {
        let direct = [
            ("configMap", "configmaps (via configmap volumes)"),
            ("secret", "secrets (via secret volumes)"),
            ("csi", "csidrivers (via CSI volumes)"),
            ("glusterfs", "endpoints (via glusterFS volumes)"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
            ("azureFile", "secrets (via azureFile volumes)"),
        ];
        let projected = [
            ("configMap", "configmaps (via projected volumes)"),
            ("secret", "secrets (via projected volumes)"),
            ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("podCertificate", "podcertificates"),
        ];
        let find = |object: &Value, among: &[(&str, &'static str)]| {
            among.iter().find(|(field, _)| object.has(field)).map(|(_, what)| *what)
        };
        find(volume, &direct).or_else(|| {
            volume["projected"].list("sources").iter().find_map(|source| find(source, &projected))
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kubelets_set_their_own_labels_only() {
        for allowed in [
            "app",
            "example.com/role",
            "kubernetes.io/hostname",
            "node.kubernetes.io/anything",
            "foo.kubelet.kubernetes.io/x",
        ] {
            assert!(!is_forbidden_label(allowed), "{allowed}");
        }
        for forbidden in [
            "node-role.kubernetes.io/control-plane",
            "node-restriction.kubernetes.io/x",
            "a.node-restriction.kubernetes.io/x",
            "k8s.io/x",
        ] {
            assert!(is_forbidden_label(forbidden), "{forbidden}");
        }
        let node = |labels: Value| json!({"metadata": {"labels": labels}});
        let old = node(json!({"k8s.io/a": "1", "k8s.io/b": "1"}));
        assert_eq!(forbidden_labels(&node(json!({"k8s.io/a": "1", "x": "y"})), &old), ["k8s.io/b"]);
    }

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let found = |volume: Value| api_reference(&json!({"volumes": [volume]}));
        assert_eq!(found(json!({"hostPath": {"path": "/"}})), None);
        assert_eq!(
            found(
                json!({"projected": {"sources": [{"downwardAPI": {}}, {"serviceAccountToken": {}}]}})
            ),
            Some("serviceaccounts (via projected volumes)")
        );
        assert_eq!(found(json!({"configMap": {"name": "a"}})), Some("configmaps"));
    }
}
