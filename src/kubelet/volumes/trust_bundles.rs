//! Trust anchors from ClusterTrustBundles, by name or by signer and labels. Bundles are followed
//! from the first pod on that refers to one.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use apimachinery::{Key, Object, selector::labels};
use client::{Informer, Informers};
use k8s_openapi::api::{
    certificates::v1::ClusterTrustBundle,
    core::v1::{ClusterTrustBundleProjection, Pod},
};

use crate::{objects::Changed, podspec::PodExt};

/// How long a pod waits for the bundles to be known.
const PATIENCE: Duration = Duration::from_secs(3);

/// The trust bundles of the cluster, and the pods of this node that are shown some.
pub(crate) struct TrustBundles {
    informers: Informers,
    bundles: OnceLock<Informer>,
    changed: Changed,
    pods: Arc<Mutex<HashSet<String>>>,
}

fn lock(pods: &Mutex<HashSet<String>>) -> MutexGuard<'_, HashSet<String>> {
    pods.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TrustBundles {
    /// None is followed yet. `changed` is called with the uid of a pod when bundles have changed.
    pub(crate) fn new(informers: Informers, changed: Changed) -> Self {
        Self { informers, bundles: OnceLock::new(), changed, pods: Arc::default() }
    }

    fn informer(&self) -> &Informer {
        self.bundles.get_or_init(|| {
            let informer = self.informers.of::<ClusterTrustBundle>();
            let (pods, changed) = (self.pods.clone(), self.changed.clone());
            informer.on_change(move |_| {
                let uids: Vec<String> = lock(&pods).iter().cloned().collect();
                uids.iter().for_each(|uid| changed(uid));
            });
            informer
        })
    }

    /// The certificates that a source shows as PEM, each once.
    pub(super) async fn anchors(
        &self,
        pod: &Pod,
        source: &ClusterTrustBundleProjection,
    ) -> Result<String, String> {
        let informer = self.informer();
        if tokio::time::timeout(PATIENCE, informer.synced()).await.is_err() {
            return Err("ClusterTrustBundle informer has not yet synced".to_owned());
        }
        lock(&self.pods).insert(pod.uid().to_owned());
        let optional = source.optional == Some(true);
        let bundles = if let Some(name) = &source.name {
            match informer.get(&Key::new("", name.as_str())) {
                Some(bundle) => vec![bundle],
                None if optional => Vec::new(),
                None => {
                    return Err(format!(
                        "while getting ClusterTrustBundle: \
                         clustertrustbundle.certificates.k8s.io {name:?} not found"
                    ));
                }
            }
        } else if let Some(signer) = &source.signer_name {
            // A selector that is absent selects nothing, an empty one everything.
            let selector = match &source.label_selector {
                Some(selector) => {
                    let value = serde_json::to_value(selector).map_err(|e| e.to_string())?;
                    labels::Selector::from_object(&value).map_err(|e| e.to_string())?
                }
                None => labels::Selector::nothing(),
            };
            let of_signer = |bundle: &Arc<Object>| {
                bundle.parse::<ClusterTrustBundle>().is_ok_and(|bundle| {
                    let labels = bundle.metadata.labels.unwrap_or_default();
                    bundle.spec.signer_name.as_ref() == Some(signer) && selector.matches(&labels)
                })
            };
            let found: Vec<_> = informer.list().into_iter().filter(of_signer).collect();
            if found.is_empty() && !optional {
                return Err("combination of signerName and labelSelector matched zero \
                            ClusterTrustBundles"
                    .to_owned());
            }
            found
        } else {
            return Err("ClusterTrustBundle projection requires either name or signerName to be \
                        set"
            .to_owned());
        };
        let parsed = bundles.iter().filter_map(|bundle| bundle.parse::<ClusterTrustBundle>().ok());
        Ok(distinct(parsed.map(|bundle| bundle.spec.trust_bundle)))
    }

    /// Forgets that a pod is shown bundles.
    pub(crate) fn forget(&self, uid: &str) {
        lock(&self.pods).remove(uid);
    }
}

/// The certificates of all texts, each once, in a stable order.
fn distinct(texts: impl Iterator<Item = String>) -> String {
    let mut found: Vec<Vec<u8>> = texts
        .flat_map(|text| pki::pem::decode(&text).unwrap_or_default())
        .map(|block| block.der)
        .collect();
    found.sort_unstable();
    found.dedup();
    found.iter().map(|der| pki::pem::encode("CERTIFICATE", der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_shown_once_and_bare() {
        let pem = |byte| pki::pem::encode("CERTIFICATE", &[byte]);
        let texts = [format!("# ours\n{}{}", pem(2), pem(1)), pem(2)];
        assert_eq!(distinct(texts.into_iter()), format!("{}{}", pem(1), pem(2)));
    }
}
