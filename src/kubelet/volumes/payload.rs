//! What goes into the volumes that show objects of the API: ConfigMaps, Secrets, fields of the pod,
//! tokens, certificates.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, KeyToPath, Pod, PodCertificateProjection,
    ProjectedVolumeSource, SecretVolumeSource, VolumeProjection,
};

use super::{
    Setup,
    atomic::{File, Payload},
    certificates::Credentials,
};
use crate::{
    env::{field_value, resource_value},
    objects::Data,
    podspec::PodExt,
};

/// Mode of files where the pod names none.
const DEFAULT_MODE: i32 = 0o644;

/// Files, and when they have to be made anew even if no object changes.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) files: Payload,
    pub(crate) refresh: Option<Timestamp>,
}

fn mode(given: Option<i32>, default: Option<i32>) -> u32 {
    given.or(default).unwrap_or(DEFAULT_MODE).unsigned_abs()
}

/// The entries of an object as files: all of them, or those that `items` name.
fn from_data(
    data: Option<&Data>,
    items: Option<&Vec<KeyToPath>>,
    default_mode: Option<i32>,
    optional: bool,
    kind: &str,
) -> Result<Payload, String> {
    let empty = Data::default();
    let data = data.unwrap_or(&empty);
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data
            .entries()
            .map(|(key, bytes)| {
                let file =
                    File { data: bytes.to_vec(), mode: mode(None, default_mode), user: None };
                (key.to_owned(), file)
            })
            .collect());
    };
    let mut files = BTreeMap::new();
    for item in items {
        match data.bytes(&item.key) {
            Some(bytes) => {
                let mode = mode(item.mode, default_mode);
                let file = File { data: bytes.to_vec(), mode, user: None };
                files.insert(item.path.clone(), file);
            }
            None if optional => {}
            None => {
                return Err(format!("{kind} references non-existent {kind} key: {}", item.key)
                    .replacen("configmap key", "config key", 1));
            }
        }
    }
    Ok(files)
}

/// The files of a ConfigMap volume.
pub(crate) async fn config_map(
    setup: &Setup<'_>,
    source: &ConfigMapVolumeSource,
) -> Result<Contents, String> {
    let optional = source.optional == Some(true);
    let data = setup.objects.config_map(setup.pod.namespace(), &source.name, optional).await?;
    let items = source.items.as_ref();
    let files = from_data(data.as_ref(), items, source.default_mode, optional, "configmap")?;
    Ok(Contents { files, refresh: None })
}

/// The files of a Secret volume.
pub(crate) async fn secret(
    setup: &Setup<'_>,
    source: &SecretVolumeSource,
) -> Result<Contents, String> {
    let optional = source.optional == Some(true);
    let name = source.secret_name.as_deref().unwrap_or_default();
    let data = setup.objects.secret(setup.pod.namespace(), name, optional).await?;
    let items = source.items.as_ref();
    let files = from_data(data.as_ref(), items, source.default_mode, optional, "secret")?;
    Ok(Contents { files, refresh: None })
}

/// The files of a downward API volume.
pub(crate) fn downward_api(
    setup: &Setup<'_>,
    items: Option<&Vec<DownwardAPIVolumeFile>>,
    default_mode: Option<i32>,
) -> Result<Payload, String> {
    let mut files = Payload::new();
    let mut failures = Vec::new();
    for item in items.into_iter().flatten() {
        let text = if let Some(field) = &item.field_ref {
            field_value(setup.pod, &field.field_path, &setup.facts)
        } else if let Some(field) = &item.resource_field_ref {
            resource_value(setup.pod, None, field, &setup.facts)
        } else {
            continue;
        };
        match text {
            Ok(text) => {
                let mode = mode(item.mode, default_mode);
                let file = File { data: text.into_bytes(), mode, user: None };
                files.insert(item.path.clone(), file);
            }
            Err(why) => failures.push(why),
        }
    }
    if failures.is_empty() { Ok(files) } else { Err(aggregate(&failures)) }
}

/// The files of a projected volume.
pub(crate) async fn projected(
    setup: &Setup<'_>,
    volume: &str,
    source: &ProjectedVolumeSource,
) -> Result<Contents, String> {
    let mut contents = Contents::default();
    let mut failures = Vec::new();
    for (place, projection) in source.sources.iter().flatten().enumerate() {
        let files = match &projection.pod_certificate {
            Some(wanted) => certificate(setup, wanted, (volume, place), source.default_mode),
            None => projection_files(setup, projection, source.default_mode).await,
        };
        match files {
            Ok(part) => {
                contents.files.extend(part.files);
                contents.refresh = [contents.refresh, part.refresh].into_iter().flatten().min();
            }
            Err(why) => failures.push(why),
        }
    }
    if failures.is_empty() { Ok(contents) } else { Err(aggregate(&failures)) }
}

async fn projection_files(
    setup: &Setup<'_>,
    projection: &VolumeProjection,
    default_mode: Option<i32>,
) -> Result<Contents, String> {
    let namespace = setup.pod.namespace();
    if let Some(source) = &projection.secret {
        let optional = source.optional == Some(true);
        let data = setup.objects.secret(namespace, &source.name, optional).await?;
        let items = source.items.as_ref();
        let files = from_data(data.as_ref(), items, default_mode, optional, "secret")?;
        return Ok(Contents { files, refresh: None });
    }
    if let Some(source) = &projection.config_map {
        let optional = source.optional == Some(true);
        let data = setup.objects.config_map(namespace, &source.name, optional).await?;
        let items = source.items.as_ref();
        let files = from_data(data.as_ref(), items, default_mode, optional, "configmap")?;
        return Ok(Contents { files, refresh: None });
    }
    if let Some(source) = &projection.downward_api {
        let files = downward_api(setup, source.items.as_ref(), default_mode)?;
        return Ok(Contents { files, refresh: None });
    }
    if let Some(source) = &projection.service_account_token {
        let token = setup.tokens.get(setup.pod, source).await?;
        let file = owned(setup, token.text, default_mode);
        let files = Payload::from([(source.path.clone(), file)]);
        return Ok(Contents { files, refresh: Some(token.refresh) });
    }
    if let Some(source) = &projection.cluster_trust_bundle {
        let text = setup.trust_bundles.anchors(setup.pod, source).await?;
        let file = owned(setup, text, default_mode);
        let files = Payload::from([(source.path.clone(), file)]);
        return Ok(Contents { files, refresh: None });
    }
    Ok(Contents::default())
}

/// The key and the certificates of a pod, in as many files as it asks for.
fn certificate(
    setup: &Setup<'_>,
    wanted: &PodCertificateProjection,
    (volume, place): (&str, usize),
    default_mode: Option<i32>,
) -> Result<Contents, String> {
    let credentials = setup.certificates.get(setup.pod.uid(), volume, place)?;
    let Credentials { key, chain } = &*credentials;
    let mut files = Payload::new();
    for (path, text) in [
        (&wanted.credential_bundle_path, format!("{key}{chain}")),
        (&wanted.key_path, key.clone()),
        (&wanted.certificate_chain_path, chain.clone()),
    ] {
        if let Some(path) = path.as_ref().filter(|path| !path.is_empty()) {
            files.insert(path.clone(), owned(setup, text, default_mode));
        }
    }
    Ok(Contents { files, refresh: None })
}

/// A file that others than root may own: it is readable by its owner alone then, and the group of
/// the pod is let in with the volume's ownership.
fn owned(setup: &Setup<'_>, text: String, default_mode: Option<i32>) -> File {
    let user = common_user(setup.pod);
    let own = user.is_some() || setup.fs_group.is_some();
    let mode = if own { 0o600 } else { mode(None, default_mode) };
    File { data: text.into_bytes(), mode, user }
}

/// The user that all containers of the pod run as, if that is one and the pod says so.
fn common_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec_or_empty().security_context.as_ref().and_then(|s| s.run_as_user);
    let mut common = None;
    for container in pod.init_containers().iter().chain(pod.containers()) {
        let own = container.security_context.as_ref().and_then(|s| s.run_as_user);
        let user = own.or(of_pod)?;
        if common.is_some_and(|other| other != user) {
            return None;
        }
        common = Some(user);
    }
    common.and_then(|user| u32::try_from(user).ok())
}

/// Several errors as Go's aggregate prints them.
fn aggregate(failures: &[String]) -> String {
    match failures {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_common_user_is_one_that_all_containers_name() {
        let user = |spec: serde_json::Value| {
            common_user(&serde_json::from_value(json!({"spec": spec})).unwrap())
        };
        let as_user = |n: i64| json!({"name": "a", "securityContext": {"runAsUser": n}});
        assert_eq!(user(json!({"containers": [{"name": "a"}]})), None);
        assert_eq!(user(json!({"containers": [as_user(5), as_user(5)]})), Some(5));
        assert_eq!(user(json!({"containers": [as_user(5), as_user(6)]})), None);
        let pod = json!({"securityContext": {"runAsUser": 7}, "containers": [{"name": "a"}]});
        assert_eq!(user(pod), Some(7));
    }
}
