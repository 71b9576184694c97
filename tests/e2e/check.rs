//! `knarr check`, on machines that lack something.

use netlink::{
    Netns,
    nft::{
        BaseChain, Batch, ChainKind, Comparison, Family, Hook, Nft, PayloadBase, Policy, Reg,
        Verdict,
    },
};

use crate::support::{Cluster, Finished, Network, run};

/// Runs `knarr` on a machine of its own, by way of `wrapper` if there is one.
fn knarr_on(network: &Network, wrapper: &[&str], arguments: &[&str]) -> Finished {
    let net = format!("--net=/run/netns/{}", network.node);
    let mut all = vec![net.as_str()];
    all.extend(wrapper);
    let program = Cluster::program();
    all.push(program.to_str().unwrap());
    all.extend(arguments);
    run("nsenter", &all)
}

/// The lines of one item.
fn lines_of(item: &str, output: &str) -> Vec<String> {
    let of_item = |line: &&str| line.get(9..).is_some_and(|line| line.starts_with(item));
    output.lines().filter(of_item).map(str::to_owned).collect()
}

#[test]
fn a_machine_that_runs_a_cluster_lacks_nothing_essential() {
    let cluster = Cluster::start();
    let checked = cluster.knarr(&["check"]).stdout();
    assert!(!checked.contains("MISSING"), "{checked}");
    let api = &lines_of("port", &checked)[0];
    let expected = format!("6443 for API server is served by knarr (pid {})", cluster.pid());
    assert!(api.contains(&expected), "{checked}");
}

#[test]
fn a_foreign_chain_that_drops_packets_of_pods_is_named_with_what_to_add() {
    let network = Network::new();
    let netns = Netns::open(format!("/run/netns/{}", network.node)).unwrap();
    let mut batch = Batch::new(Family::Inet, "castle");
    batch.add_table("");
    batch.add_base_chain(&BaseChain {
        name: "moat",
        kind: ChainKind::Filter,
        hook: Hook::Forward,
        priority: 0,
        policy: Policy::Drop,
    });
    Nft::open_in(&netns).unwrap().commit(batch).unwrap();
    let refused = knarr_on(&network, &[], &["check"]);
    let found = lines_of("firewall", &refused.out());
    assert_eq!(found.len(), 1, "{refused}");
    for part in [
        "MISSING",
        "chain moat of nf_tables table inet castle drops packets to and from pods",
        "nft insert rule inet castle moat ip saddr 10.42.0.0/16 accept",
    ] {
        assert!(found[0].contains(part), "{}", found[0]);
    }
    refused.refused();

    // What the advice adds is an exception that is understood.
    let mut batch = Batch::new(Family::Inet, "castle");
    batch.rule("moat", |rule| {
        rule.payload(Reg::new(0), PayloadBase::Network, 12, 2);
        rule.compare(Reg::new(0), Comparison::Equal, &[10, 42]).verdict(Verdict::Accept);
    });
    Nft::open_in(&netns).unwrap().commit(batch).unwrap();
    let found = lines_of("firewall", &knarr_on(&network, &[], &["check"]).out());
    assert!(found[0].starts_with("ok"), "{found:?}");
}

#[test]
fn a_taken_port_is_named_with_its_holder_and_the_option_that_chooses_another() {
    let network = Network::new();
    let netns = Netns::open(format!("/run/netns/{}", network.node)).unwrap();
    let listen = |port| netns.run(|| std::net::TcpListener::bind(("0.0.0.0", port))).unwrap();
    let (_api, _http) = (listen(6443).unwrap(), listen(80).unwrap());
    let refused = knarr_on(&network, &[], &["check"]);
    let ports = lines_of("port", &refused.out()).join("\n");
    let pid = std::process::id();
    for part in [
        "MISSING  port               6443 for API server is taken by e2e".to_owned(),
        format!("(pid {pid}); choose another with --https-listen-port"),
        format!("(pid {pid}); choose another with --ingress-http-port or --disable=ingress"),
    ] {
        assert!(ports.contains(&part), "{ports}");
    }
    refused.refused();
    let other = ["check", "--https-listen-port=7443", "--json"];
    let found = knarr_on(&network, &[], &other).stdout();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert!(found.as_array().unwrap().iter().any(|f| f["level"] == "warning"), "{found}");
}

#[test]
fn check_and_server_say_in_one_line_what_privileges_are_lacking() {
    let network = Network::new();
    let unprivileged = ["setpriv", "--bounding-set=-sys_admin,-net_admin"];
    let checked = knarr_on(&network, &unprivileged, &["check"]);
    let line = lines_of("privileges", &checked.out()).concat();
    assert!(line.contains("root without CAP_SYS_ADMIN, CAP_NET_ADMIN; "), "{checked}");
    checked.refused();

    let folder = tempfile::tempdir().unwrap();
    let flag = |name: &str| format!("--{name}={}", folder.path().join(name).display());
    let (data, run) = (flag("data-dir"), flag("run-dir"));
    let (kubeconfig, log) = (flag("write-kubeconfig"), "--log=error");
    let server = ["server", &data, &run, &kubeconfig, "--node-name=node", log];
    let said = knarr_on(&network, &unprivileged, &server).refused();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("knarr: privileges: root without CAP_SYS_ADMIN"), "{said}");
}
