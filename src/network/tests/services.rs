//! The service proxy as pods, the node and clients outside see it. Needs root.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use common::{
    CLIENT_IP, GATEWAY, NODE_IP, Node, Server, TestPod, UdpClient, at, cidr, cluster_ip, inside,
    no_tcp, servers, service, tcp,
};
use netlink::nft::{
    BaseChain, Batch, ChainKind, Comparison, Expressions, Family, Hook, Nft, PayloadBase, Policy,
    Reg, Reject, Verdict,
};
use network::TABLE;
use network::hostports::HostPort;
use network::proxy::{Change, Endpoint, Protocol, ServicePort};

/// Two pods with a TCP server each, and one without.
struct Pods {
    a: TestPod,
    b: TestPod,
    client: TestPod,
    _servers: [Server; 2],
}

impl Pods {
    fn new(node: &Node) -> Self {
        let (a, b, client) = (node.pod(2), node.pod(3), node.pod(4));
        let server = |name, pod: &TestPod| Server::tcp(&pod.netns, name, at(pod.ip, 8080));
        let _servers = [server("a", &a), server("b", &b)];
        Self { a, b, client, _servers }
    }
}

/// A server outside that plays an endpoint on another node.
fn elsewhere(node: &Node) -> (Server, Endpoint) {
    let server = Server::tcp(&node.client, "elsewhere", at(CLIENT_IP, 8080));
    (server, Endpoint::new(CLIENT_IP, 8080, false))
}

fn upsert(port: &ServicePort) -> [Change; 1] {
    [Change::Upsert(port.clone())]
}

const EXTERNAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 80);
const NODE_PORT: SocketAddrV4 = SocketAddrV4::new(NODE_IP, 30080);

fn exposed(n: u8, endpoints: &[&TestPod]) -> ServicePort {
    ServicePort {
        node_port: Some(30080),
        external_ips: vec![*EXTERNAL.ip()],
        ..service(n, endpoints)
    }
}

#[test]
fn cluster_ip_from_pods_and_from_the_node() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let _proxy = node.proxy(vec![service(1, &[&pods.a, &pods.b]), service(2, &[&pods.b])]);
    assert_eq!(servers(&pods.client.netns, cluster_ip(1), 40), ["a", "b"]);
    assert_eq!(servers(&node.netns, cluster_ip(1), 40), ["a", "b"]);
    assert_eq!(tcp(&pods.client.netns, cluster_ip(2)), format!("b {}", pods.client.ip));
    assert_eq!(tcp(&node.netns, cluster_ip(2)), format!("b {GATEWAY}"));
    // A client outside that routes the service network this way is led back by way of the node.
    assert_eq!(tcp(&node.client, cluster_ip(2)), format!("b {GATEWAY}"));
}

#[test]
fn the_node_reaches_services_without_a_default_route() {
    let node = Node::new().without_default_route();
    let pods = Pods::new(&node);
    let _proxy = node.proxy(vec![service(1, &[&pods.a])]);
    assert_eq!(tcp(&node.netns, cluster_ip(1)), format!("a {GATEWAY}"));
}

#[test]
fn a_pod_reaches_itself_by_its_service() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let _proxy = node.proxy(vec![exposed(1, &[&pods.a])]);
    for address in [cluster_ip(1), EXTERNAL, NODE_PORT] {
        assert_eq!(tcp(&pods.a.netns, address), format!("a {GATEWAY}"));
    }
}

#[test]
fn node_ports_and_external_addresses() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let port = ServicePort { load_balancer_ips: vec![NODE_IP], ..exposed(1, &[&pods.a, &pods.b]) };
    let _proxy = node.proxy(vec![port]);
    let on_node = Server::tcp(&node.netns, "node", at(NODE_IP, 8081));
    for address in [NODE_PORT, EXTERNAL, at(NODE_IP, 80)] {
        assert_eq!(servers(&node.client, address, 20), ["a", "b"], "{address} from outside");
        assert_eq!(servers(&node.netns, address, 20), ["a", "b"], "{address} from the node");
        assert_eq!(servers(&pods.client.netns, address, 20), ["a", "b"], "{address} from a pod");
    }
    // The client's answers have to come back this way; a pod's do anyhow.
    assert!(tcp(&node.client, NODE_PORT).ends_with(&format!(" {GATEWAY}")));
    let seen = tcp(&pods.client.netns, NODE_PORT);
    assert!(seen.ends_with(&format!(" {}", pods.client.ip)), "{seen}");
    // Not at the loopback, nor at other ports, and not in the way of the node's own servers.
    assert_eq!(no_tcp(&node.netns, at(Ipv4Addr::LOCALHOST, 30080)), ErrorKind::ConnectionRefused);
    assert_eq!(no_tcp(&node.client, at(NODE_IP, 30081)), ErrorKind::ConnectionRefused);
    assert_eq!(tcp(&node.client, at(NODE_IP, 8081)), format!("node {CLIENT_IP}"));
    drop(on_node);
}

#[test]
fn without_endpoints_connections_are_refused_at_once() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let udp = ServicePort { protocol: Protocol::Udp, ..service(2, &[]) };
    let mut proxy = node.proxy(vec![exposed(1, &[]), udp]);
    for address in [cluster_ip(1), EXTERNAL, NODE_PORT] {
        for netns in [&pods.client.netns, &node.netns, &node.client] {
            assert_eq!(no_tcp(netns, address), ErrorKind::ConnectionRefused, "{address}");
        }
    }
    let refused = UdpClient::new(&pods.client.netns, cluster_ip(2)).ask().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // A port that the service does not have, and an address that no service has.
    let other = at(*cluster_ip(1).ip(), 81);
    assert_eq!(no_tcp(&pods.client.netns, other), ErrorKind::ConnectionRefused);
    assert_eq!(no_tcp(&node.netns, other), ErrorKind::ConnectionRefused);
    assert_eq!(no_tcp(&pods.client.netns, cluster_ip(9)), ErrorKind::TimedOut);

    proxy.apply(upsert(&exposed(1, &[&pods.a]))).unwrap();
    assert_eq!(servers(&node.client, NODE_PORT, 3), ["a"]);
    assert_eq!(servers(&pods.client.netns, cluster_ip(1), 3), ["a"]);
}

#[test]
fn endpoints_and_services_come_and_go() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let mut proxy = node.proxy(vec![service(1, &[&pods.a, &pods.b])]);
    let from = &pods.client.netns;
    assert_eq!(servers(from, cluster_ip(1), 30), ["a", "b"]);
    proxy.apply(upsert(&service(1, &[&pods.b]))).unwrap();
    assert_eq!(servers(from, cluster_ip(1), 30), ["b"]);
    proxy.apply(upsert(&service(1, &[&pods.a, &pods.b]))).unwrap();
    assert_eq!(servers(from, cluster_ip(1), 30), ["a", "b"]);
    proxy.apply(upsert(&service(2, &[&pods.a]))).unwrap();
    assert_eq!(servers(from, cluster_ip(2), 3), ["a"]);
    // The same endpoints, now at another address.
    let moved = ServicePort { cluster_ips: service(3, &[]).cluster_ips, ..service(1, &[&pods.b]) };
    proxy.apply(upsert(&moved)).unwrap();
    assert_eq!(servers(from, cluster_ip(3), 3), ["b"]);
    assert_eq!(no_tcp(from, cluster_ip(1)), ErrorKind::TimedOut);
    let gone = [moved.id, service(2, &[]).id].map(Change::Remove);
    proxy.apply(gone).unwrap();
    assert_eq!(no_tcp(from, cluster_ip(3)), ErrorKind::TimedOut);
    assert_eq!(no_tcp(from, cluster_ip(2)), ErrorKind::TimedOut);
}

#[test]
fn external_traffic_policy_local_keeps_the_client_address() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let (_server, remote) = elsewhere(&node);
    let mut port = ServicePort { external_traffic_local: true, ..exposed(1, &[&pods.a]) };
    port.endpoints.push(remote);
    let mut proxy = node.proxy(vec![port.clone()]);
    for address in [NODE_PORT, EXTERNAL] {
        assert_eq!(servers(&node.client, address, 20), ["a"], "{address} from outside");
        assert_eq!(tcp(&node.client, address), format!("a {CLIENT_IP}"));
        // Pods and the node are not outside.
        assert_eq!(servers(&pods.client.netns, address, 30), ["a", "elsewhere"], "{address}");
        assert_eq!(servers(&node.netns, address, 30), ["a", "elsewhere"], "{address}");
    }
    port.endpoints.remove(0);
    proxy.apply(upsert(&port)).unwrap();
    for address in [NODE_PORT, EXTERNAL] {
        assert_eq!(no_tcp(&node.client, address), ErrorKind::TimedOut, "dropped: {address}");
        assert_eq!(servers(&pods.client.netns, address, 3), ["elsewhere"]);
        assert_eq!(servers(&node.netns, address, 3), ["elsewhere"]);
    }
}

#[test]
fn internal_traffic_policy_local() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let (_server, remote) = elsewhere(&node);
    let mut port = ServicePort { internal_traffic_local: true, ..exposed(1, &[&pods.a]) };
    port.endpoints.push(remote);
    let mut proxy = node.proxy(vec![port.clone()]);
    assert_eq!(servers(&pods.client.netns, cluster_ip(1), 20), ["a"]);
    assert_eq!(servers(&pods.client.netns, EXTERNAL, 30), ["a", "elsewhere"]);
    port.endpoints.remove(0);
    proxy.apply(upsert(&port)).unwrap();
    assert_eq!(no_tcp(&pods.client.netns, cluster_ip(1)), ErrorKind::TimedOut);
    assert_eq!(no_tcp(&node.netns, cluster_ip(1)), ErrorKind::TimedOut);
    assert_eq!(servers(&pods.client.netns, EXTERNAL, 3), ["elsewhere"]);
}

#[test]
fn clients_with_affinity_stay_with_their_endpoint() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let sticky = |endpoints: &[&TestPod]| ServicePort {
        affinity: Some(Duration::from_secs(3600)),
        ..exposed(1, endpoints)
    };
    let both = [&pods.a, &pods.b];
    let mut proxy = node.proxy(vec![sticky(&both)]);
    let from = &pods.client.netns;
    let chosen = servers(from, cluster_ip(1), 20);
    assert_eq!(chosen.len(), 1, "{chosen:?}");
    // At all addresses of the service, and also if the proxy is started again.
    for address in [NODE_PORT, EXTERNAL] {
        assert_eq!(servers(from, address, 20), chosen, "{address}");
    }
    drop(proxy);
    proxy = node.proxy(vec![sticky(&both)]);
    assert_eq!(servers(from, cluster_ip(1), 20), chosen, "after a restart");
    assert_eq!(servers(&node.client, NODE_PORT, 20).len(), 1);

    let (gone, left) = match chosen[0].as_str() {
        "a" => (&pods.a, &pods.b),
        _ => (&pods.b, &pods.a),
    };
    // Without another endpoint it stays; without its own it gets the other, and stays there.
    proxy.apply(upsert(&sticky(&[gone]))).unwrap();
    assert_eq!(servers(from, cluster_ip(1), 5), chosen);
    proxy.apply(upsert(&sticky(&[left]))).unwrap();
    let other = servers(from, cluster_ip(1), 5);
    assert_ne!(other, chosen);
    proxy.apply(upsert(&sticky(&both))).unwrap();
    assert_eq!(servers(from, cluster_ip(1), 20), other);
    // And without affinity it gets both.
    proxy.apply(upsert(&exposed(1, &both))).unwrap();
    assert_eq!(servers(from, cluster_ip(1), 30), ["a", "b"]);
    proxy.apply([Change::Remove(exposed(1, &[]).id)]).unwrap();
    let elements =
        inside(&node.netns, || Nft::open()?.elements(Family::Ip, TABLE, "service-affinity"));
    assert!(elements.is_empty());
}

#[test]
fn source_ranges_of_a_load_balancer() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let mut port = ServicePort {
        load_balancer_ips: vec![*EXTERNAL.ip()],
        load_balancer_source_ranges: vec![cidr("10.0.0.0/8"), cidr("10.42.0.0/16")],
        node_port: Some(30080),
        ..service(1, &[&pods.a])
    };
    let mut proxy = node.proxy(vec![port.clone()]);
    assert_eq!(servers(&pods.client.netns, EXTERNAL, 3), ["a"]);
    assert_eq!(no_tcp(&node.client, EXTERNAL), ErrorKind::TimedOut);
    assert_eq!(servers(&node.client, NODE_PORT, 3), ["a"], "only the load balancer's address");
    assert_eq!(servers(&node.netns, EXTERNAL, 3), ["a"], "the node itself may");
    port.load_balancer_source_ranges.push(cidr("192.0.2.2/32"));
    proxy.apply(upsert(&port)).unwrap();
    assert_eq!(servers(&node.client, EXTERNAL, 3), ["a"]);
    port.load_balancer_source_ranges.clear();
    proxy.apply(upsert(&port)).unwrap();
    assert_eq!(servers(&node.client, EXTERNAL, 3), ["a"]);
}

#[test]
fn udp_clients_leave_an_endpoint_that_is_gone() {
    let node = Node::new();
    let (a, b, client) = (node.pod(2), node.pod(3), node.pod(4));
    let server = |name, pod: &TestPod| Server::udp(&pod.netns, name, at(pod.ip, 8080));
    let _servers = [server("a", &a), server("b", &b)];
    let udp =
        |endpoints: &[&TestPod]| ServicePort { protocol: Protocol::Udp, ..exposed(1, endpoints) };
    let mut proxy = node.proxy(vec![udp(&[&a])]);
    let inner = UdpClient::new(&client.netns, cluster_ip(1));
    let outer = UdpClient::new(&node.client, NODE_PORT);
    assert_eq!(inner.ask().unwrap(), format!("a {}", client.ip));
    assert_eq!(outer.ask().unwrap(), format!("a {GATEWAY}"));
    // A flow that does not go to the service has nothing to do with it.
    let direct = UdpClient::new(&client.netns, at(a.ip, 8080));
    assert_eq!(direct.ask().unwrap(), format!("a {}", client.ip));

    proxy.apply(upsert(&udp(&[&a, &b]))).unwrap();
    assert_eq!(inner.ask().unwrap(), format!("a {}", client.ip), "flows stay");
    proxy.apply(upsert(&udp(&[&b]))).unwrap();
    assert_eq!(inner.ask().unwrap(), format!("b {}", client.ip));
    assert_eq!(outer.ask().unwrap(), format!("b {GATEWAY}"));
    assert_eq!(direct.ask().unwrap(), format!("a {}", client.ip));

    proxy.apply(upsert(&udp(&[]))).unwrap();
    assert_eq!(inner.ask().unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // A client that was there before the service.
    proxy.apply([Change::Remove(udp(&[]).id)]).unwrap();
    proxy.apply(upsert(&udp(&[&a]))).unwrap();
    assert_eq!(inner.ask().unwrap(), format!("a {}", client.ip));
}

#[test]
fn host_ports_lead_to_their_pod() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let mut proxy = node.proxy(vec![]);
    let port = |host_ip, host_port| HostPort {
        protocol: Protocol::Tcp,
        host_ip,
        host_port,
        container_port: 8080,
    };
    let (all, one) = (port(None, 80), port(Some(NODE_IP), 81));
    proxy.apply([all.open("uid-2", pods.a.ip), one.open("uid-3", pods.b.ip)]).unwrap();
    assert_eq!(tcp(&node.client, at(NODE_IP, 80)), format!("a {CLIENT_IP}"));
    assert_eq!(tcp(&node.client, at(NODE_IP, 81)), format!("b {CLIENT_IP}"));
    assert!(tcp(&node.netns, at(NODE_IP, 80)).starts_with("a "));
    assert_eq!(tcp(&pods.client.netns, at(NODE_IP, 80)), format!("a {}", pods.client.ip));
    assert_eq!(tcp(&pods.a.netns, at(NODE_IP, 80)), format!("a {GATEWAY}"), "itself");
    assert_eq!(no_tcp(&pods.client.netns, at(GATEWAY, 81)), ErrorKind::ConnectionRefused);
    proxy.apply([all.close("uid-2"), one.close("uid-3")]).unwrap();
    assert_eq!(no_tcp(&node.client, at(NODE_IP, 80)), ErrorKind::ConnectionRefused);
}

/// Upstream's conformance test of host ports has one at 127.0.0.1, and a client with the node's
/// address.
#[test]
fn host_ports_of_one_number_at_several_addresses() {
    let node = Node::new();
    let (a, b) = (node.pod(2), node.pod(3));
    let server = |name, pod: &TestPod| Server::udp(&pod.netns, name, at(pod.ip, 8080));
    let _servers = [server("a", &a), server("b", &b)];
    let mut proxy = node.proxy(vec![]);
    let open = |ip, pod: &TestPod| {
        let port = HostPort {
            protocol: Protocol::Udp,
            host_ip: Some(ip),
            host_port: 54323,
            container_port: 8080,
        };
        port.open(&pod.uid, pod.ip)
    };
    proxy.apply([open(Ipv4Addr::LOCALHOST, &a), open(NODE_IP, &b)]).unwrap();
    let ask = |netns, from, to| UdpClient::bound(netns, from, at(to, 54323)).ask().unwrap();
    assert_eq!(ask(&node.netns, NODE_IP, Ipv4Addr::LOCALHOST), format!("a {GATEWAY}"));
    assert_eq!(ask(&node.netns, NODE_IP, NODE_IP), format!("b {GATEWAY}"));
    assert_eq!(ask(&node.client, CLIENT_IP, NODE_IP), format!("b {CLIENT_IP}"));
}

#[test]
fn firewalls_of_others_are_found() {
    let node = Node::new();
    let _proxy = node.proxy(vec![]);
    let found = || {
        let pods = "10.42.0.0/16".parse().unwrap();
        let chains = inside(&node.netns, || network::firewall::obstacles(pods));
        chains.into_iter().map(|c| format!("{} {}", c.table, c.chain)).collect::<Vec<_>>()
    };
    assert!(found().is_empty());
    let mut batch = Batch::new(Family::Inet, "firewall");
    batch.add_table("");
    let chain =
        |name, hook, policy| BaseChain { name, kind: ChainKind::Filter, hook, priority: 0, policy };
    batch.add_base_chain(&chain("fwd", Hook::Forward, Policy::Drop));
    batch.add_base_chain(&chain("in", Hook::Input, Policy::Accept));
    batch.add_base_chain(&chain("out", Hook::Output, Policy::Drop));
    inside(&node.netns, || Nft::open()?.commit(batch));
    assert_eq!(found(), ["firewall fwd"]);

    // A last rule that refuses everything is as good as a policy.
    let change = |rules: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new(Family::Inet, "firewall");
        rules(&mut batch);
        inside(&node.netns, || Nft::open()?.commit(batch));
    };
    change(&|batch| {
        batch.rule("in", |rule| {
            rule.counter().reject(Reject::Prohibited);
        })
    });
    assert_eq!(found(), ["firewall fwd", "firewall in"]);
    // An exception counts in its own chain, and in one that is not run by itself in all.
    let pods = |rule: &mut Expressions<'_>| {
        rule.payload(Reg::new(0), PayloadBase::Network, 12, 2);
        rule.compare(Reg::new(0), Comparison::Equal, &[10, 42]).verdict(Verdict::Accept);
    };
    change(&|batch| batch.rule("fwd", pods));
    assert_eq!(found(), ["firewall in"]);
    change(&|batch| {
        batch.add_chain("user");
        batch.rule("user", pods);
    });
    assert!(found().is_empty());
}

#[test]
fn a_table_that_someone_removed_comes_back() {
    let node = Node::new();
    let pods = Pods::new(&node);
    let mut proxy = node.proxy(vec![service(1, &[&pods.a])]);
    let remove = || {
        inside(&node.netns, || {
            let mut batch = Batch::new(Family::Ip, TABLE);
            batch.delete_table();
            Nft::open()?.commit(batch)
        });
    };
    remove();
    proxy.apply(upsert(&service(2, &[&pods.b]))).unwrap();
    assert_eq!(servers(&pods.client.netns, cluster_ip(1), 3), ["a"]);
    assert_eq!(servers(&pods.client.netns, cluster_ip(2), 3), ["b"]);
    remove();
    proxy.verify().unwrap();
    assert_eq!(servers(&pods.client.netns, cluster_ip(1), 3), ["a"]);
    proxy.verify().unwrap();

    // A foreign table of the same name is not ours.
    remove();
    inside(&node.netns, || {
        let mut batch = Batch::new(Family::Ip, TABLE);
        batch.add_table("");
        Nft::open()?.commit(batch)
    });
    proxy.verify().unwrap();
    assert_eq!(servers(&pods.client.netns, cluster_ip(2), 3), ["b"]);
}

#[test]
fn connections_go_on_while_the_table_is_loaded_again() {
    use std::io::{Read, Write};
    let node = Node::new();
    let pods = Pods::new(&node);
    let listener = inside(&pods.a.netns, || std::net::TcpListener::bind(at(pods.a.ip, 8082)));
    let mut port = service(1, &[&pods.a]);
    port.endpoints[0].port = 8082;
    let proxy = node.proxy(vec![port.clone()]);
    let mut near = inside(&pods.client.netns, || std::net::TcpStream::connect(cluster_ip(1)));
    let (mut far, _) = listener.accept().unwrap();
    drop(proxy);
    let mut proxy = node.proxy(vec![port]);
    proxy.apply([Change::Remove(service(1, &[]).id)]).unwrap();
    near.write_all(b"still there").unwrap();
    let mut heard = [0; 11];
    far.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"still there");
}
