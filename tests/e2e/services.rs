//! Services: every way in which a pod is reached.

use std::net::UdpSocket;

use crate::{
    outside::{ADDRESS, NODE, answer, datagrams, outside, serve},
    support::{LONG, Shared, Space, eventually},
};

static SHARED: Shared = Shared::with_node();

/// Web servers that answer with their names.
fn web(space: &Space, replicas: u32) {
    space.apply(&format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: knarr.demo/backend:v1
        command: [sh, -c, 'hostname > /www/index.html; httpd -p 8080 -h /www; trap exit TERM; sleep 1d & wait']
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{tcpSocket: {{port: http}}, periodSeconds: 1}}
"#
    ));
    space.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).stdout();
}

fn expose(space: &Space, spec: &str) {
    space.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n\
         spec: {{selector: {{app: web}}, {spec}}}\n"
    ));
}

/// What curl gets from outside, or what it says.
fn from_outside(space: &Space, url: &str) -> Result<String, String> {
    space.cluster.outside("curl", &["-sS", "--max-time", "3", url]).result()
}

fn address(space: &Space) -> String {
    space.get(&["service", "web"])["spec"]["clusterIP"].as_str().unwrap().to_owned()
}

fn node_port(space: &Space) -> u64 {
    space.get(&["service", "web"])["spec"]["ports"][0]["nodePort"].as_u64().unwrap()
}

#[test]
fn a_cluster_address_reaches_every_ready_pod_and_a_pod_reaches_itself() {
    let space = SHARED.space("cluster-ip");
    web(&space, 3);
    expose(&space, "ports: [{port: 80, targetPort: http}]");
    let pods = space.names(&["pods"]);
    let address = address(&space);
    let line = format!("timeout 3 wget -qO- http://{address}");
    // All answer, the asking pod too: its own address comes back to it by way of the service.
    let mut seen = std::collections::BTreeSet::new();
    eventually("answers of all pods", LONG, || {
        seen.insert(space.sh(&pods[0], &line).result()?.trim().to_owned());
        if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), pods);
    // The node itself too.
    let url = format!("http://{address}/");
    let told = space.cluster.on_node("curl", &["-sS", "--max-time", "3", &url]).stdout();
    assert!(told.starts_with("web-"), "{told}");
    // With one pod, it can only be itself.
    space.kubectl(&["scale", "deployment/web", "--replicas=1"]).stdout();
    eventually("one pod", LONG, || {
        let slices = space.get(&["endpointslices", "-l", "kubernetes.io/service-name=web"]);
        match slices["items"][0]["endpoints"].as_array().map(Vec::len) {
            Some(1) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let ready = space.get(&["endpointslices", "-l", "kubernetes.io/service-name=web"]);
    let left = ready["items"][0]["endpoints"][0]["targetRef"]["name"].as_str().unwrap().to_owned();
    eventually("the pod to reach itself", LONG, || {
        let told = space.sh(&left, &line).result()?;
        if told.trim() == left { Ok(()) } else { Err(told) }
    });
}

#[test]
fn a_node_port_is_reached_from_outside() {
    let space = SHARED.space("node-port");
    web(&space, 2);
    expose(&space, "type: NodePort, ports: [{port: 80, targetPort: 8080}]");
    let url = format!("http://{NODE}:{}/", node_port(&space));
    let told = eventually("the node port", LONG, || from_outside(&space, &url));
    assert!(told.starts_with("web-"), "{told}");
    // One that keeps the client's address.
    expose(
        &space,
        "type: NodePort, externalTrafficPolicy: Local, ports: [{port: 80, targetPort: 8080}]",
    );
    let told = eventually("the local node port", LONG, || from_outside(&space, &url));
    assert!(told.starts_with("web-"), "{told}");
    space.kubectl(&["delete", "service", "web"]).stdout();
    eventually("the node port to close", LONG, || match from_outside(&space, &url) {
        Ok(told) => Err(told),
        Err(refused) => Ok(refused),
    });
}

#[test]
fn a_load_balancer_has_the_node_address_and_is_reached_there() {
    let space = SHARED.space("load-balancer");
    web(&space, 2);
    expose(&space, "type: LoadBalancer, ports: [{port: 8081, targetPort: 8080}]");
    space.until("service/web", "/status/loadBalancer/ingress/0/ip", |ip| *ip == NODE);
    let told = eventually("the load balancer", LONG, || {
        from_outside(&space, &format!("http://{NODE}:8081/"))
    });
    assert!(told.starts_with("web-"), "{told}");
}

#[test]
fn a_client_stays_with_its_pod_where_the_service_says_so() {
    let space = SHARED.space("affinity");
    web(&space, 3);
    expose(
        &space,
        "type: NodePort, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: http}]",
    );
    let url = format!("http://{NODE}:{}/", node_port(&space));
    let first = eventually("the node port", LONG, || from_outside(&space, &url));
    for _ in 0..12 {
        assert_eq!(from_outside(&space, &url).unwrap(), first);
    }
}

#[test]
fn a_service_without_pods_refuses_at_once() {
    let space = SHARED.space("no-endpoints");
    expose(&space, "type: NodePort, ports: [{port: 80}]");
    let port = node_port(&space);
    for (from, url) in [
        ("outside", format!("http://{NODE}:{port}/")),
        ("node", format!("http://{}/", address(&space))),
    ] {
        let arguments = ["-sS", "--max-time", "3", &url];
        eventually(&format!("a refusal from {from}"), LONG, || {
            let asked = match from {
                "node" => space.cluster.on_node("curl", &arguments),
                _ => space.cluster.outside("curl", &arguments),
            };
            // 7 is a refused connection, 28 would be the time limit.
            if asked.code() == Some(7) { Ok(()) } else { Err(asked.to_string()) }
        });
    }
}

/// Answers datagrams on the machine outside with a word; returns the port.
fn answer_datagrams(space: &Space, word: &'static str) -> u16 {
    let socket = outside(space.cluster, || UdpSocket::bind((ADDRESS, 0))).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(word.as_bytes(), from);
        }
    });
    port
}

#[test]
fn datagrams_reach_a_udp_service_and_flows_follow_its_endpoints() {
    let space = SHARED.space("udp");
    let lead_to = |port: u16| {
        space.apply(&format!(
            r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, ports: [{{port: 53, protocol: UDP}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{port: {port}, protocol: UDP}}]
endpoints: [{{addresses: ["{ADDRESS}"]}}]
"#
        ));
    };
    lead_to(answer_datagrams(&space, "one"));
    let port = u16::try_from(node_port(&space)).unwrap();
    // One flow: the kernel remembers where it leads, from the first datagram on.
    let socket = datagrams(space.cluster);
    let until = |word: &str| {
        eventually(&format!("an answer of {word}"), LONG, || {
            socket.send_to(b"who?", (NODE, port)).map_err(|error| error.to_string())?;
            let mut buffer = [0; 16];
            let (length, from) =
                socket.recv_from(&mut buffer).map_err(|error| error.to_string())?;
            assert_eq!(from.port(), port);
            let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if told == word { Ok(()) } else { Err(told) }
        });
    };
    until("one");
    lead_to(answer_datagrams(&space, "two"));
    until("two");
}

#[test]
fn a_service_leads_out_of_the_cluster_where_its_endpoints_do() {
    let space = SHARED.space("external");
    let port = serve(space.cluster, |request, reader| {
        answer(reader.get_mut(), "200 OK", "", format!("outside {}", request.path).as_bytes());
    });
    space.apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{port: {port}}}]
endpoints: [{{addresses: ["{ADDRESS}"]}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: c, image: "knarr.demo/backend:v1", command: [sh, -c, "trap exit TERM; sleep 1d & wait"]}}
"#
    ));
    space.wait("condition=Ready", &["pod/p"]);
    assert_eq!(space.sh_until("p", "timeout 3 wget -qO- http://web/x"), "outside /x");
}

#[test]
fn pods_use_ports_and_the_network_of_the_node() {
    let space = SHARED.space("host");
    let pod = |name: &str, more: &str, port: u16, ports: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {more}
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'echo {name} > /www/index.html; httpd -p {port} -h /www; trap exit TERM; sleep 1d & wait']
    ports: [{ports}]
"#
        )
    };
    space.apply(&pod(
        "mapped",
        "restartPolicy: Always",
        8080,
        "{containerPort: 8080, hostPort: 9091}",
    ));
    space.apply(&pod("joined", "hostNetwork: true", 9092, "{containerPort: 9092}"));
    space.wait("condition=Ready", &["pod/mapped", "pod/joined"]);
    for (port, name) in [(9091, "mapped\n"), (9092, "joined\n")] {
        let url = format!("http://{NODE}:{port}/");
        let told = eventually(name, LONG, || from_outside(&space, &url));
        assert_eq!(told, name);
    }
    let joined = space.get(&["pod", "joined"]);
    assert_eq!(joined["status"]["podIP"], NODE);
    // A second pod for the same port of the only node has no place.
    space.apply(&pod(
        "late",
        "restartPolicy: Always",
        8080,
        "{containerPort: 8080, hostPort: 9091}",
    ));
    let why = "/status/conditions/0/message";
    let late = space.until("pod/late", why, serde_json::Value::is_string);
    let message = late.pointer(why).unwrap().as_str().unwrap();
    assert!(message.contains("didn't have free ports"), "{message}");
    space.kubectl(&["delete", "pod", "mapped"]).stdout();
    space.wait("condition=Ready", &["pod/late"]);
}
