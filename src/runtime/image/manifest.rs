//! Manifests, indexes and configurations of images: the parts of the OCI and docker formats that
//! are used.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::ImageConfig;

/// Media types that a registry may answer with.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json, */*";

/// Something stored under its digest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What an image runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) variant: String,
}

/// A manifest or an index; which one shows in what it has.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    #[serde(default)]
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) config: Option<Descriptor>,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
    #[serde(default)]
    pub(crate) manifests: Option<Vec<Descriptor>>,
}

/// The configuration of an image.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) config: Option<RunConfig>,
    #[serde(default)]
    pub(crate) rootfs: RootFs,
}

/// The digests of the uncompressed layers, bottom first.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RunConfig {
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
}

/// Docker writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl Config {
    pub(crate) fn image_config(self) -> ImageConfig {
        let c = self.config.unwrap_or_default();
        ImageConfig {
            entrypoint: c.entrypoint,
            cmd: c.cmd,
            env: c.env,
            working_dir: c.working_dir,
            user: c.user,
            stop_signal: c.stop_signal,
            labels: c.labels,
            volumes: c.volumes.into_keys().collect(),
            exposed_ports: c.exposed_ports.into_keys().collect(),
        }
    }
}

/// How well a platform suits this machine; `None` not at all.
fn suits(platform: &Platform) -> Option<u8> {
    let (architecture, variants): (&str, &[&str]) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", &["", "v1", "v2", "v3"]),
        "aarch64" => ("arm64", &["v8", ""]),
        "arm" => ("arm", &["v7", "v6", ""]),
        "riscv64" => ("riscv64", &[""]),
        "powerpc64" => ("ppc64le", &[""]),
        "s390x" => ("s390x", &[""]),
        other => (other, &[""]),
    };
    if platform.os != "linux" || platform.architecture != architecture {
        return None;
    }
    variants.iter().position(|v| *v == platform.variant).map(|place| place as u8)
}

/// The manifest for this machine of an index. Entries without a platform count only when there is
/// nothing else; attestations are for no machine.
pub(crate) fn select(manifests: &[Descriptor]) -> Option<&Descriptor> {
    let with_platform = manifests.iter().filter_map(|m| Some((m, suits(m.platform.as_ref()?)?)));
    let best = with_platform.min_by_key(|(_, place)| *place).map(|(m, _)| m);
    best.or_else(|| manifests.iter().find(|m| m.platform.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_own_manifest_is_chosen() {
        let of = |digest: &str, os: &str, architecture: &str, variant: &str| Descriptor {
            digest: digest.into(),
            platform: Some(Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.into(),
            }),
            ..Default::default()
        };
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let all = [
            of("att", "unknown", "unknown", ""),
            of("win", "windows", own, ""),
            of("ppc", "linux", "ppc64le", ""),
            of("own", "linux", own, ""),
        ];
        assert_eq!(select(&all).unwrap().digest, "own");
        assert!(select(&all[..3]).is_none());
        let plain = Descriptor { digest: "plain".into(), ..Default::default() };
        assert_eq!(select(&[plain]).unwrap().digest, "plain");
    }

    #[test]
    fn nulls_are_empty() {
        let text = r#"{"config":{"Cmd":null,"Entrypoint":["/x"],"Volumes":{"/data":{}},
            "ExposedPorts":{"80/tcp":{}},"Labels":null,"User":"1000:0"},
            "rootfs":{"type":"layers","diff_ids":["sha256:a"]},"history":[{"created":"x"}]}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.rootfs.diff_ids, ["sha256:a"]);
        let image = config.image_config();
        assert_eq!((image.entrypoint[0].as_str(), image.cmd.len()), ("/x", 0));
        assert_eq!(
            (image.volumes[0].as_str(), image.exposed_ports[0].as_str()),
            ("/data", "80/tcp")
        );
    }
}
