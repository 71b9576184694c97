//! What the cluster's signers demand of a request, in upstream's words.

use pki::request::SigningRequest;

pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Whether the signer would sign: `None` where it is none of ours.
pub(super) fn verdict(
    signer: &str,
    request: &SigningRequest,
    usages: &[String],
) -> Option<Result<(), String>> {
    match signer {
        KUBELET_CLIENT => Some(kubelet_client(request, usages)),
        KUBELET_SERVING => Some(kubelet_serving(request, usages)),
        API_CLIENT => Some(api_client(usages)),
        _ => None,
    }
}

fn kubelet_client(request: &SigningRequest, usages: &[String]) -> Result<(), String> {
    organization(request)?;
    let names = &request.names;
    for (kind, there) in [
        ("DNS", !names.dns.is_empty()),
        ("Email", !names.emails.is_empty()),
        ("IP", !names.ips.is_empty()),
        ("URI", !names.uris.is_empty()),
    ] {
        if there {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    common_name(request)?;
    exactly("client auth", usages)
}

fn kubelet_serving(request: &SigningRequest, usages: &[String]) -> Result<(), String> {
    organization(request)?;
    let names = &request.names;
    if names.dns.is_empty() && names.ips.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    for (kind, there) in [("Email", !names.emails.is_empty()), ("URI", !names.uris.is_empty())] {
        if there {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    exactly("server auth", usages)?;
    common_name(request)
}

fn api_client(usages: &[String]) -> Result<(), String> {
    const ALLOWED: [&str; 3] = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !ALLOWED.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

fn organization(request: &SigningRequest) -> Result<(), String> {
    match request.subject.organizations.as_slice() {
        [one] if one == "system:nodes" => Ok(()),
        _ => Err("subject organization is not system:nodes".to_owned()),
    }
}

fn common_name(request: &SigningRequest) -> Result<(), String> {
    match request.subject.common_name.starts_with("system:node:") {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:".to_owned()),
    }
}

/// A digital signature and `purpose`, with or without what RSA keys need besides.
fn exactly(purpose: &str, usages: &[String]) -> Result<(), String> {
    let mut wanted = ["digital signature", "key encipherment", purpose];
    wanted.sort_unstable();
    let has = |usage: &&str| usages.iter().any(|there| there == usage);
    let only = usages.iter().all(|usage| wanted.contains(&usage.as_str()));
    match only && has(&"digital signature") && has(&purpose) {
        true => Ok(()),
        false => Err(format!("usages did not match [{}]", wanted.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use pki::{AltNames, Subject};

    use super::*;

    fn request(name: &str, organization: &str, hosts: &[&str]) -> SigningRequest {
        SigningRequest {
            subject: Subject {
                common_name: name.to_owned(),
                organizations: vec![organization.to_owned()],
            },
            names: AltNames::new(hosts),
            public_key: Vec::new(),
        }
    }

    #[test]
    fn signers_take_what_fits_them() {
        let usages = |list: &[&str]| list.iter().map(|&usage| usage.to_owned()).collect::<Vec<_>>();
        let client = usages(&["digital signature", "client auth"]);
        let server = usages(&["digital signature", "key encipherment", "server auth"]);
        let node = request("system:node:a", "system:nodes", &[]);
        let serving = request("system:node:a", "system:nodes", &["a"]);
        let of = |signer, request: &SigningRequest, usages: &[String]| {
            verdict(signer, request, usages).expect("our signer").err().unwrap_or_default()
        };
        assert_eq!(of(KUBELET_CLIENT, &node, &client), "");
        assert_eq!(of(KUBELET_CLIENT, &serving, &client), "DNS subjectAltNames are not allowed");
        assert_eq!(
            of(KUBELET_CLIENT, &node, &server),
            "usages did not match [client auth digital signature key encipherment]"
        );
        assert_eq!(of(KUBELET_SERVING, &serving, &server), "");
        assert_eq!(of(KUBELET_SERVING, &node, &server), "DNS or IP subjectAltName is required");
        let person = request("jane", "people", &[]);
        assert_eq!(of(API_CLIENT, &person, &client), "");
        assert_eq!(
            of(KUBELET_CLIENT, &person, &client),
            "subject organization is not system:nodes"
        );
        assert_eq!(
            of(API_CLIENT, &person, &server),
            "invalid usage for client certificate: server auth"
        );
        assert!(verdict("example.com/own", &person, &client).is_none());
    }
}
