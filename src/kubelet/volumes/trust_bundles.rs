//! Trust anchors from ClusterTrustBundles, by name or by signer and labels.

use apimachinery::selector::labels;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use serde_json::Value;

use super::Setup;

const PATH: &str = "/apis/certificates.k8s.io/v1/clustertrustbundles";

/// The certificates as PEM, each once.
pub(super) async fn anchors(
    setup: &Setup<'_>,
    source: &ClusterTrustBundleProjection,
) -> Result<String, String> {
    let optional = source.optional == Some(true);
    let bundles: Vec<Value> = if let Some(name) = &source.name {
        match crate::requests::get(setup.client, &format!("{PATH}/{name}")).await {
            Ok(bundle) => vec![bundle],
            Err(error) if error.is_not_found() && optional => Vec::new(),
            Err(error) => {
                return Err(format!("error getting ClusterTrustBundle named {name}: {error}"));
            }
        }
    } else if let Some(signer) = &source.signer_name {
        let selector = match &source.label_selector {
            Some(selector) => {
                let value = serde_json::to_value(selector).map_err(|e| e.to_string())?;
                labels::Selector::from_object(&value).map_err(|e| e.to_string())?
            }
            None => labels::Selector::nothing(),
        };
        let list = crate::requests::get(setup.client, PATH).await?;
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        items
            .into_iter()
            .filter(|item| {
                let of = item.pointer("/spec/signerName").and_then(Value::as_str);
                of == Some(signer) && selector.matches(&label_map(item))
            })
            .collect()
    } else {
        return Err(
            "ClusterTrustBundle projection requires either name or signerName to be set".to_owned()
        );
    };
    let texts: Vec<&str> =
        bundles.iter().filter_map(|b| b.pointer("/spec/trustBundle")?.as_str()).collect();
    let anchors = distinct(&texts);
    if anchors.is_empty() && !optional {
        return Err("combination of signerName and labelSelector matched zero \
                    ClusterTrustBundles"
            .to_owned());
    }
    Ok(anchors)
}

fn label_map(object: &Value) -> std::collections::BTreeMap<String, String> {
    object
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The PEM blocks of all texts, each once, in a stable order.
fn distinct(texts: &[&str]) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut blocks: Vec<&str> = Vec::new();
    for text in texts {
        let mut rest = *text;
        while let Some(start) = rest.find(BEGIN) {
            let Some(end) = rest[start..].find(END) else { break };
            let block = &rest[start..start + end + END.len()];
            if !blocks.contains(&block) {
                blocks.push(block);
            }
            rest = &rest[start + end + END.len()..];
        }
    }
    blocks.sort_unstable();
    blocks.into_iter().map(|block| format!("{block}\n")).collect()
}
