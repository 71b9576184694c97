//! Pods and their node, without services. Needs root.

mod common;

use common::{CLIENT_IP, GATEWAY, NODE_IP, Node, Server, at, inside, path, tcp, try_tcp};
use netlink::rtnl::Rtnl;
use network::hostports::HostPort;
use network::proxy::{Handle, Protocol};
use network::{Pod, PodNetwork, cleanup, loopback, pod};

#[test]
fn pods_reach_each_other_and_the_node_with_their_own_address() {
    let node = Node::new();
    let (a, b) = (node.pod(2), node.pod(3));
    let _in_b = Server::tcp(&b.netns, "b", at(b.ip, 8080));
    let _on_node = Server::tcp(&node.netns, "node", at(NODE_IP, 8080));
    let _everywhere = Server::tcp(&node.netns, "node", at(GATEWAY, 8081));
    assert_eq!(tcp(&a.netns, at(b.ip, 8080)), format!("b {}", a.ip));
    assert_eq!(tcp(&a.netns, at(NODE_IP, 8080)), format!("node {}", a.ip));
    assert_eq!(tcp(&a.netns, at(GATEWAY, 8081)), format!("node {}", a.ip));
    assert_eq!(tcp(&node.netns, at(b.ip, 8080)), format!("b {GATEWAY}"));
    // Itself, by its own address and by its loopback.
    assert_eq!(tcp(&b.netns, at(b.ip, 8080)), format!("b {}", b.ip));
}

#[test]
fn what_leaves_the_cluster_has_the_address_of_the_node() {
    let node = Node::new();
    let a = node.pod(2);
    let _outside = Server::tcp(&node.client, "outside", at(CLIENT_IP, 80));
    let _proxy = node.proxy(vec![]);
    assert_eq!(tcp(&a.netns, at(CLIENT_IP, 80)), format!("outside {NODE_IP}"));
}

#[test]
fn a_pod_has_what_it_needs_and_nothing_more() {
    let node = Node::new();
    let a = node.pod(2);
    let mut rtnl = Rtnl::open_in(&a.netns).unwrap();
    let links = rtnl.links().unwrap();
    let names: Vec<_> = links.iter().map(|l| (l.name.as_str(), l.up, l.mtu)).collect();
    assert!(names.contains(&("lo", true, 65536)) && names.contains(&("eth0", true, 1400)));
    let eth0 = links.iter().find(|l| l.name == "eth0").unwrap().index;
    let addresses = rtnl.addresses().unwrap();
    let own: Vec<_> = addresses.iter().filter(|x| x.link == eth0).collect();
    assert_eq!(own.len(), 1, "no address beside its own, not even link-local: {own:?}");
    assert_eq!(own[0].prefix, 32);

    let name = pod::host_interface(&a.uid);
    let setting = |dir: &str, setting: &str| {
        let path = format!("/proc/sys/net/ipv4/{dir}/{setting}");
        inside(&node.netns, || std::fs::read_to_string(path)).trim().to_owned()
    };
    let host_end = format!("conf/{name}");
    assert_eq!(setting(&host_end, "rp_filter"), "1");
    assert_eq!(setting(&host_end, "send_redirects"), "0");
    assert_eq!(setting("conf/all", "send_redirects"), "0");
    assert_eq!(setting("", "ip_forward"), "1");
    assert_eq!(inside(&node.netns, network::host::mtu), 1500);
}

#[test]
fn pods_come_and_go() {
    let node = Node::new();
    let a = node.pod(2);
    let attached = || inside(&node.netns, pod::attached);
    assert_eq!(attached().len(), 1);
    assert_eq!((attached()[0].uid.as_str(), attached()[0].address), ("uid-2", Some(a.ip)));
    assert!(inside(&node.netns, || pod::is_attached(&path(&a.netns), "eth0", a.ip)));

    // Connecting it again, in a namespace of its own or a new one, leaves one connection.
    let again = node.pod(2);
    assert_eq!(attached().len(), 1);
    assert!(!inside(&node.netns, || pod::is_attached(&path(&a.netns), "eth0", a.ip)));
    let _server = Server::tcp(&again.netns, "again", at(again.ip, 8080));
    assert_eq!(tcp(&node.netns, at(again.ip, 8080)), format!("again {GATEWAY}"));

    inside(&node.netns, || pod::disconnect("uid-2", again.ip));
    assert_eq!(attached()[0].address, None);
    let gone = try_tcp(&node.netns, at(again.ip, 8080), common::SILENCE).unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::HostUnreachable, "and not sent elsewhere");
    inside(&node.netns, || pod::disconnect("uid-2", again.ip));
    inside(&node.netns, || pod::detach("uid-2", Some(again.ip)));
    inside(&node.netns, || pod::detach("uid-2", Some(again.ip)));
    assert!(attached().is_empty());
}

#[test]
fn a_pod_that_cannot_be_connected_leaves_nothing() {
    let node = Node::new();
    let netns = common::new_netns();
    let path = path(&netns);
    let attach = |netns: &std::path::Path, settings: &[(String, String)]| {
        let attachment = pod::Attachment {
            uid: "x",
            title: "test/x",
            netns,
            interface: "eth0",
            address: [10, 42, 0, 9].into(),
            host_address: GATEWAY,
            mtu: 1500,
            settings,
        };
        node.netns.run(|| pod::attach(&attachment)).unwrap()
    };
    let setting = |name: &str| [(name.to_owned(), "512".to_owned())];
    let error = attach(&path, &setting("net.core.nonsense")).unwrap_err();
    assert!(error.to_string().starts_with("setting net.core.nonsense=512: "), "{error}");
    assert!(inside(&node.netns, pod::attached).is_empty());
    let error = attach("/proc/self/ns/uts".as_ref(), &[]).unwrap_err();
    assert!(error.to_string().contains("uts") || error.to_string().contains("host"), "{error}");
    assert!(attach("/nonexistent".as_ref(), &[]).is_err());
    assert!(inside(&node.netns, pod::attached).is_empty());

    attach(&path, &setting("net.core.somaxconn")).unwrap();
    let somaxconn = "/proc/sys/net/core/somaxconn";
    assert_eq!(inside(&netns, || std::fs::read_to_string(somaxconn)).trim(), "512");
    assert_ne!(inside(&node.netns, || std::fs::read_to_string(somaxconn)).trim(), "512");
}

#[test]
fn an_address_on_the_loopback_answers() {
    let node = Node::new();
    let a = node.pod(2);
    let dns = [10, 43, 0, 10].into();
    inside(&node.netns, || loopback::hold(dns));
    inside(&node.netns, || loopback::hold(dns));
    assert!(inside(&node.netns, loopback::held).contains(&dns));
    let config = network::proxy::Config { held: vec![dns], ..Node::config() };
    let kube_dns = network::proxy::ServicePort {
        id: "kube-system/kube-dns:dns-tcp".into(),
        port: 53,
        cluster_ips: vec![dns],
        ..Default::default()
    };
    let _proxy = inside(&node.netns, || network::proxy::Proxy::start(config, [kube_dns]));
    let _server = Server::tcp(&node.netns, "dns", at(dns, 53));
    assert_eq!(tcp(&a.netns, at(dns, 53)), format!("dns {}", a.ip));
    assert!(tcp(&node.netns, at(dns, 53)).starts_with("dns "));
    let udp = Server::udp(&node.netns, "dns", at(dns, 53));
    let client = common::UdpClient::new(&a.netns, at(dns, 53));
    assert_eq!(client.ask().unwrap(), format!("dns {}", a.ip));
    drop(udp);
    inside(&node.netns, || loopback::release(dns));
    inside(&node.netns, || loopback::release(dns));
    assert!(!inside(&node.netns, loopback::held).contains(&dns));
}

/// Runs `work` on a runtime all of whose threads are in the node's namespace.
fn on_runtime<T: Send>(node: &Node, work: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        // Threads for blocking work are started by this one, and so in its namespace.
        builder.enable_all().build().expect("a runtime").block_on(work())
    };
    node.netns.run(run).expect("enter the namespace")
}

#[test]
fn the_pod_network_gives_addresses_and_remembers_them_over_a_restart() {
    let node = Node::new();
    let netns = [common::new_netns(), common::new_netns()];
    let web =
        HostPort { protocol: Protocol::Tcp, host_ip: None, host_port: 8443, container_port: 8080 };
    let pod = |n: usize| Pod {
        uid: format!("uid-{n}"),
        namespace: "default".into(),
        name: format!("pod-{n}"),
        netns: path(&netns[n]),
        host_ports: vec![web],
        settings: vec![],
    };
    let server = |n: usize, ip| Server::tcp(&netns[n], &format!("pod-{n}"), at(ip, 8080));
    let proxy = Handle::new(node.proxy(vec![]));
    let adopt = || PodNetwork::adopt(common::cidr("10.42.0.0/24"), 1400, proxy.clone()).unwrap();
    on_runtime(&node, async || {
        let network = adopt();
        let first = network.attach(pod(0)).await.unwrap();
        assert_eq!(network.address("uid-0"), Some(first));
        let _server = server(0, first);
        assert_eq!(tcp(&node.client, at(NODE_IP, 8443)), format!("pod-0 {CLIENT_IP}"));
        assert_eq!(network.attach(pod(0)).await.unwrap(), first, "the same again");

        let network = adopt();
        assert_eq!(network.address("uid-0"), Some(first));
        assert_eq!(network.attach(pod(0)).await.unwrap(), first);
        network.detach("uid-0").await.unwrap();
        network.detach("uid-0").await.unwrap();
        assert_eq!(network.address("uid-0"), None);
        assert!(try_tcp(&node.client, at(NODE_IP, 8443), common::SILENCE).is_err());

        let second = network.attach(pod(1)).await.unwrap();
        assert_ne!(first, second, "a freed address is not used again at once");
        let _server = server(1, second);
        assert_eq!(tcp(&node.client, at(NODE_IP, 8443)), format!("pod-1 {CLIENT_IP}"));
    });
}

#[test]
fn cleanup_leaves_nothing() {
    let node = Node::new();
    let before = {
        let other = Node::new();
        inside(&other.netns, cleanup);
        state(&other)
    };
    let a = node.pod(2);
    let _b = node.pod(3);
    let _proxy = node.proxy(vec![common::service(1, &[&a])]);
    inside(&node.netns, || loopback::hold([10, 43, 0, 10].into()));
    assert_ne!(state(&node), before);
    inside(&node.netns, cleanup);
    assert_eq!(state(&node), before);
    inside(&node.netns, cleanup);
    let tables = inside(&node.netns, || netlink::nft::Nft::open()?.chains());
    assert!(tables.is_empty());
    let links = inside(&node.netns, || Rtnl::open()?.links());
    assert!(links.iter().any(|l| l.name == "ext0"), "what is not ours stays");
}

/// Names of links, addresses and routes of the node.
fn state(node: &Node) -> (Vec<String>, Vec<std::net::IpAddr>, usize) {
    let (links, addresses, routes) = inside(&node.netns, || {
        let mut rtnl = Rtnl::open()?;
        netlink::Result::Ok((rtnl.links()?, rtnl.addresses()?, rtnl.routes()?))
    });
    let mut links: Vec<_> = links.into_iter().map(|l| l.name).collect();
    links.sort();
    // The kernel's own link-local addresses differ.
    let addresses = addresses.into_iter().map(|a| a.address);
    let mut addresses: Vec<_> = addresses.filter(|a| a.is_ipv4()).collect();
    addresses.sort();
    (links, addresses, routes.iter().filter(|r| r.destination.is_ipv4()).count())
}
