//! Ingress: which backend a request gets to, and that it gets there whole.

use std::{
    fs,
    io::{BufRead, Read, Write},
};

use crate::{
    outside::{ADDRESS, NODE, answer, connect, read_body, read_chunk, serve},
    support::{LONG, Shared, Space, eventually},
};

static SHARED: Shared = Shared::with_node();

/// A Service whose backend is a server of ours outside the cluster that says what it was asked.
fn backend(space: &Space, name: &'static str) {
    let port = serve(space.cluster, move |request, reader| {
        let body = read_body(request, reader);
        let told = format!(
            "{name} {} {} host={} for={} proto={} body={}\n",
            request.method,
            request.path,
            request.header("host"),
            request.header("x-forwarded-for"),
            request.header("x-forwarded-proto"),
            body.len(),
        );
        answer(reader.get_mut(), "200 OK", "", told.as_bytes());
    });
    service(space, name, port);
}

/// A Service that leads to a port of the machine outside.
fn service(space: &Space, name: &str, port: u16) {
    space.apply(&format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: ["{ADDRESS}"]}}]
"#
    ));
}

/// An Ingress with one host whose paths all lead to one Service.
fn simple(space: &Space, host: &str, service: &str) {
    space.apply(&format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {service}}}
spec:
  rules:
  - host: {host}
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{name: http}}}}}}}}]}}
"#
    ));
}

/// What a request from outside gets.
fn ask(space: &Space, host: &str, path: &str, more: &[&str]) -> String {
    let host = format!("Host: {host}");
    let url = format!("http://{NODE}{path}");
    let mut all = vec!["-sS", "--max-time", "10", "--path-as-is", "-H", &host];
    all.extend(more);
    all.push(&url);
    space.cluster.outside("curl", &all).out()
}

/// Waits until a request gets an answer with `part` in it.
fn until(space: &Space, host: &str, path: &str, part: &str) -> String {
    eventually(&format!("{part:?} of {host}{path}"), LONG, || {
        let told = ask(space, host, path, &[]);
        if told.contains(part) { Ok(told) } else { Err(told) }
    })
}

#[test]
fn the_most_specific_host_and_path_win() {
    let space = SHARED.space("routing");
    for name in ["prefix", "exact", "deep", "wild", "named"] {
        backend(&space, name);
    }
    let path = |path: &str, kind: &str, service: &str| {
        format!(
            "{{path: {path}, pathType: {kind}, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}"
        )
    };
    space.apply(&format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: routes}}
spec:
  rules:
  - host: paths.example
    http: {{paths: [{}, {}, {}]}}
  - host: "*.wild.example"
    http: {{paths: [{}]}}
  - host: named.wild.example
    http: {{paths: [{}]}}
"#,
        path("/", "Prefix", "prefix"),
        path("/a", "Exact", "exact"),
        path("/a/b", "Prefix", "deep"),
        path("/", "Prefix", "wild"),
        path("/", "Prefix", "named"),
    ));
    until(&space, "paths.example", "/", "prefix");
    let expected = [
        ("paths.example", "/", "prefix"),
        ("paths.example", "/a", "exact"),
        ("paths.example", "/a/", "prefix"),
        ("paths.example", "/a/b", "deep"),
        ("paths.example", "/a/b/c?x=/a", "deep"),
        // By whole elements of the path.
        ("paths.example", "/a/bc", "prefix"),
        ("PATHS.example:80", "/a", "exact"),
        ("one.wild.example", "/", "wild"),
        ("named.wild.example", "/", "named"),
    ];
    for (host, path, service) in expected {
        let told = ask(&space, host, path, &[]);
        assert!(told.starts_with(&format!("{service} GET {path} ")), "{host}{path}: {told}");
    }
    // A wildcard stands for exactly one label.
    for host in ["wild.example", "two.one.wild.example", "other.example"] {
        let code = ask(&space, host, "/", &["-o", "/dev/null", "-w", "%{http_code}"]);
        assert_eq!(code, "404", "{host}");
    }
    let told =
        ask(&space, "paths.example", "/x", &["-d", "12345", "-H", "X-Forwarded-For: 9.9.9.9"]);
    // The client is who connected, whatever it says.
    assert!(told.contains("prefix POST /x host=paths.example for="), "{told}");
    assert!(told.contains("192.0.2.2 proto=http body=5"), "{told}");
    assert!(!told.contains("for=9.9.9.9 "), "{told}");
}

#[test]
fn the_default_backend_gets_what_no_rule_wants() {
    let space = SHARED.space("default-backend");
    for name in ["chosen", "fallback"] {
        backend(&space, name);
    }
    space.apply(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: fallback}
spec:
  defaultBackend: {service: {name: fallback, port: {number: 80}}}
  rules:
  - host: default.example
    http: {paths: [{path: /chosen, pathType: Prefix, backend: {service: {name: chosen, port: {number: 80}}}}]}
"#,
    );
    until(&space, "default.example", "/chosen", "chosen");
    assert!(ask(&space, "default.example", "/other", &[]).starts_with("fallback GET /other"));
    space.kubectl(&["delete", "ingress", "fallback"]).stdout();
    until(&space, "default.example", "/chosen", "no Ingress rule matches");
}

#[test]
fn a_service_without_endpoints_is_unavailable() {
    let space = SHARED.space("unavailable");
    space.apply("apiVersion: v1\nkind: Service\nmetadata: {name: empty}\nspec: {ports: [{name: http, port: 80}]}\n");
    simple(&space, "empty.example", "empty");
    eventually("the rule", LONG, || {
        let code = ask(&space, "empty.example", "/", &["-o", "/dev/null", "-w", "%{http_code}"]);
        if code == "503" { Ok(()) } else { Err(code) }
    });
}

#[test]
fn the_certificate_is_the_one_of_the_name_that_the_client_asks_for() {
    let space = SHARED.space("tls");
    backend(&space, "secure");
    let folder = space.cluster.data().join("tls-e2e");
    fs::create_dir_all(&folder).unwrap();
    let file = |name: String| folder.join(name).display().to_string();
    for (secret, host) in [("one", "one.example"), ("many", "*.many.example")] {
        let (key, certificate) = (file(format!("{secret}.key")), file(format!("{secret}.crt")));
        let (subject, names) = (format!("/CN={secret}"), format!("subjectAltName=DNS:{host}"));
        let arguments = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-addext",
            &names,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ];
        space.cluster.outside("openssl", &arguments).stdout();
        let (key, certificate) = (format!("--key={key}"), format!("--cert={certificate}"));
        space.kubectl(&["create", "secret", "tls", secret, &certificate, &key]).stdout();
    }
    let rule = |host: &str| {
        format!(
            "  - host: '{host}'\n    http: {{paths: [{{path: /, pathType: Prefix, backend: \
             {{service: {{name: secure, port: {{number: 80}}}}}}}}]}}\n"
        )
    };
    space.apply(&format!(
        r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: tls}}
spec:
  tls:
  - {{hosts: [one.example], secretName: one}}
  - {{hosts: ["*.many.example"], secretName: many}}
  rules:
{}{}"#,
        rule("one.example"),
        rule("*.many.example"),
    ));
    let ask = |host: &str, certificate: &str, version: &str| {
        let resolve = format!("{host}:443:{NODE}");
        let authority = file(format!("{certificate}.crt"));
        let url = format!("https://{host}/x");
        let arguments = [
            "-sS",
            "--max-time",
            "10",
            version,
            "--cacert",
            &authority,
            "--resolve",
            &resolve,
            "-w",
            "v%{http_version}",
            &url,
        ];
        space.cluster.outside("curl", &arguments).result()
    };
    let told = eventually("TLS", LONG, || ask("one.example", "one", "--http2"));
    assert!(told.starts_with("secure GET /x host=one.example"), "{told}");
    assert!(told.contains("proto=https") && told.ends_with("v2"), "{told}");
    let told = ask("one.example", "one", "--http1.1").unwrap();
    assert!(told.ends_with("v1.1"), "{told}");
    let told = eventually("the wildcard", LONG, || ask("a.many.example", "many", "--http2"));
    assert!(told.starts_with("secure GET /x host=a.many.example"), "{told}");
    let refused = ask("a.many.example", "one", "--http2").unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    // A certificate that changes is taken at once.
    for name in ["one.key", "one.crt"] {
        let other = name.replace("one", "many");
        fs::copy(file(other), file(name.to_owned())).unwrap();
    }
    let (key, certificate) =
        (format!("--key={}", file("one.key".into())), format!("--cert={}", file("one.crt".into())));
    let create =
        ["create", "secret", "tls", "one", &certificate, &key, "--dry-run=client", "-o", "yaml"];
    let secret = space.kubectl(&create).stdout();
    space.apply(&secret);
    eventually("the new certificate", LONG, || {
        let arguments = ["s_client", "-connect", "192.0.2.1:443", "-servername", "one.example"];
        let shown = space.cluster.outside("openssl", &arguments).out();
        if shown.contains("CN = many") { Ok(()) } else { Err(shown) }
    });
}

#[test]
fn an_upgraded_connection_passes_bytes_both_ways() {
    let space = SHARED.space("websocket");
    let port = serve(space.cluster, |request, reader| {
        if request.header("upgrade") != "websocket" {
            return answer(reader.get_mut(), "200 OK", "", b"plain");
        }
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        reader.get_mut().write_all(head.as_bytes()).unwrap();
        loop {
            let bytes = reader.fill_buf().unwrap().to_vec();
            if bytes.is_empty() {
                return;
            }
            reader.consume(bytes.len());
            reader.get_mut().write_all(&bytes).unwrap();
        }
    });
    service(&space, "socket", port);
    simple(&space, "socket.example", "socket");
    until(&space, "socket.example", "/", "plain");
    let mut stream = connect(space.cluster, 80);
    let head = "GET /chat HTTP/1.1\r\nHost: socket.example\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_ascii_lowercase());
    }
    assert!(lines[0].starts_with("http/1.1 101"), "{lines:?}");
    assert!(
        lines.contains(&"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=".to_owned()),
        "{lines:?}"
    );
    for round in 0..3_u8 {
        let sent: Vec<u8> = (0..5000).map(|n| (n % 251) as u8 ^ round).collect();
        stream.write_all(&sent).unwrap();
        let mut back = vec![0; sent.len()];
        reader.read_exact(&mut back).unwrap();
        assert!(back == sent, "round {round}");
    }
}

#[test]
fn bodies_are_passed_on_as_they_come() {
    let space = SHARED.space("streams");
    // Answers each chunk of the request before it reads the next one.
    let port = serve(space.cluster, |request, reader| {
        if request.method == "GET" {
            return answer(reader.get_mut(), "200 OK", "", b"plain");
        }
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        reader.get_mut().write_all(head.as_bytes()).unwrap();
        while let Some(chunk) = read_chunk(reader) {
            let answer = format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(&chunk));
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
        }
        reader.get_mut().write_all(b"0\r\n\r\n").unwrap();
    });
    service(&space, "stream", port);
    simple(&space, "stream.example", "stream");
    until(&space, "stream.example", "/", "plain");
    let mut stream = connect(space.cluster, 80);
    let head = "POST / HTTP/1.1\r\nHost: stream.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let mut read_until = |part: &str| {
        let mut seen = String::new();
        while !seen.contains(part) {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "ended after {seen:?}");
            seen.push_str(&line);
        }
        seen
    };
    for word in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{word}\r\n", word.len());
        stream.write_all(chunk.as_bytes()).unwrap();
        read_until(word);
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    read_until("0\r\n");
}
