//! What was applied from each file: a ConfigMap, so that a restart knows what to delete.

use std::collections::{BTreeMap, BTreeSet};

use client::{Client, Error, Patch, PatchParams, PostParams, is_not_found};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use tracing::warn;

use super::documents::Identity;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "knarr-manifests";

/// Objects by the name of the file they came from.
pub(super) type Record = BTreeMap<String, BTreeSet<Identity>>;

/// Reads what was recorded.
pub(super) async fn load(client: &Client) -> Result<Record, Error> {
    let map = client.namespaced::<ConfigMap>(NAMESPACE).get_opt(NAME).await?;
    let mut record = Record::new();
    for (file, text) in map.and_then(|map| map.data).unwrap_or_default() {
        match serde_json::from_str(&text) {
            Ok(objects) => drop(record.insert(file, objects)),
            Err(error) => warn!(%file, %error, "record of a manifest does not parse"),
        }
    }
    Ok(record)
}

/// Records the objects of one file; `None` if the file is gone with all of them.
pub(super) async fn store(
    client: &Client,
    file: &str,
    objects: Option<&BTreeSet<Identity>>,
) -> Result<(), Error> {
    let text = objects.map(|objects| json!(objects).to_string());
    let api = client.namespaced::<ConfigMap>(NAMESPACE);
    let patch = json!({"data": {file: text}});
    match api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(error) if is_not_found(&error) => {}
        patched => return patched.map(drop),
    }
    let mut map = ConfigMap::default();
    map.metadata.name = Some(NAME.to_owned());
    map.data = text.map(|text| BTreeMap::from([(file.to_owned(), text)]));
    api.create(&PostParams::default(), &map).await.map(drop)
}
