//! The environment of a container: its variables, those of services, and references to them.

mod expand;
mod fields;
mod files;
mod services;

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Container, EnvVarSource, Pod};

pub(crate) use expand::expand;
pub(crate) use fields::{field_value, resource_value};
pub(crate) use services::service_variables;

use crate::{
    objects::{Data, Objects},
    podspec::PodExt,
};

/// What the values of variables come from, besides the pod.
pub(crate) struct Sources<'a> {
    pub(crate) objects: &'a Objects,
    /// Variables of the services that the pod sees.
    pub(crate) services: BTreeMap<String, String>,
    pub(crate) facts: Facts<'a>,
    /// Host paths of the pod's volumes by name, for `fileKeyRef`.
    pub(crate) volumes: &'a HashMap<String, std::path::PathBuf>,
}

/// What the downward API knows of a pod beyond its object.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    /// Addresses of the pod, the primary one first.
    pub(crate) pod_ips: &'a [std::net::IpAddr],
    /// Addresses of the node, the primary one first.
    pub(crate) host_ips: &'a [std::net::IpAddr],
    /// CPUs that pods may use together, in thousandths: the limit of a container without one.
    pub(crate) allocatable_cpu: i64,
    /// Memory that pods may use together, in bytes.
    pub(crate) allocatable_memory: i64,
    /// Ephemeral storage that pods may use together, in bytes.
    pub(crate) allocatable_storage: i64,
}

/// Why the environment cannot be made: the message of CreateContainerConfigError.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The variables of a container as `(name, value)`, the service variables that it does not
/// override after its own.
pub(crate) async fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources<'_>,
) -> Result<Vec<(String, String)>> {
    let mut variables = Variables::default();
    let namespace = pod.namespace();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let data = if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional == Some(true);
            sources.objects.config_map(namespace, &reference.name, optional).await?
        } else if let Some(reference) = &from.secret_ref {
            let optional = reference.optional == Some(true);
            sources.objects.secret(namespace, &reference.name, optional).await?
        } else {
            continue;
        };
        for (key, value) in data.iter().flat_map(Data::texts) {
            variables.set(format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref(), &variable.value_from) {
            (Some(text), _) if !text.is_empty() => Some(expand(text, |name| {
                variables.get(name).or_else(|| sources.services.get(name).map(String::as_str))
            })),
            (_, Some(source)) => from_source(pod, container, source, sources).await?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            variables.set(variable.name.clone(), value);
        }
    }
    for (name, value) in &sources.services {
        if variables.get(name).is_none() {
            variables.set(name.clone(), value.clone());
        }
    }
    Ok(variables.list)
}

/// Variables in the order in which they were first set.
#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|at| self.list[*at].1.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.places.get(&name) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.places.insert(name.clone(), self.list.len());
                self.list.push((name, value));
            }
        }
    }
}

/// The value of a variable with a source; `None` when an optional one is not there.
async fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources<'_>,
) -> Result<Option<String>> {
    let namespace = pod.namespace();
    if let Some(field) = &source.field_ref {
        return field_value(pod, &field.field_path, &sources.facts).map(Some);
    }
    if let Some(field) = &source.resource_field_ref {
        return resource_value(pod, Some(container), field, &sources.facts).map(Some);
    }
    let (data, key, optional, kind, name) = if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let data = sources.objects.config_map(namespace, &reference.name, optional).await?;
        (data, &reference.key, optional, "ConfigMap", &reference.name)
    } else if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let data = sources.objects.secret(namespace, &reference.name, optional).await?;
        (data, &reference.key, optional, "Secret", &reference.name)
    } else if let Some(reference) = &source.file_key_ref {
        return files::value(reference, sources.volumes);
    } else {
        return Ok(Some(String::new()));
    };
    match data.as_ref().and_then(|data| data.text(key)) {
        Some(value) => Ok(Some(value)),
        None if optional || data.is_none() => Ok(None),
        None => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
    }
}

/// A command line with references to the container's variables put in.
pub(crate) fn expand_all(texts: &[String], variables: &[(String, String)]) -> Vec<String> {
    let map: HashMap<&str, &str> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    texts.iter().map(|text| expand(text, |name| map.get(name).copied())).collect()
}

/// A command line of a probe, in which only variables with plain values count.
pub(crate) fn expand_static(texts: &[String], container: &Container) -> Vec<String> {
    let variables: Vec<(String, String)> = container
        .env
        .iter()
        .flatten()
        .map(|v| (v.name.clone(), v.value.clone().unwrap_or_default()))
        .collect();
    expand_all(texts, &variables)
}

#[cfg(test)]
mod tests;
