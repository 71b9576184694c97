//! rtnetlink against the kernel, in network namespaces of the test's own. Needs root.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use netlink::rtnl::{
    Address, ForwardingEntry, InetConf, LinkChange, Neighbour, Requests, Route, Rtnl, Scope, Veth,
    VethEnd, Via, Vxlan,
};
use netlink::{Error, Netns};

const PROTOCOL: u8 = 107;

fn netns() -> Netns {
    Netns::create().expect("making a network namespace needs root")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn veth<'a>(peer: &'a Netns, group: u32) -> Veth<'a> {
    let end = VethEnd { name: "kn0", mac: [2, 0, 0, 0, 0, 1], netns: None, group };
    let peer_end =
        VethEnd { name: "eth0", mac: [2, 0, 0, 0, 0, 2], netns: Some(peer.as_fd()), ..end };
    Veth { end, peer: peer_end, mtu: 1400 }
}

fn execute(
    rtnl: &mut Rtnl,
    fill: impl FnOnce(&mut Requests) -> &mut Requests,
) -> Result<(), Error> {
    let mut requests = Requests::new();
    fill(&mut requests);
    rtnl.execute(&requests)
}

#[test]
fn veth_pair_with_its_peer_in_another_namespace() {
    let (host, pod) = (netns(), netns());
    let mut outside = Rtnl::open_in(&host).unwrap();
    let mut inside = Rtnl::open_in(&pod).unwrap();
    execute(&mut outside, |r| r.add_veth(&veth(&pod, 7))).unwrap();

    let kn0 = outside.link_by_name("kn0").unwrap();
    assert_eq!((kn0.kind.as_str(), kn0.mtu, kn0.group, kn0.up), ("veth", 1400, 7, false));
    assert_eq!((kn0.mac, kn0.alias.as_str()), (Some([2, 0, 0, 0, 0, 1]), ""));
    assert!(outside.link_by_name("eth0").unwrap_err().is_not_found());
    let eth0 = inside.link_by_name("eth0").unwrap();
    assert_eq!(eth0.mac, Some([2, 0, 0, 0, 0, 2]));

    let again = execute(&mut outside, |r| r.add_veth(&veth(&pod, 7))).unwrap_err();
    assert!(again.is_exists(), "{again}");
    assert!(again.to_string().starts_with("create veth pair: "), "{again}");

    let settings = [(InetConf::SendRedirects, 0), (InetConf::RpFilter, 1)];
    execute(&mut outside, |r| {
        r.set_link(
            kn0.index,
            &LinkChange { inet: &settings, alias: Some("pod x"), ..LinkChange::default() },
        );
        r.set_link(
            kn0.index,
            &LinkChange { up: Some(true), mtu: Some(1300), ..LinkChange::default() },
        )
    })
    .unwrap();
    let read = |name: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/kn0/{name}");
        host.run(|| std::fs::read_to_string(path)).unwrap().unwrap()
    };
    assert_eq!((read("send_redirects").trim(), read("rp_filter").trim()), ("0", "1"));
    let kn0 = outside.link_by_name("kn0").unwrap();
    assert!(kn0.up && kn0.mtu == 1300 && kn0.alias == "pod x");

    execute(&mut outside, |r| r.delete_link_group(7)).unwrap();
    assert!(inside.link_by_name("eth0").unwrap_err().is_not_found());
    assert!(execute(&mut outside, |r| r.delete_link_group(7)).unwrap_err().is_not_found());
}

#[test]
fn addresses_routes_and_neighbours() {
    let (host, pod) = (netns(), netns());
    let mut rtnl = Rtnl::open_in(&host).unwrap();
    execute(&mut rtnl, |r| r.add_veth(&veth(&pod, 0))).unwrap();
    let (lo, kn0) = (rtnl.link_by_name("lo").unwrap(), rtnl.link_by_name("kn0").unwrap());
    assert!(lo.loopback && !lo.up);
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    let held = Address {
        link: lo.index,
        address: ip("10.42.0.1"),
        prefix: 32,
        scope: Scope::Host,
        label: "lo:kn".into(),
    };
    let link = Route::on_link(ip("10.42.0.5"), 32, kn0.index, PROTOCOL).from(ip("10.42.0.1"));
    let default =
        Route::on_link(ip("0.0.0.0"), 0, kn0.index, PROTOCOL).via(Via::OnLink(ip("169.254.1.1")));
    let nowhere = Route::unreachable(ip("10.42.0.0"), 24, PROTOCOL);
    let neighbour =
        Neighbour { link: kn0.index, address: ip("10.42.0.5"), mac: [2, 0, 0, 0, 0, 2] };
    execute(&mut rtnl, |r| {
        r.set_link(lo.index, &up).set_link(kn0.index, &up);
        r.add_address(&held).add_address(&held);
        r.replace_route(&link).replace_route(&link).add_route(&default).add_route(&nowhere);
        r.add_neighbour(&neighbour).add_neighbour(&neighbour)
    })
    .unwrap();
    execute(&mut Rtnl::open_in(&pod).unwrap(), |r| r.set_link(2, &up)).unwrap();

    assert!(rtnl.addresses().unwrap().contains(&held));
    let mine: Vec<_> =
        rtnl.routes().unwrap().into_iter().filter(|r| r.protocol == PROTOCOL).collect();
    assert_eq!(mine.len(), 3, "{mine:?}");
    assert!([&link, &default, &nowhere].iter().all(|r| mine.contains(r)), "{mine:?}");
    assert_eq!(rtnl.default_route().unwrap(), Some(default.clone()));
    let to = rtnl.route_to(ip("10.42.0.5")).unwrap();
    assert_eq!((to.link, to.source), (kn0.index, Some(ip("10.42.0.1"))));

    assert!(execute(&mut rtnl, |r| r.add_route(&default)).unwrap_err().is_exists());
    let refused = execute(&mut rtnl, |r| {
        r.delete_route(&default).delete_route(&default).delete_neighbour(&neighbour);
        r.delete_address(&held)
    });
    assert!(refused.unwrap_err().is_not_found(), "the second deletion of the route");
    execute(&mut rtnl, |r| r.delete_route(&nowhere)).unwrap();
    // Those after the refused one were carried out.
    assert!(!rtnl.addresses().unwrap().contains(&held));
    assert_eq!(rtnl.default_route().unwrap(), None);
}

#[test]
fn vxlan_with_a_forwarding_table_of_its_own() {
    let host = netns();
    let mut rtnl = Rtnl::open_in(&host).unwrap();
    let vxlan = Vxlan {
        name: "kn-vxlan",
        id: 1,
        mac: [2, 0, 0, 0, 1, 1],
        local: Ipv4Addr::new(192, 0, 2, 1),
        underlay: 0,
        port: 8472,
        mtu: 1450,
        group: 7,
    };
    execute(&mut rtnl, |r| r.add_vxlan(&vxlan)).unwrap();
    let link = rtnl.link_by_name("kn-vxlan").unwrap();
    assert_eq!((link.kind.as_str(), link.mtu, link.group), ("vxlan", 1450, 7));
    let entry =
        ForwardingEntry { link: link.index, mac: [2, 0, 0, 0, 1, 2], remote: ip("192.0.2.2") };
    execute(&mut rtnl, |r| {
        r.set_link(link.index, &LinkChange { up: Some(true), ..LinkChange::default() });
        r.add_forwarding(&entry).add_forwarding(&entry).delete_forwarding(&entry);
        r.delete_link(link.index)
    })
    .unwrap();
    assert!(rtnl.link_by_name("kn-vxlan").is_err());
}

#[test]
fn more_requests_than_a_datagram_takes() {
    let host = netns();
    let mut rtnl = Rtnl::open_in(&host).unwrap();
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    execute(&mut rtnl, |r| r.set_link(1, &up)).unwrap();
    let route = |n: u32| Route::on_link(Ipv4Addr::from(0x0a00_0000 + n).into(), 32, 1, PROTOCOL);
    execute(&mut rtnl, |r| (0..2000).fold(r, |r, n| r.add_route(&route(n)))).unwrap();
    assert_eq!(rtnl.routes().unwrap().iter().filter(|r| r.protocol == PROTOCOL).count(), 2000);
}
