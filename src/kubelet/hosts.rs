//! What pods are called: host names, and the `/etc/hosts` that the kubelet manages.

use std::{io, net::IpAddr, path::Path};

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use crate::podspec::PodExt;

const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const HEADER_HOST: &str = "# Kubernetes-managed hosts file (host network).\n";
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::0\tip6-localnet\n\
                        fe00::0\tip6-mcastprefix\n\
                        fe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n";
/// The kernel's host names have no more characters.
const MAX_NAME: usize = 63;

/// Host name and domain of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) host: String,
    pub(crate) domain: String,
}

impl Names {
    /// The names that the pod's spec asks for.
    pub(crate) fn of(pod: &Pod, cluster_domain: &str) -> Result<Self, String> {
        let spec = pod.spec_or_empty();
        if let Some(name) = &spec.hostname_override {
            return Ok(Self { host: cut(name)?, domain: String::new() });
        }
        let given = spec.hostname.as_deref().filter(|name| !name.is_empty());
        let host = cut(given.unwrap_or(pod.name()))?;
        let domain = match spec.subdomain.as_deref() {
            Some(subdomain) if !subdomain.is_empty() => {
                format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace())
            }
            _ => String::new(),
        };
        Ok(Self { host, domain })
    }

    /// The name in the pod's UTS namespace.
    pub(crate) fn kernel(&self, pod: &Pod) -> Result<String, String> {
        if pod.spec_or_empty().set_hostname_as_fqdn != Some(true) || self.domain.is_empty() {
            return Ok(self.host.clone());
        }
        let name = format!("{}.{}", self.host, self.domain);
        if name.len() > MAX_NAME + 1 {
            return Err(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too \
                 long ({} characters is the max, {} characters requested)",
                MAX_NAME + 1,
                name.len()
            ));
        }
        Ok(name)
    }
}

fn cut(name: &str) -> Result<String, String> {
    let cut: String = name.chars().take(MAX_NAME).collect();
    let cut = if cut.len() < name.len() { cut.trim_end_matches(['-', '.']) } else { &cut };
    if cut.is_empty() { Err(format!("hostname {name:?} was invalid")) } else { Ok(cut.to_owned()) }
}

/// The text of a pod's hosts file. `ips` are the pod's own addresses.
pub(crate) fn hosts_file(pod: &Pod, names: &Names, ips: &[IpAddr]) -> io::Result<Vec<u8>> {
    let aliases = pod.spec_or_empty().host_aliases.as_deref().unwrap_or_default();
    if pod.host_network() {
        let host = std::fs::read(Path::new("/etc/hosts"))?;
        return Ok([HEADER_HOST.as_bytes(), &host, alias_lines(aliases).as_bytes()].concat());
    }
    let mut text = format!("{HEADER}{LOOPBACK}");
    for ip in ips {
        if names.domain.is_empty() {
            text.push_str(&format!("{ip}\t{}\n", names.host));
        } else {
            text.push_str(&format!("{ip}\t{0}.{1}\t{0}\n", names.host, names.domain));
        }
    }
    text.push_str(&alias_lines(aliases));
    Ok(text.into_bytes())
}

fn alias_lines(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let lines = aliases.iter().map(|alias| {
        format!("{}\t{}\n", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t"))
    });
    format!("\n# Entries added by HostAliases.\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let metadata = json!({"name": "web-0", "namespace": "ns"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn names_and_entries() {
        let pod = pod(json!({"containers": [], "hostname": "web", "subdomain": "peers",
            "setHostnameAsFQDN": true,
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let names = Names::of(&pod, "cluster.local").unwrap();
        assert_eq!(names.kernel(&pod).unwrap(), "web.peers.ns.svc.cluster.local");
        let text = hosts_file(&pod, &names, &[IpAddr::from([10, 0, 0, 2])]).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("\n10.0.0.2\tweb.peers.ns.svc.cluster.local\tweb\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"));
    }

    #[test]
    fn long_names_are_cut() {
        let mut pod = pod(json!({"containers": []}));
        pod.metadata.name = Some(format!("{}-.{}", "a".repeat(61), "b".repeat(20)));
        assert_eq!(Names::of(&pod, "c").unwrap().host, "a".repeat(61));
    }
}
