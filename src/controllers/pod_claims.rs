//! Which claims the volumes of a pod are of, read out of its bytes without the rest.

use apimachinery::{Key, Object};
use client::Informer;
use serde::{Deserialize, de::IgnoredAny};

/// Index of pods by the claims of their volumes, as `namespace/claim`.
pub(crate) const BY_CLAIM: &str = "claim";

/// Adds the index by claim.
pub(crate) fn index_by_claim(pods: &Informer) {
    pods.add_index(BY_CLAIM, |pod| {
        let keys = claims_of(pod).into_iter();
        keys.map(|claim| Key::new(pod.key.namespace.clone(), claim).to_string().into()).collect()
    });
}

/// The name of the claim that is made for an ephemeral volume of a pod.
pub(crate) fn ephemeral_claim(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}

/// The names of the claims that the volumes of a pod are of.
pub(crate) fn claims_of(pod: &Object) -> Vec<String> {
    #[derive(Deserialize)]
    struct Mounting {
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Default, Deserialize)]
    struct Spec {
        #[serde(default)]
        volumes: Vec<Volume>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Volume {
        name: Box<str>,
        persistent_volume_claim: Option<Claim>,
        ephemeral: Option<IgnoredAny>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Claim {
        claim_name: String,
    }
    let volumes = pod.parse::<Mounting>().map(|pod| pod.spec.volumes).unwrap_or_default();
    volumes
        .into_iter()
        .filter_map(|volume| match volume.persistent_volume_claim {
            Some(claim) => Some(claim.claim_name),
            None => volume.ephemeral.map(|_| ephemeral_claim(&pod.key.name, &volume.name)),
        })
        .collect()
}
