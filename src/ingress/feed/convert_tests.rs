use k8s_openapi::ByteString;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn class(name: &str, controller: &str, default: &str) -> IngressClass {
    let annotations = json!({DEFAULT_CLASS: default});
    object(json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"controller": controller},
    }))
}

fn with_class(class: Option<&str>, annotation: Option<&str>) -> IngressObject {
    let annotations = annotation.map(|class| json!({CLASS_ANNOTATION: class}));
    object(json!({
        "metadata": {"namespace": "ns", "name": "i", "annotations": annotations},
        "spec": {"ingressClassName": class},
    }))
}

#[test]
fn ours() {
    let knarr = class("knarr", CONTROLLER, "false");
    let other = class("nginx", "k8s.io/ingress-nginx", "true");
    let classes = Classes::of([&knarr, &other]);
    assert!(classes.contain(&with_class(Some("knarr"), None)));
    assert!(!classes.contain(&with_class(Some("nginx"), None)));
    assert!(!classes.contain(&with_class(Some("unknown"), None)));
    assert!(!classes.contain(&with_class(None, None)));
    assert!(classes.contain(&with_class(None, Some("knarr"))));
    assert!(!classes.contain(&with_class(None, Some("nginx"))));
    assert!(!classes.contain(&with_class(Some("nginx"), Some("knarr"))));

    let default = class("web", CONTROLLER, "true");
    let classes = Classes::of([&knarr, &default, &other]);
    assert!(classes.contain(&with_class(None, None)));
    assert!(classes.contain(&with_class(Some("web"), None)));
    assert!(!classes.contain(&with_class(None, Some("nginx"))));
    assert!(!Classes::of([]).contain(&with_class(None, None)));
}

#[test]
fn rules() {
    let object: IngressObject = object(json!({
        "metadata": {
            "namespace": "ns", "name": "i", "creationTimestamp": "1970-01-01T00:01:00Z"},
        "spec": {
            "defaultBackend": {"service": {"name": "default", "port": {"number": 8080}}},
            "tls": [
                {"hosts": ["A.example", "*.b.example"], "secretName": "cert"},
                {"hosts": ["c.example"]},
            ],
            "rules": [
                {"host": "A.Example", "http": {"paths": [
                    {"path": "/x", "pathType": "Exact",
                     "backend": {"service": {"name": "one", "port": {"name": "http"}}}},
                    {"path": "/y", "pathType": "Prefix",
                     "backend": {"service": {"name": "two", "port": {"number": 80}}}},
                    {"pathType": "ImplementationSpecific",
                     "backend": {"service": {"name": "one", "port": {"number": 80}}}},
                    {"path": "/bucket", "pathType": "Prefix", "backend": {
                        "resource": {"apiGroup": "x", "kind": "Bucket", "name": "b"}}},
                ]}},
                {"host": "*.b.example"},
            ],
        },
    }));
    let converted = ingress(&object).unwrap();
    let backend = |service: &str, port| Backend { service: service.into(), port };
    let path = |path: &str, kind, backend| Path { path: path.into(), kind, backend };
    let expected = Ingress {
        namespace: "ns".into(),
        name: "i".into(),
        created: 60,
        rules: vec![
            Rule {
                host: "a.example".into(),
                paths: vec![
                    path("/x", PathKind::Exact, backend("one", PortRef::Name("http".into()))),
                    path("/y", PathKind::Prefix, backend("two", PortRef::Number(80))),
                    path("/", PathKind::Prefix, backend("one", PortRef::Number(80))),
                ],
            },
            Rule { host: "*.b.example".into(), paths: vec![] },
        ],
        default_backend: Some(backend("default", PortRef::Number(8080))),
        tls: vec![Tls {
            hosts: vec!["a.example".into(), "*.b.example".into()],
            secret: "cert".into(),
        }],
    };
    assert_eq!(converted, expected);
    assert_eq!(Vec::from_iter(service_names(&converted)), ["default", "one", "two"]);
    assert_eq!(Vec::from_iter(secret_names(&converted)), ["cert"]);
}

fn slice(family: &str, ports: Value, endpoints: Value) -> EndpointSlice {
    object(json!({
        "metadata": {"namespace": "ns", "name": "x"},
        "addressType": family, "ports": ports, "endpoints": endpoints,
    }))
}

fn converted(
    spec: Value,
    slices: &[EndpointSlice],
) -> Vec<(String, u16, AppProtocol, Vec<String>)> {
    let metadata = json!({"namespace": "ns", "name": "s"});
    let service_object = object(json!({"metadata": metadata, "spec": spec}));
    let ports = service(&service_object, slices).unwrap().ports.into_iter();
    ports
        .map(|port| {
            let endpoints = port.endpoints.iter().map(SocketAddr::to_string).collect();
            (port.name, port.port, port.protocol, endpoints)
        })
        .collect()
}

fn addresses(endpoints: Value) -> Vec<String> {
    let slices = [slice("IPv4", json!([{"port": 8080}]), endpoints)];
    converted(json!({"ports": [{"port": 80}]}), &slices).remove(0).3
}

#[test]
fn ports_lead_to_the_ports_of_the_same_name() {
    let slices = [
        slice(
            "IPv4",
            json!([{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}]),
            json!([{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1"]}]),
        ),
        slice(
            "IPv4",
            json!([{"name": "http", "port": 8081}]),
            json!([{"addresses": ["10.0.0.3"]}, {"addresses": ["10.0.0.1"]}]),
        ),
    ];
    let ports = json!({"ports": [
        {"name": "http", "port": 80},
        {"name": "grpc", "port": 90, "appProtocol": "kubernetes.io/h2c"},
        {"name": "tls", "port": 443, "appProtocol": "HTTPS"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]});
    let http = ["10.0.0.1:8080", "10.0.0.1:8081", "10.0.0.2:8080", "10.0.0.3:8081"];
    let grpc = ["10.0.0.1:9090", "10.0.0.2:9090"];
    let strings = |all: &[&str]| all.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let expected = [
        ("http".into(), 80, AppProtocol::Http, strings(&http)),
        ("grpc".into(), 90, AppProtocol::H2c, strings(&grpc)),
        ("tls".into(), 443, AppProtocol::Https, vec![]),
    ];
    assert_eq!(converted(ports, &slices), expected);
}

#[test]
fn only_endpoints_that_want_requests() {
    let ready = json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}});
    let unknown = json!({"addresses": ["10.0.0.2"]});
    let starting = json!({"addresses": ["10.0.0.3"], "conditions": {"ready": false}});
    let ending = json!({"addresses": ["10.0.0.4"], "conditions":
        {"ready": false, "serving": true, "terminating": true}});
    let ended = json!({"addresses": ["10.0.0.5"], "conditions":
        {"ready": false, "serving": false, "terminating": true}});
    // publishNotReadyAddresses makes everything ready, even what terminates.
    let published = json!({"addresses": ["10.0.0.6"], "conditions":
        {"ready": true, "serving": false, "terminating": true}});

    let all = json!([ready, unknown, starting, ending, ended, published]);
    assert_eq!(addresses(all), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(addresses(json!([starting, ending, ended])), ["10.0.0.4:8080"]);
    assert_eq!(addresses(json!([starting, ended])), [""; 0]);
}

#[test]
fn an_endpoint_of_two_families_is_one() {
    let port = json!([{"port": 80}]);
    let slices = [
        slice("IPv6", port.clone(), json!([{"addresses": ["fd00::1"]}])),
        slice("IPv4", port, json!([{"addresses": ["10.0.0.1"]}])),
    ];
    let spec = |families: Value| json!({"ipFamilies": families, "ports": [{"port": 80}]});
    let endpoints = |spec, slices: &[EndpointSlice]| converted(spec, slices).remove(0).3;
    assert_eq!(endpoints(spec(json!(["IPv4", "IPv6"])), &slices), ["10.0.0.1:80"]);
    assert_eq!(endpoints(spec(json!(["IPv6", "IPv4"])), &slices), ["[fd00::1]:80"]);
    assert_eq!(endpoints(spec(json!(["IPv4"])), &slices[..1]), ["[fd00::1]:80"]);
}

#[test]
fn names_of_the_outside_have_no_ports() {
    let spec =
        json!({"type": "ExternalName", "externalName": "a.example", "ports": [{"port": 80}]});
    assert!(converted(spec, &[]).is_empty());
}

#[test]
fn certificates() {
    let bytes = |text: &str| ByteString(text.into());
    let mut secret: Secret = object(json!({"metadata": {"namespace": "ns", "name": "cert"}}));
    assert!(certificate(&secret).is_none());
    let data = [("tls.crt".into(), bytes("chain")), ("tls.key".into(), bytes("key"))];
    secret.data = Some(data.into());
    let found = certificate(&secret).unwrap();
    assert_eq!((found.chain.as_str(), found.key.as_str()), ("chain", "key"));
    assert!(!format!("{found:?}").contains("\"key\""));
}
