//! The resolv.conf of a pod, by its `dnsPolicy` and `dnsConfig`.

use std::{net::IpAddr, path::Path};

use k8s_openapi::api::core::v1::{Pod, PodDNSConfigOption};

use crate::{config::KubeletConfig, podspec::PodExt};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCH_PATHS: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
const MAX_NAME: usize = 253;

/// The contents of a resolv.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl ResolvConf {
    /// Reads the text of a resolv.conf as the resolver does: servers add up, of search lines the
    /// last counts.
    fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().map(ToOwned::to_owned)),
                Some("search") => {
                    conf.searches = words
                        .filter(|name| *name != ".")
                        .map(|name| name.strip_suffix('.').unwrap_or(name).to_owned())
                        .collect();
                }
                Some("options") => {
                    for option in words {
                        set_option(&mut conf.options, option);
                    }
                }
                _ => {}
            }
        }
        conf
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

/// Sets an option `name` or `name:value`, in the place of an earlier one of that name.
fn set_option(options: &mut Vec<String>, option: &str) {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    match options.iter_mut().find(|other| name(other) == name(option)) {
        Some(other) => option.clone_into(other),
        None => options.push(option.to_owned()),
    }
}

fn option_text(option: &PodDNSConfigOption) -> String {
    let name = option.name.as_deref().unwrap_or_default();
    match option.value.as_deref() {
        Some(value) if !value.is_empty() => format!("{name}:{value}"),
        _ => name.to_owned(),
    }
}

fn add_missing(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

/// A resolv.conf and the warnings that go with it, as messages of the event `DNSConfigForming` or
/// `MissingClusterDNS`.
pub(crate) struct Formed {
    pub(crate) conf: ResolvConf,
    pub(crate) warnings: Vec<(&'static str, String)>,
}

/// Forms the resolv.conf of a pod. Reads the host's file anew, for it may change.
pub(crate) fn form(pod: &Pod, config: &KubeletConfig) -> Result<Formed, String> {
    let host = match &config.resolv_conf {
        Some(path) => read(path)?,
        None => ResolvConf::default(),
    };
    Ok(compose(pod, host, config))
}

fn read(path: &Path) -> Result<ResolvConf, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("open {}: {error}", path.display()))?;
    Ok(ResolvConf::parse(&text))
}

fn compose(pod: &Pod, host: ResolvConf, config: &KubeletConfig) -> Formed {
    let spec = pod.spec_or_empty();
    let mut warnings = Vec::new();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod.host_network(),
        _ => false,
    };
    let mut conf = if policy == "None" {
        ResolvConf::default()
    } else if cluster && !config.cluster_dns.is_empty() {
        cluster_first(pod, &host, config)
    } else {
        if cluster {
            warnings.push((
                "MissingClusterDNS",
                format!(
                    "pod: {:?}. kubelet does not have ClusterDNS IP configured and cannot create \
                     Pod using \"ClusterFirst\" policy. Falling back to \"Default\" policy.",
                    pod.full_name()
                ),
            ));
        }
        of_host(host, config)
    };
    if let Some(own) = &spec.dns_config {
        add_missing(&mut conf.servers, own.nameservers.clone().unwrap_or_default());
        add_missing(&mut conf.searches, own.searches.clone().unwrap_or_default());
        for option in own.options.iter().flatten() {
            set_option(&mut conf.options, &option_text(option));
        }
    }
    limit(&mut conf, &mut warnings);
    Formed { conf, warnings }
}

fn cluster_first(pod: &Pod, host: &ResolvConf, config: &KubeletConfig) -> ResolvConf {
    let domain = &config.cluster_domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        let namespace = pod.namespace();
        let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        add_missing(&mut searches, own);
    }
    add_missing(&mut searches, host.searches.clone());
    ResolvConf {
        servers: config.cluster_dns.iter().map(IpAddr::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn of_host(host: ResolvConf, config: &KubeletConfig) -> ResolvConf {
    if config.resolv_conf.is_some() {
        return host;
    }
    // Without a resolv.conf names are not to be looked up; a resolver on the pod's own loopback
    // address, where nobody answers, is how the resolver library is told that.
    let mut servers = Vec::new();
    let loopback = config.node_ips.iter().map(|ip| if ip.is_ipv6() { "::1" } else { "127.0.0.1" });
    add_missing(&mut servers, loopback.map(ToOwned::to_owned));
    if servers.is_empty() {
        servers.push("127.0.0.1".to_owned());
    }
    ResolvConf { servers, searches: vec![".".to_owned()], options: Vec::new() }
}

/// Cuts what resolver libraries do not read, and says so.
fn limit(conf: &mut ResolvConf, warnings: &mut Vec<(&'static str, String)>) {
    if conf.servers.len() > MAX_NAMESERVERS {
        conf.servers.truncate(MAX_NAMESERVERS);
        warnings.push((
            "DNSConfigForming",
            format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied \
                 nameserver line is: {}",
                conf.servers.join(" ")
            ),
        ));
    }
    let before = conf.searches.len();
    conf.searches.truncate(MAX_SEARCH_PATHS);
    conf.searches.retain(|name| name.len() <= MAX_NAME);
    while conf.searches.join(" ").len() > MAX_SEARCH_CHARS {
        conf.searches.pop();
    }
    if conf.searches.len() < before {
        warnings.push((
            "DNSConfigForming",
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the \
                 applied search line is: {}",
                conf.searches.join(" ")
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn formed(spec: serde_json::Value) -> String {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": spec,
        }))
        .unwrap();
        let host = ResolvConf::parse(
            "# comment\nnameserver 9.9.9.9\nsearch old\nsearch lan. .\noptions edns0 ndots:2\n",
        );
        let config = KubeletConfig {
            cluster_dns: vec![IpAddr::from([10, 43, 0, 10])],
            ..KubeletConfig::default()
        };
        compose(&pod, host, &config).conf.text()
    }

    #[test]
    fn policies() {
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local lan\n\
                       nameserver 10.43.0.10\noptions ndots:5\n";
        let host = "search lan\nnameserver 9.9.9.9\noptions edns0 ndots:2\n";
        assert_eq!(formed(json!({"containers": []})), cluster);
        assert_eq!(formed(json!({"containers": [], "dnsPolicy": "Default"})), host);
        let on_host = json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirst"});
        assert_eq!(formed(on_host), host);
        let with_host_net = json!({
            "containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"});
        assert_eq!(formed(with_host_net), cluster);
        let own = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1", "1.1.1.1"], "searches": ["a.b"],
            "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]}});
        assert_eq!(formed(own), "search a.b\nnameserver 1.1.1.1\noptions ndots:1 edns0\n");
    }

    #[test]
    fn limits_are_kept_and_told() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [],
            "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1", "2", "3", "4"]}}}))
        .unwrap();
        let formed = compose(&pod, ResolvConf::default(), &KubeletConfig::default());
        assert_eq!(formed.conf.servers.len(), 3);
        assert_eq!(formed.warnings.len(), 1);
    }
}
