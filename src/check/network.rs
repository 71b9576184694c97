//! What the network of pods needs of kernel and machine: nf_tables, veth, forwarding, firewalls that
//! let pods pass, ports, an address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ::network::{
    Cidr,
    firewall::{self, Obstacle, Owner},
};
use netlink::{
    Netns,
    nft::Hook,
    rtnl::{Requests, Rtnl, Veth, VethEnd},
};

use super::Finding;
use crate::{
    config::{Part, ServerOptions},
    lock::DataLock,
    node, ports,
};

/// nf_tables and veth pairs, tried in a network namespace that is gone afterwards.
pub(super) fn kernel(options: &ServerOptions) -> Vec<Finding> {
    let netns = match Netns::create() {
        Ok(netns) => netns,
        // Said of namespaces already.
        Err(_) => return Vec::new(),
    };
    vec![nf_tables(&netns, options), veth(&netns)]
}

/// Loads the very table that services need, though without services.
fn nf_tables(netns: &Netns, options: &ServerOptions) -> Finding {
    let cidr = |cidr: crate::config::Cidr| Cidr::new(cidr.address, cidr.prefix);
    let config = ::network::proxy::Config {
        cluster: cidr(options.cluster_cidr),
        node: cidr(options.cluster_cidr),
        service_networks: vec![cidr(options.service_cidr)],
        held: vec![options.dns_address()],
        sections: Vec::new(),
    };
    let load = || ::network::proxy::Proxy::start(config, []).map(drop);
    // That this table was loaded is nobody's news.
    let nobody = tracing::subscriber::NoSubscriber::default();
    let loaded = netns.run(|| tracing::subscriber::with_default(nobody, load));
    let error = match loaded {
        Ok(Ok(())) => return Finding::ok("nf_tables", "takes the table of services"),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Finding::missing(
        "nf_tables",
        format!("does not take the table of services: {error}"),
        "modprobe nf_tables nft_chain_nat nft_masq nft_fib_ipv4, or a kernel with CONFIG_NF_TABLES \
         and its NFT_* options",
    )
}

fn veth(netns: &Netns) -> Finding {
    let end = |name, last| VethEnd { name, mac: [2, 0, 0, 0, 0, last], netns: None, group: 0 };
    let mut requests = Requests::new();
    requests.add_veth(&Veth { end: end("check0", 1), peer: end("check1", 2), mtu: 1500 });
    match Rtnl::open_in(netns).and_then(|mut rtnl| rtnl.execute(&requests)) {
        Ok(()) => Finding::ok("veth", "there"),
        Err(error) => Finding::missing(
            "veth",
            format!("cannot be made ({error})"),
            "modprobe veth, or a kernel with CONFIG_VETH",
        ),
    }
}

/// Packets of pods are routed by this host. (They are not bridged, so br_netfilter is not needed.)
pub(super) fn forwarding() -> Finding {
    const FILE: &str = "/proc/sys/net/ipv4/ip_forward";
    let now = std::fs::read_to_string(FILE).unwrap_or_default();
    if now.trim() == "1" {
        return Finding::ok("ip_forward", "on");
    }
    // Opening for writing changes nothing.
    match std::fs::OpenOptions::new().write(true).open(FILE) {
        Ok(_) => Finding::ok("ip_forward", "off, the server switches it on"),
        Err(error) => Finding::missing(
            "ip_forward",
            format!("off, and {FILE} cannot be written: {error}"),
            "sysctl -w net.ipv4.ip_forward=1 from where that is allowed",
        ),
    }
}

/// Firewalls of others that drop packets of pods.
pub(super) fn firewalls(options: &ServerOptions) -> Vec<Finding> {
    let pods = Cidr::new(options.cluster_cidr.address, options.cluster_cidr.prefix);
    match firewall::obstacles(pods) {
        Ok(obstacles) if obstacles.is_empty() => {
            vec![Finding::ok("firewall", "none that drops packets of pods")]
        }
        Ok(obstacles) => obstacles.iter().map(|obstacle| obstructed(obstacle, pods)).collect(),
        Err(error) => vec![Finding::warning("firewall", format!("not known: {error}"), "")],
    }
}

fn obstructed(obstacle: &Obstacle, pods: Cidr) -> Finding {
    let Obstacle { owner, family, table, chain, hook } = obstacle;
    let network = pods.to_string();
    let what = match hook {
        Hook::Input => "packets from pods to this host, and so cluster DNS",
        _ => "packets to and from pods",
    };
    let chain_of = match owner {
        Owner::LegacyIptables => format!("chain {chain} of legacy iptables"),
        _ => format!("chain {chain} of nf_tables table {family} {table}"),
    };
    let both = |command: &str, from: &str, to: &str, end: &str| match hook {
        Hook::Input => format!("{command} {from} {network}{end}"),
        _ => format!("{command} {from} {network}{end} && {command} {to} {network}{end}"),
    };
    let advice = match owner {
        Owner::Firewalld => format!(
            "firewall-cmd --permanent --zone=trusted --add-source={network} && firewall-cmd --reload"
        ),
        Owner::Ufw => match hook {
            Hook::Input => format!("ufw allow from {network}"),
            _ => format!("ufw route allow from {network} && ufw route allow to {network}"),
        },
        Owner::Docker => both("iptables -I DOCKER-USER", "-s", "-d", " -j ACCEPT"),
        Owner::Iptables => both(&format!("iptables -I {chain}"), "-s", "-d", " -j ACCEPT"),
        Owner::LegacyIptables => {
            both(&format!("iptables-legacy -I {chain}"), "-s", "-d", " -j ACCEPT")
        }
        Owner::Nft => {
            let command = format!("nft insert rule {family} {table} {chain} ip");
            both(&command, "saddr", "daddr", " accept")
        }
    };
    Finding::missing(
        "firewall",
        format!("{chain_of} drops {what}"),
        format!("let them pass: {advice}"),
    )
}

/// The ports that a server listens on.
pub(super) fn ports(options: &ServerOptions) -> Vec<Finding> {
    let any = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let api = (options.bind_address, options.https_listen_port, "API server", "https-listen-port");
    let mut wanted = vec![(api, true)];
    if !options.disable_agent {
        wanted.push(((any, options.kubelet_port, "kubelet", "kubelet-port"), true));
        if !options.disabled(Part::Ingress) {
            let http = (any, options.ingress_http_port, "ingress", "ingress-http-port");
            let https = (any, options.ingress_https_port, "ingress", "ingress-https-port");
            wanted.extend([(http, false), (https, false)]);
        }
    }
    // A server that runs has its ports, and that is as it should be.
    let runs = DataLock::is_held(&options.directories.data_dir);
    let mut findings = Vec::new();
    for ((address, port, purpose, option), needed) in wanted {
        let item = "port";
        let error = match std::net::TcpListener::bind(SocketAddr::new(address, port)) {
            Ok(_) => {
                findings.push(Finding::ok(item, format!("{port} for {purpose} is free")));
                continue;
            }
            Err(error) => error,
        };
        let found = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                let holder = ports::holder_of(port);
                if runs && holder.starts_with("knarr") {
                    let found = format!("{port} for {purpose} is served by {holder}");
                    findings.push(Finding::ok(item, found));
                    continue;
                }
                format!("{port} for {purpose} is taken by {holder}")
            }
            _ => format!("{port} for {purpose} cannot be listened on: {error}"),
        };
        let advice = format!("choose another with --{option}");
        findings.push(match needed {
            true => Finding::missing(item, found, advice),
            false => Finding::warning(item, found, format!("{advice} or --disable=ingress")),
        });
    }
    findings
}

/// The address by which others reach this node.
pub(super) fn address(options: &ServerOptions) -> Finding {
    match node::address(options) {
        address if address.is_loopback() => Finding::warning(
            "address",
            format!("{address}: there is no default route"),
            "give the machine one, or its address with --node-ip",
        ),
        address => Finding::ok("address", address.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_in_the_words_of_the_firewalls_owner() {
        let pods = Cidr::new([10, 42, 0, 0].into(), 16);
        let line = |owner, family, table: &str, chain: &str, hook| {
            let (table, chain) = (table.to_owned(), chain.to_owned());
            obstructed(&Obstacle { owner, family, table, chain, hook }, pods).to_string()
        };
        let docker = line(Owner::Docker, "ip", "filter", "FORWARD", Hook::Forward);
        assert!(docker.contains("chain FORWARD of nf_tables table ip filter"), "{docker}");
        assert!(docker.contains("iptables -I DOCKER-USER -d 10.42.0.0/16 -j ACCEPT"), "{docker}");
        let own = line(Owner::Nft, "inet", "filter", "input", Hook::Input);
        assert!(
            own.ends_with("nft insert rule inet filter input ip saddr 10.42.0.0/16 accept"),
            "{own}"
        );
    }
}
