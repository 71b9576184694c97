//! Cluster DNS, as a pod asks it.

use crate::support::{LONG, Shared, Space, eventually};

static SHARED: Shared = Shared::with_node();

/// A headless Service with two named pods, an ordinary one, an alias, and a pod that asks.
const NAMES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: crew}
spec: {clusterIP: None, selector: {app: crew}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: ship}
spec: {selector: {app: crew}, ports: [{name: http, port: 80}, {name: talk, port: 99, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: alias}
spec: {type: ExternalName, externalName: ship.NAMESPACE.svc.cluster.local}
---
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: crew}}
spec:
  hostname: one
  subdomain: crew
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "knarr.demo/backend:v1", command: [sh, -c, "trap exit TERM; sleep 1d & wait"]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, labels: {app: crew}}
spec:
  hostname: two
  subdomain: crew
  terminationGracePeriodSeconds: 1
  containers:
  - {name: c, image: "knarr.demo/backend:v1", command: [sh, -c, "trap exit TERM; sleep 1d & wait"]}
"#;

fn with_names(name: &'static str) -> Space {
    let space = SHARED.space(name);
    space.apply(&NAMES.replace("NAMESPACE", name));
    space.wait("condition=Ready", &["pod/one", "pod/two"]);
    space
}

fn pod_address(space: &Space, pod: &str) -> String {
    space.get(&["pod", pod])["status"]["podIP"].as_str().unwrap().to_owned()
}

/// What a look-up tells beyond the server's own address, in order.
fn look_up(space: &Space, arguments: &str) -> Result<Vec<String>, String> {
    let told = space.sh("one", &format!("nslookup {arguments}")).result()?;
    let answers = told.split_once("\n\n").map_or("", |(_, answers)| answers);
    let mut lines: Vec<String> = answers
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.replace('\t', " "))
        .collect();
    lines.sort();
    lines.dedup();
    Ok(lines)
}

/// Looks up until the answer has all lines that end so.
fn answers(space: &Space, arguments: &str, expected: &[String]) {
    eventually(&format!("{expected:?} of {arguments}"), LONG, || {
        let lines = look_up(space, arguments)?;
        let all = expected.iter().all(|end| lines.iter().any(|line| line.ends_with(end.as_str())));
        if all { Ok(()) } else { Err(format!("{lines:?}")) }
    });
}

#[test]
fn names_of_services_and_pods_have_addresses() {
    let space = with_names("dns-a");
    let (one, two) = (pod_address(&space, "one"), pod_address(&space, "two"));
    let ship = space.get(&["service", "ship"])["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let domain = format!("{}.svc.cluster.local", space.name);
    answers(&space, &format!("ship.{domain}"), &[format!("Address: {ship}")]);
    // A headless one: the pods' own.
    answers(
        &space,
        &format!("crew.{domain}"),
        &[format!("Address: {one}"), format!("Address: {two}")],
    );
    answers(&space, &format!("two.crew.{domain}"), &[format!("Address: {two}")]);
    let dashed = two.replace('.', "-");
    let by_address = format!("{dashed}.{}.pod.cluster.local", space.name);
    answers(&space, &by_address, &[format!("Address: {two}")]);
    let alias = format!("alias.{domain}");
    answers(
        &space,
        &alias,
        &[format!("canonical name = ship.{domain}"), format!("Address: {ship}")],
    );
    let unknown = space.sh("one", &format!("nslookup nobody.{domain}"));
    assert!(unknown.out().contains("NXDOMAIN"), "{unknown}");
    unknown.refused();
    // The pod that goes takes its name along.
    space.kubectl(&["delete", "pod", "two"]).stdout();
    eventually("the name to go", LONG, || {
        let asked = space.sh("one", &format!("nslookup two.crew.{domain}"));
        if asked.out().contains("NXDOMAIN") { Ok(()) } else { Err(asked.to_string()) }
    });
}

#[test]
fn ports_of_services_are_found_by_their_names() {
    let space = with_names("dns-srv");
    let domain = format!("{}.svc.cluster.local", space.name);
    let srv = |port: &str, protocol: &str, service: &str| {
        format!("-type=srv _{port}._{protocol}.{service}.{domain}")
    };
    answers(&space, &srv("http", "tcp", "ship"), &[format!("80 ship.{domain}")]);
    answers(&space, &srv("talk", "udp", "ship"), &[format!("99 ship.{domain}")]);
    let each = [format!("80 one.crew.{domain}"), format!("80 two.crew.{domain}")];
    answers(&space, &srv("http", "tcp", "crew"), &each);
}

#[test]
fn addresses_have_names() {
    let space = with_names("dns-ptr");
    let domain = format!("{}.svc.cluster.local", space.name);
    let ship = space.get(&["service", "ship"])["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let two = pod_address(&space, "two");
    answers(&space, &ship, &[format!("name = ship.{domain}")]);
    answers(&space, &two, &[format!("name = two.crew.{domain}")]);
}

#[test]
fn short_names_are_completed_by_the_search_domains() {
    let space = with_names("dns-search");
    let resolv = space.sh("one", "cat /etc/resolv.conf").stdout();
    let search =
        format!("search {0}.svc.cluster.local svc.cluster.local cluster.local", space.name);
    for line in [search.as_str(), "nameserver 10.43.0.10", "options ndots:5"] {
        assert!(resolv.contains(line), "no {line:?} in {resolv}");
    }
    // By the C library's resolver, as any program does.
    let ship = space.get(&["service", "ship"])["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let other = format!("ship.{}", space.name);
    for name in ["ship", &other, "kubernetes.default"] {
        let line = format!("ping -c 1 -W 1 {name} 2>&1 | head -1");
        let address = if name.starts_with("ship") { ship.as_str() } else { "10.43.0.1" };
        eventually(name, LONG, || {
            let told = space.sh("one", &line).out();
            if told.contains(&format!("({address})")) { Ok(()) } else { Err(told) }
        });
    }
    // The pod's own name, from /etc/hosts.
    let fqdn = space.sh("one", "hostname -f").stdout();
    assert_eq!(fqdn.trim(), format!("one.crew.{}.svc.cluster.local", space.name));
}

#[test]
fn a_pod_may_choose_its_own_resolver() {
    let space = SHARED.space("dns-policy");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  terminationGracePeriodSeconds: 1
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.com], options: [{name: ndots, value: "2"}]}
  hostAliases: [{ip: 192.0.2.9, hostnames: [nine, neun]}]
  containers:
  - {name: c, image: "knarr.demo/backend:v1", command: [sh, -c, "trap exit TERM; sleep 1d & wait"]}
"#,
    );
    space.wait("condition=Ready", &["pod/own"]);
    let resolv = space.sh("own", "cat /etc/resolv.conf").stdout();
    let mut lines: Vec<&str> = resolv.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["nameserver 192.0.2.53", "options ndots:2", "search example.com"]);
    let hosts = space.sh("own", "cat /etc/hosts").stdout();
    assert!(hosts.contains("192.0.2.9\tnine\tneun"), "{hosts}");
}
