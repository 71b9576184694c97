//! A kubelet asks for certificates of pods that run on its node and mount one, and for nothing else.

use apimachinery::Status;
use serde_json::Value;

use super::{Check, MIRROR};
use crate::kinds::value::Fields as _;

/// An error that may be over when this server has seen what others wrote.
fn later(why: String) -> Status {
    Status::failure(500, "", why)
}

impl Check<'_> {
    /// Checks a PodCertificateRequest.
    pub(super) fn pod_certificate(&self) -> Result<(), Status> {
        if !self.request.creates() {
            let operation = self.request.operation.as_str();
            return self.no(&format!("unexpected operation {operation}"));
        }
        let subresource = &self.request.info.subresource;
        self.require(subresource.is_empty(), || format!("unexpected subresource {subresource}"))?;
        let spec = &self.object["spec"];
        self.requesting_node(spec)?;
        let pod = self.requesting_pod(spec)?;
        self.requesting_account(spec, &pod)?;
        self.wanted_signer(spec, &pod)
    }

    /// An object that a request names.
    fn named(
        &self,
        resource: &str,
        what: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Value, Status> {
        self.call.get("", resource, namespace, name).ok_or_else(|| {
            // Upstream's listers know resources in the singular.
            let resource = resource.trim_end_matches('s');
            let full = match namespace {
                "" => name.to_owned(),
                namespace => format!("{namespace}/{name}"),
            };
            later(format!(
                "while retrieving {what} {full:?} named in the PodCertificateRequest: \
                 {resource} {name:?} not found"
            ))
        })
    }

    fn requesting_node(&self, spec: &Value) -> Result<(), Status> {
        let (name, uid) = (spec.text("nodeName"), spec.text("nodeUID"));
        self.require(name == self.node, || {
            format!(
                "PodCertificateRequest.Spec.NodeName={name:?}, which is not the requesting node {:?}",
                self.node
            )
        })?;
        let node = self.named("nodes", "node", "", name)?;
        let known = node["metadata"].text("uid");
        if known != uid {
            let pod = self.pod_name(spec);
            return Err(later(format!(
                "PodCertificateRequest for pod {pod:?} names node UID {uid:?}, inconsistent with \
                 the running node ({known:?})"
            )));
        }
        Ok(())
    }

    fn pod_name(&self, spec: &Value) -> String {
        format!("{}/{}", self.request.info.namespace, spec.text("podName"))
    }

    fn requesting_pod(&self, spec: &Value) -> Result<Value, Status> {
        let namespace = &self.request.info.namespace;
        let pod = self.named("pods", "pod", namespace, spec.text("podName"))?;
        let full = self.pod_name(spec);
        let (known, uid) = (pod["metadata"].text("uid"), spec.text("podUID"));
        if known != uid {
            return Err(later(format!(
                "PodCertificateRequest for pod {full:?} contains pod UID ({uid:?}) which differs \
                 from running pod {known:?}"
            )));
        }
        self.require(pod["spec"].text("nodeName") == self.node, || {
            format!(
                "pod {full:?} is not running on node {:?} named in the PodCertificateRequest",
                self.node
            )
        })?;
        let mirror = pod["metadata"]["annotations"].has(MIRROR);
        self.require(!mirror, || format!("pod {full:?} is a mirror pod"))?;
        Ok(pod)
    }

    fn requesting_account(&self, spec: &Value, pod: &Value) -> Result<(), Status> {
        let full = self.pod_name(spec);
        let (name, uid) = (spec.text("serviceAccountName"), spec.text("serviceAccountUID"));
        let of_pod = pod["spec"].text("serviceAccountName");
        self.require(name == of_pod, || {
            format!(
                "PodCertificateRequest for pod {full:?} contains serviceAccountName ({name:?}) that \
                 differs from running pod ({of_pod:?})"
            )
        })?;
        let namespace = &self.request.info.namespace;
        let account = self.named("serviceaccounts", "service account", namespace, name)?;
        let known = account["metadata"].text("uid");
        if known != uid {
            return Err(later(format!(
                "PodCertificateRequest for pod {full:?} names service account UID {uid:?}, which \
                 differs from the running service account ({known:?})"
            )));
        }
        Ok(())
    }

    /// The pod mounts a certificate of the signer, or somebody lets the node ask for it.
    fn wanted_signer(&self, spec: &Value, pod: &Value) -> Result<(), Status> {
        let signer = spec.text("signerName");
        let mounts = pod["spec"].list("volumes").iter().any(|volume| {
            volume["projected"].list("sources").iter().any(|source| {
                source.has("podCertificate")
                    && source["podCertificate"].text("signerName") == signer
            })
        });
        // RBAC knows no slashes in resources.
        let resource = signer.replace('/', ":");
        let verb = "request-serviceaccounts-podcertificate-signer";
        let namespace = &self.request.info.namespace;
        let account = spec.text("serviceAccountName");
        let allowed = || self.call.may(verb, "certificates.k8s.io", &resource, namespace, account);
        self.require(mounts || allowed(), || {
            format!(
                "pod {:?} does not mount a podCertificate projected volume for signer {signer:?}",
                self.pod_name(spec)
            )
        })
    }
}
