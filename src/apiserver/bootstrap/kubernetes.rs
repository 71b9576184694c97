//! The API server as others find it: the `kubernetes` Service and what is behind it, the range of
//! cluster addresses, the authorities that extension API servers trust, and its own Lease.

use apimachinery::Status;
use serde_json::{Value, json};

use super::write::{create, update};
use crate::Shared;

pub(super) async fn reconcile(server: &Shared) -> Result<(), Status> {
    range(server).await?;
    service(server).await?;
    endpoints(server).await?;
    authorities(server).await
}

async fn range(server: &Shared) -> Result<(), Status> {
    let cidr = server.allocators.addresses.cidr();
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {
            "name": "kubernetes", "finalizers": ["networking.k8s.io/service-cidr-finalizer"],
        },
        "spec": {"cidrs": [cidr]},
        "status": {"conditions": [{
            "type": "Ready", "status": "True", "reason": "",
            "message": "Kubernetes Service CIDR is ready",
            "lastTransitionTime": apimachinery::time::now(),
        }]},
    });
    create(server, "networking.k8s.io", "servicecidrs", range).await?;
    let first = server.allocators.addresses.first().to_string();
    let address = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": first, "labels": {
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}},
    });
    create(server, "networking.k8s.io", "ipaddresses", address).await.map(drop)
}

async fn service(server: &Shared) -> Result<(), Status> {
    let addresses = &server.allocators.addresses;
    let first = addresses.first().to_string();
    // A second start finds it taken by the Service itself.
    let _ = addresses.take(&first);
    let port = server.config.advertise.port();
    let ports = json!([{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": first, "clusterIPs": [first], "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "ports": ports, "sessionAffinity": "None", "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    });
    let stored = create(server, "", "services", service).await?;
    update(server, "", "services", stored, |current| {
        let changed = current["spec"]["ports"] != ports;
        current["spec"]["ports"] = ports.clone();
        changed
    })
    .await
}

async fn endpoints(server: &Shared) -> Result<(), Status> {
    let address = server.config.advertise.ip().to_string();
    let port = server.config.advertise.port();
    let metadata =
        |labels: Value| json!({"name": "kubernetes", "namespace": "default", "labels": labels});

    let subsets = json!([{
        "addresses": [{"ip": address}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }]);
    let object = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": metadata(json!({"endpointslice.kubernetes.io/skip-mirror": "true"})),
        "subsets": subsets,
    });
    let stored = create(server, "", "endpoints", object).await?;
    update(server, "", "endpoints", stored, |current| set(current, "subsets", &subsets)).await?;

    let endpoints = json!([{"addresses": [address], "conditions": {"ready": true}}]);
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    let object = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": metadata(json!({"kubernetes.io/service-name": "kubernetes"})),
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    });
    let stored = create(server, "discovery.k8s.io", "endpointslices", object).await?;
    update(server, "discovery.k8s.io", "endpointslices", stored, |current| {
        set(current, "endpoints", &endpoints) | set(current, "ports", &ports)
    })
    .await
}

/// Sets a field; whether that changes anything.
fn set(object: &mut Value, field: &str, value: &Value) -> bool {
    let changed = object[field] != *value;
    object[field] = value.clone();
    changed
}

async fn authorities(server: &Shared) -> Result<(), Status> {
    let data = server.authenticator.published();
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    });
    let stored = create(server, "", "configmaps", object).await?;
    update(server, "", "configmaps", stored, |current| set(current, "data", &data)).await
}
