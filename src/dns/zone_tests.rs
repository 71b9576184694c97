use super::*;
use ipnet::IpNet;

use crate::model::{Protocol, Update};

fn port(name: &str, protocol: Protocol, port: u16) -> Port {
    Port { name: name.into(), protocol, port }
}

fn endpoint(ip: &str, hostname: Option<&str>) -> Endpoint {
    Endpoint { ip: ip.parse().unwrap(), hostname: hostname.map(Into::into) }
}

fn upsert(zone: &mut Zone, namespace: &str, name: &str, addresses: Addresses) {
    let (namespace, name) = (namespace.into(), name.into());
    let record = crate::model::Record { namespace, name, addresses };
    zone.store.apply(Update::Upsert(record));
}

fn zone() -> Zone {
    let range = |text: &str| -> IpNet { text.parse().unwrap() };
    let config = Config {
        addresses: vec!["10.96.0.10".parse().unwrap()],
        ranges: vec![range("10.96.0.0/12"), range("10.42.0.0/16"), range("fd00:42::/56")],
        ..Config::default()
    };
    let mut zone = Zone::new(config, Store::new(1));
    let ips = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let ports = vec![
        port("http", Protocol::Tcp, 80),
        port("dns", Protocol::Udp, 53),
        port("", Protocol::Tcp, 9),
    ];
    upsert(
        &mut zone,
        "default",
        "web",
        Addresses::ClusterIp { ips: ips(&["10.96.0.1", "fd00:42::1"]), ports },
    );
    let http = vec![port("http", Protocol::Tcp, 8080)];
    let pods = vec![endpoint("10.42.0.5", Some("db-0")), endpoint("10.42.0.6", None)];
    let other = vec![endpoint("10.42.0.7", Some("db-2")), endpoint("192.168.1.1", None)];
    let subsets = vec![
        Subset { ports: http, endpoints: pods },
        Subset { ports: vec![port("http", Protocol::Tcp, 9090)], endpoints: other },
    ];
    upsert(&mut zone, "default", "db", Addresses::Headless(subsets));
    upsert(&mut zone, "default", "empty", Addresses::Headless(vec![]));
    let external = |name: &str| Addresses::ExternalName(name.into());
    upsert(&mut zone, "ext", "out", external("www.example.com"));
    upsert(&mut zone, "ext", "in", external("web.default.svc.cluster.local"));
    upsert(&mut zone, "ext", "nowhere", external("no.default.svc.cluster.local"));
    upsert(&mut zone, "ext", "loop-a", external("loop-b.ext.svc.cluster.local"));
    upsert(&mut zone, "ext", "loop-b", external("loop-a.ext.svc.cluster.local"));
    zone.store.apply(Update::Synced);
    zone
}

/// The answer as a line: its code, then its records in order of their text.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
    let Some(answer) = zone.answer(&Name::from_ascii(name).unwrap(), kind) else {
        return "foreign".into();
    };
    let mut records: Vec<String> = answer.answers.iter().map(|r| r.data.to_string()).collect();
    records.sort();
    let code = match (answer.code, answer.answers.is_empty()) {
        (ResponseCode::NoError, true) => "NODATA".to_owned(),
        (ResponseCode::NoError, false) => String::new(),
        (code, _) => format!("{code:?}"),
    };
    if matches!(answer.code, ResponseCode::NXDomain) || code == "NODATA" {
        let soa = answer.authority.expect("negative answers have the zone's SOA");
        assert!(soa.name.zone_of(&Name::from_ascii(name).unwrap()) || !records.is_empty());
        assert_eq!(soa.record_type(), RecordType::SOA);
    }
    let alias = answer.alias.map(|alias| format!("-> {alias}")).unwrap_or_default();
    format!("{code} {} {alias}", records.join(", ")).trim().to_owned()
}

fn check(cases: &[(&str, RecordType, &str)]) {
    let zone = zone();
    for (name, kind, expected) in cases {
        assert_eq!(ask(&zone, name, *kind), *expected, "{name} {kind}");
    }
}

use RecordType::{ANY, CNAME as ALIAS, MX, NS as SERVER, SOA as AUTHORITY};
const V4: RecordType = RecordType::A;
const V6: RecordType = RecordType::AAAA;
const SERVICE: RecordType = RecordType::SRV;
const POINTER: RecordType = RecordType::PTR;
const TEXT: RecordType = RecordType::TXT;

#[test]
fn apex_and_fixed_names() {
    check(&[
        ("dns-version.cluster.local.", TEXT, "1.1.0"),
        ("dns-version.cluster.local.", V4, "NODATA"),
        ("cluster.local.", V4, "NODATA"),
        ("cluster.local.", SERVER, "ns.dns.cluster.local."),
        (
            "cluster.local.",
            AUTHORITY,
            &format!(
                "ns.dns.cluster.local. hostmaster.cluster.local. {} 7200 1800 86400 5",
                zone().store.serial()
            ),
        ),
        ("ns.dns.cluster.local.", V4, "10.96.0.10"),
        ("ns.dns.cluster.local.", V6, "NODATA"),
        ("dns.cluster.local.", V4, "NODATA"),
        ("svc.cluster.local.", V4, "NODATA"),
        ("default.svc.cluster.local.", V4, "NODATA"),
        ("nobody.svc.cluster.local.", V4, "NXDomain"),
        ("x.cluster.local.", V4, "NXDomain"),
        ("local.", V4, "foreign"),
        ("xcluster.local.", V4, "foreign"),
        ("example.com.", V4, "foreign"),
        (".", SERVER, "foreign"),
    ]);
}

#[test]
fn cluster_ip_services() {
    check(&[
        ("web.default.svc.cluster.local.", V4, "10.96.0.1"),
        ("WEB.Default.SVC.Cluster.LOCAL.", V4, "10.96.0.1"),
        ("web.default.svc.cluster.local.", V6, "fd00:42::1"),
        ("web.default.svc.cluster.local.", ANY, "10.96.0.1, fd00:42::1"),
        ("web.default.svc.cluster.local.", MX, "NODATA"),
        ("web.default.svc.cluster.local.", TEXT, "NODATA"),
        ("no.default.svc.cluster.local.", V4, "NXDomain"),
        ("web.other.svc.cluster.local.", V4, "NXDomain"),
        ("x.web.default.svc.cluster.local.", V4, "NXDomain"),
        ("com.example.default.svc.cluster.local.", V4, "NXDomain"),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            SERVICE,
            "0 100 80 web.default.svc.cluster.local.",
        ),
        (
            "_dns._udp.web.default.svc.cluster.local.",
            SERVICE,
            "0 100 53 web.default.svc.cluster.local.",
        ),
        (
            "_HTTP._TCP.web.default.svc.cluster.local.",
            SERVICE,
            "0 100 80 web.default.svc.cluster.local.",
        ),
        ("_http._tcp.web.default.svc.cluster.local.", V4, "NODATA"),
        ("_http._udp.web.default.svc.cluster.local.", SERVICE, "NXDomain"),
        ("_https._tcp.web.default.svc.cluster.local.", SERVICE, "NXDomain"),
        ("_._tcp.web.default.svc.cluster.local.", SERVICE, "NXDomain"),
        ("http._tcp.web.default.svc.cluster.local.", SERVICE, "NXDomain"),
        ("_tcp.web.default.svc.cluster.local.", SERVICE, "NODATA"),
        ("_sctp.web.default.svc.cluster.local.", SERVICE, "NXDomain"),
        ("x._http._tcp.web.default.svc.cluster.local.", SERVICE, "NXDomain"),
    ]);
    let zone = zone();
    let all = ask(&zone, "web.default.svc.cluster.local.", SERVICE);
    assert_eq!(all.matches("0 33").count(), 3, "{all}");
}

#[test]
fn headless_services() {
    check(&[
        ("db.default.svc.cluster.local.", V4, "10.42.0.5, 10.42.0.6, 10.42.0.7, 192.168.1.1"),
        ("db.default.svc.cluster.local.", V6, "NODATA"),
        ("db-0.db.default.svc.cluster.local.", V4, "10.42.0.5"),
        ("DB-2.db.default.svc.cluster.local.", V4, "10.42.0.7"),
        ("db-1.db.default.svc.cluster.local.", V4, "NXDomain"),
        ("10-42-0-6.db.default.svc.cluster.local.", V4, "10.42.0.6"),
        ("10-42-0-5.db.default.svc.cluster.local.", V4, "NXDomain"),
        ("db-0.db.default.svc.cluster.local.", V6, "NODATA"),
        ("empty.default.svc.cluster.local.", V4, "NXDomain"),
        ("empty.default.svc.cluster.local.", SERVICE, "NXDomain"),
        ("_tcp.db.default.svc.cluster.local.", V4, "NODATA"),
        (
            "_http._tcp.db.default.svc.cluster.local.",
            SERVICE,
            "0 25 8080 10-42-0-6.db.default.svc.cluster.local., \
             0 25 8080 db-0.db.default.svc.cluster.local., \
             0 25 9090 192-168-1-1.db.default.svc.cluster.local., \
             0 25 9090 db-2.db.default.svc.cluster.local.",
        ),
    ]);
    let name = Name::from_ascii("_http._tcp.db.default.svc.cluster.local.").unwrap();
    let answer = zone().answer(&name, SERVICE).unwrap();
    assert_eq!(answer.additionals.len(), 4);
}

#[test]
fn external_names() {
    check(&[
        ("out.ext.svc.cluster.local.", V4, "www.example.com. -> www.example.com."),
        ("out.ext.svc.cluster.local.", ALIAS, "www.example.com."),
        ("in.ext.svc.cluster.local.", V4, "10.96.0.1, web.default.svc.cluster.local."),
        ("in.ext.svc.cluster.local.", MX, "web.default.svc.cluster.local."),
        ("nowhere.ext.svc.cluster.local.", V4, "NXDomain no.default.svc.cluster.local."),
        ("loop-a.ext.svc.cluster.local.", V4, "ServFail"),
        ("x.out.ext.svc.cluster.local.", V4, "NXDomain"),
    ]);
}

#[test]
fn pods() {
    check(&[
        ("10-42-0-9.default.pod.cluster.local.", V4, "10.42.0.9"),
        ("10-42-0-9.default.pod.cluster.local.", V6, "NODATA"),
        ("fd00-42--9.default.pod.cluster.local.", V6, "fd00:42::9"),
        ("10-42-0-256.default.pod.cluster.local.", V4, "NXDomain"),
        ("web.default.pod.cluster.local.", V4, "NXDomain"),
        ("default.pod.cluster.local.", V4, "NODATA"),
        ("pod.cluster.local.", V4, "NODATA"),
    ]);
}

#[test]
fn reverse() {
    let v6 = |suffix: &str| {
        format!("{suffix}.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.4.0.0.0.0.d.f.ip6.arpa.")
    };
    check(&[
        ("1.0.96.10.in-addr.arpa.", POINTER, "web.default.svc.cluster.local."),
        (&v6("1"), POINTER, "web.default.svc.cluster.local."),
        (&v6("2"), POINTER, "NXDomain"),
        ("5.0.42.10.in-addr.arpa.", POINTER, "db-0.db.default.svc.cluster.local."),
        ("6.0.42.10.in-addr.arpa.", POINTER, "10-42-0-6.db.default.svc.cluster.local."),
        ("1.1.168.192.IN-ADDR.ARPA.", POINTER, "192-168-1-1.db.default.svc.cluster.local."),
        ("1.1.168.192.in-addr.arpa.", V4, "foreign"),
        ("2.1.168.192.in-addr.arpa.", POINTER, "foreign"),
        ("1.0.96.10.in-addr.arpa.", TEXT, "NODATA"),
        ("9.0.42.10.in-addr.arpa.", POINTER, "NXDomain"),
        ("9.0.111.10.in-addr.arpa.", POINTER, "NXDomain"),
        ("9.0.112.10.in-addr.arpa.", POINTER, "foreign"),
        ("0.42.10.in-addr.arpa.", POINTER, "NODATA"),
        ("42.10.in-addr.arpa.", POINTER, "NODATA"),
        ("10.in-addr.arpa.", POINTER, "foreign"),
        ("in-addr.arpa.", POINTER, "foreign"),
        ("05.0.42.10.in-addr.arpa.", POINTER, "NXDomain"),
        ("x.5.0.42.10.in-addr.arpa.", POINTER, "NXDomain"),
        ("arpa.", POINTER, "foreign"),
    ]);
}

#[test]
fn reverse_zones_end_at_a_label() {
    let name = Name::from_ascii("9.0.99.10.in-addr.arpa.").unwrap();
    let soa = zone().answer(&name, POINTER).unwrap().authority.unwrap();
    assert_eq!(soa.name.to_string(), "99.10.in-addr.arpa.");
}

#[test]
fn nothing_is_denied_before_the_first_sync() {
    let mut zone = Zone::new(Config::default(), Store::new(1));
    assert_eq!(ask(&zone, "web.default.svc.cluster.local.", V4), "ServFail");
    let ips = vec!["10.96.0.1".parse().unwrap()];
    upsert(&mut zone, "default", "web", Addresses::ClusterIp { ips, ports: vec![] });
    assert_eq!(ask(&zone, "web.default.svc.cluster.local.", V4), "10.96.0.1");
    assert_eq!(ask(&zone, "web.default.svc.cluster.local.", V6), "NODATA");
    zone.store.apply(Update::Synced);
    assert_eq!(ask(&zone, "no.default.svc.cluster.local.", V4), "NXDomain");
}

#[test]
fn answers_keep_the_case_of_the_question() {
    let name = Name::from_ascii("wEb.deFault.svc.CLUSTER.local.").unwrap();
    let answer = zone().answer(&name, V4).unwrap();
    assert!(answer.answers[0].name.eq_case(&name));
}

#[test]
fn strange_labels_match_nothing() {
    let zone = zone();
    let domain = [&b"svc"[..], b"cluster", b"local"];
    for labels in [
        vec![&b"\xff\xfe"[..], b"default"],
        vec![b"web", b"default/web"],
        vec![b"default/web", b"default"],
        vec![b"web.default", b"x"],
        vec![b"\0", b"default"],
    ] {
        let name = Name::from_labels(labels.into_iter().chain(domain)).unwrap();
        let answer = zone.answer(&name, V4).unwrap();
        assert_eq!(answer.code, ResponseCode::NXDomain, "{name}");
    }
}

#[test]
fn addresses_take_turns() {
    let zone = zone();
    let name = Name::from_ascii("db.default.svc.cluster.local.").unwrap();
    let mut first: Vec<String> =
        (0..200).map(|_| zone.answer(&name, V4).unwrap().answers[0].data.to_string()).collect();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 4);
}

#[test]
fn another_domain() {
    let mut zone = zone();
    let config = Config { domain: "K8s.Example.org".into(), ..Config::default() };
    zone.configure(config);
    assert_eq!(ask(&zone, "web.default.svc.k8s.example.org.", V4), "10.96.0.1");
    assert_eq!(ask(&zone, "web.default.svc.cluster.local.", V4), "foreign");
}
