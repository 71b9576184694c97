//! Renders the OpenAPI documents of the built-in kinds, or of a custom resource, into a directory:
//! `v3/<group version>.json`, `v2.json` and `v2.pb`. `embedded/schema/compare-openapi` compares them
//! with those of a Kubernetes API server.
//!
//!     openapi DIRECTORY [crd.json VERSION]

use std::{env, fs, io, path::Path, time::Instant};

use apimachinery::{
    openapi::{self, Kind},
    schema::{Resource, Subresource, builtin_resources},
};
use serde_json::Value;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(directory) = arguments.first() else {
        return Err(io::Error::other("usage: openapi DIRECTORY [crd.json VERSION]"));
    };
    let directory = Path::new(directory);
    fs::create_dir_all(directory.join("v3"))?;
    if let [_, crd, version] = arguments.as_slice() {
        let crd: Value = serde_json::from_slice(&fs::read(crd)?)?;
        let (resource, schema) = custom(&crd, version);
        let kinds = [Kind { resource: &resource, custom: Some(&schema) }];
        return v3(directory, &kinds);
    }
    let resources = builtin_resources();
    let all: Vec<Kind<'_>> =
        resources.iter().map(|resource| Kind { resource, custom: None }).collect();
    for kinds in all.chunk_by(|a, b| {
        (&a.resource.group, &a.resource.version) == (&b.resource.group, &b.resource.version)
    }) {
        v3(directory, kinds)?;
    }
    let start = Instant::now();
    let text = openapi::v2(&all);
    eprintln!("v2: {} bytes in {:?}", text.len(), start.elapsed());
    fs::write(directory.join("v2.json"), text)?;
    let start = Instant::now();
    let message = openapi::v2_protobuf(&all);
    eprintln!("v2 in protobuf: {} bytes in {:?}", message.len(), start.elapsed());
    fs::write(directory.join("v2.pb"), message)
}

fn v3(directory: &Path, kinds: &[Kind<'_>]) -> io::Result<()> {
    let Some(first) = kinds.first() else { return Ok(()) };
    let (group, version) = (&first.resource.group, &first.resource.version);
    let start = Instant::now();
    let text = openapi::v3(group, version, kinds);
    let path = openapi::v3_path(group, version);
    eprintln!("{path}: {} bytes in {:?}", text.len(), start.elapsed());
    fs::write(directory.join("v3").join(path.replace('/', "__") + ".json"), text)
}

fn custom(crd: &Value, version: &str) -> (Resource, Value) {
    let spec = &crd["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let found = versions.into_iter().find(|v| v["name"] == version).unwrap_or_default();
    let verbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let sub = |name: &str, group: &str, version: &str, kind: String| Subresource {
        name: name.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind,
        verbs: own(&["get", "patch", "update"]),
    };
    let mut subresources = Vec::new();
    let group = text(&spec["group"]);
    if found["subresources"]["status"].is_object() {
        subresources.push(sub("status", &group, version, text(&spec["names"]["kind"])));
    }
    if found["subresources"]["scale"].is_object() {
        subresources.push(sub("scale", "autoscaling", "v1", "Scale".to_owned()));
    }
    let resource = Resource {
        group,
        version: version.to_owned(),
        plural: text(&spec["names"]["plural"]),
        singular: text(&spec["names"]["singular"]),
        kind: text(&spec["names"]["kind"]),
        list_kind: text(&spec["names"]["listKind"]),
        namespaced: spec["scope"] == "Namespaced",
        verbs: own(&verbs),
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: None,
        returns_deleted: false,
        subresources,
    };
    (resource, found["schema"]["openAPIV3Schema"].clone())
}
