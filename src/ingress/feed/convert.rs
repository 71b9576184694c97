//! Kubernetes objects as the proxy's model: pure functions.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Secret, Service as ServiceObject, ServicePort as Port};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, Ingress as IngressObject, IngressBackend, IngressClass,
};

use crate::model::{
    AppProtocol, Backend, Certificate, Ingress, Path, PathKind, PortRef, Rule, Service,
    ServicePort, Tls,
};

/// The controller that our IngressClasses name.
pub const CONTROLLER: &str = "knarr.dev/ingress";

const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
/// How a class was named before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The IngressClasses that are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    names: BTreeSet<String>,
    /// Whether one of them is for the Ingresses that name none.
    default: bool,
}

impl Classes {
    /// Picks ours out of all classes of the cluster.
    pub fn of<'a>(classes: impl IntoIterator<Item = &'a IngressClass>) -> Self {
        let mut ours = Self::default();
        for class in classes {
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref());
            if controller != Some(CONTROLLER) {
                continue;
            }
            let annotations = class.metadata.annotations.as_ref();
            let default = annotations.and_then(|annotations| annotations.get(DEFAULT_CLASS));
            ours.default |= default.is_some_and(|value| value == "true");
            ours.names.extend(class.metadata.name.clone());
        }
        ours
    }

    /// Whether an Ingress is for us.
    pub fn contain(&self, ingress: &IngressObject) -> bool {
        let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
        let annotations = ingress.metadata.annotations.as_ref();
        let annotated = annotations.and_then(|annotations| annotations.get(CLASS_ANNOTATION));
        match named.or(annotated.map(String::as_str)) {
            Some(name) => self.names.contains(name),
            None => self.default,
        }
    }
}

/// The rules of an Ingress. Backends that are no services are left out.
pub fn ingress(object: &IngressObject) -> Option<Ingress> {
    let metadata = &object.metadata;
    let spec = object.spec.as_ref()?;
    let rules = spec.rules.iter().flatten().map(|rule| {
        let paths = rule.http.iter().flat_map(|http| &http.paths).filter_map(path);
        let host = rule.host.as_deref().unwrap_or_default().to_ascii_lowercase();
        Rule { host, paths: paths.collect() }
    });
    let tls = spec.tls.iter().flatten().filter_map(|tls| {
        let secret = tls.secret_name.clone().filter(|name| !name.is_empty())?;
        let hosts = tls.hosts.iter().flatten().map(|host| host.to_ascii_lowercase()).collect();
        Some(Tls { hosts, secret })
    });
    Some(Ingress {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        rules: rules.collect(),
        default_backend: spec.default_backend.as_ref().and_then(backend),
        tls: tls.collect(),
    })
}

fn path(path: &HTTPIngressPath) -> Option<Path> {
    let kind = match path.path_type.as_str() {
        "Exact" => PathKind::Exact,
        _ => PathKind::Prefix,
    };
    let text = path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    Some(Path { path: text.to_owned(), kind, backend: backend(&path.backend)? })
}

fn backend(backend: &IngressBackend) -> Option<Backend> {
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = match (&port.name, port.number) {
        (Some(name), _) if !name.is_empty() => PortRef::Name(name.clone()),
        (_, number) => PortRef::Number(u16::try_from(number?).ok()?),
    };
    Some(Backend { service: service.name.clone(), port })
}

/// The services that an Ingress names.
pub fn service_names(ingress: &Ingress) -> BTreeSet<&str> {
    let backends = ingress.rules.iter().flat_map(|rule| &rule.paths).map(|path| &path.backend);
    backends.chain(&ingress.default_backend).map(|backend| backend.service.as_str()).collect()
}

/// The Secrets that an Ingress names.
pub fn secret_names(ingress: &Ingress) -> BTreeSet<&str> {
    ingress.tls.iter().map(|tls| tls.secret.as_str()).collect()
}

/// A service's ports and the endpoints that get new requests: those that are ready, or, when there
/// are none, those that still serve while they terminate (as the service proxy does, KEP-1669).
/// `slices` are the service's own.
pub fn service<'a>(
    object: &ServiceObject,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let slices: Vec<&EndpointSlice> = slices.into_iter().collect();
    // A pod of a dual-stack service is in two slices; it is one endpoint all the same.
    let family = spec.ip_families.iter().flatten().next().map_or("IPv4", String::as_str);
    let (own, other): (Vec<&EndpointSlice>, Vec<&EndpointSlice>) =
        slices.into_iter().partition(|slice| slice.address_type == family);
    let of_port = |port: &Port| {
        let number = u16::try_from(port.port).ok()?;
        if !matches!(port.protocol.as_deref(), None | Some("" | "TCP")) {
            return None;
        }
        let name = port.name.clone().unwrap_or_default();
        let endpoints = [&own, &other]
            .into_iter()
            .flat_map(|slices| [(slices, Phase::Ready), (slices, Phase::Terminating)])
            .map(|(slices, phase)| endpoints(slices, &name, phase))
            .find(|endpoints| !endpoints.is_empty());
        Some(ServicePort {
            name,
            port: number,
            protocol: app_protocol(port.app_protocol.as_deref()),
            endpoints: endpoints.unwrap_or_default().into_iter().collect(),
        })
    };
    let external = spec.type_.as_deref() == Some("ExternalName");
    let ports = spec.ports.iter().flatten().filter(|_| !external).filter_map(of_port);
    Some(Service {
        namespace: object.metadata.namespace.clone()?,
        name: object.metadata.name.clone()?,
        ports: ports.collect(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ready,
    Terminating,
}

/// The addresses of one port, in an order that depends on nothing but the addresses.
fn endpoints(slices: &[&EndpointSlice], port: &str, phase: Phase) -> BTreeSet<SocketAddr> {
    let mut found = BTreeSet::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let named = ports.filter(|other| other.name.as_deref().unwrap_or_default() == port);
        for port in named.filter_map(|port| u16::try_from(port.port?).ok()) {
            let endpoints = slice.endpoints.iter().flatten();
            for endpoint in endpoints.filter(|endpoint| is_in(endpoint, phase)) {
                // Of several addresses the first is the one to use (Endpoint.addresses).
                let ip = endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok());
                found.extend(ip.map(|ip| SocketAddr::new(ip, port)));
            }
        }
    }
    found
}

/// Conditions that are not known count as the API says: ready, serving, not terminating.
fn is_in(endpoint: &Endpoint, phase: Phase) -> bool {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
    match phase {
        Phase::Ready => ready && !terminating,
        Phase::Terminating => serving && terminating,
    }
}

fn app_protocol(name: Option<&str>) -> AppProtocol {
    match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        // "grpc" is what meshes and their users write, and it is nothing but HTTP/2.
        "kubernetes.io/h2c" | "h2c" | "grpc" => AppProtocol::H2c,
        "https" | "kubernetes.io/wss" => AppProtocol::Https,
        _ => AppProtocol::Http,
    }
}

/// The certificate in a Secret.
pub fn certificate(secret: &Secret) -> Option<Certificate> {
    let part = |name: &str| {
        let bytes = &secret.data.as_ref()?.get(name)?.0;
        String::from_utf8(bytes.clone()).ok()
    };
    Some(Certificate {
        namespace: secret.metadata.namespace.clone()?,
        name: secret.metadata.name.clone()?,
        chain: part("tls.crt")?,
        key: part("tls.key")?,
    })
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
