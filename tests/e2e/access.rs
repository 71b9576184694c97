//! Who may do what: tokens and RBAC, as a program in a pod meets them.

use crate::support::{LONG, Shared, Space, eventually};

static SHARED: Shared = Shared::with_node();

/// A pod of a service account of its own.
const READER: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  serviceAccountName: reader
  terminationGracePeriodSeconds: 1
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'trap exit TERM; sleep 1d & wait']
"#;

fn with_reader(name: &'static str) -> Space {
    let space = SHARED.space(name);
    space.apply(READER);
    space.wait("condition=Ready", &["pod/p"]);
    space
}

/// What the API answers at its service's address to the token and by the authority that were put
/// into the pod. The pod itself has no client that speaks TLS well enough.
fn ask(space: &Space, path: &str) -> Result<String, String> {
    let folder = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = space.sh("p", &format!("cat {folder}/token")).stdout();
    let authority = space.cluster.folder().join("pod-ca.crt");
    std::fs::write(&authority, space.sh("p", &format!("cat {folder}/ca.crt")).stdout()).unwrap();
    let (authority, header) =
        (authority.display().to_string(), format!("Authorization: Bearer {token}"));
    let url = format!("https://kubernetes.default.svc{path}");
    let resolve = "kubernetes.default.svc:443:10.43.0.1";
    let curl = ["-sS", "--fail-with-body", "--max-time", "10", "--resolve", resolve, "--cacert"];
    let mut all = curl.to_vec();
    all.extend([authority.as_str(), "-H", &header, &url]);
    space.cluster.on_node("curl", &all).result()
}

#[test]
fn a_pod_may_do_what_its_account_was_granted_and_no_more() {
    let space = with_reader("rbac");
    let pods = format!("/api/v1/namespaces/{}/pods", space.name);
    let secrets = format!("/api/v1/namespaces/{}/secrets", space.name);
    let denied = ask(&space, &pods).unwrap_err();
    assert!(denied.contains(r#""reason": "Forbidden""#), "{denied}");
    space.kubectl(&["create", "role", "see", "--verb=get,list", "--resource=pods"]).stdout();
    let account = format!("--serviceaccount={}:reader", space.name);
    space.kubectl(&["create", "rolebinding", "see", "--role=see", &account]).stdout();
    let list = eventually("the grant", LONG, || ask(&space, &pods));
    assert!(list.contains(r#""kind": "PodList""#), "{list}");
    let denied = ask(&space, &secrets).unwrap_err();
    assert!(denied.contains(r#""reason": "Forbidden""#), "{denied}");
    let user = format!("--as=system:serviceaccount:{}:reader", space.name);
    for (verb, resource, expected) in
        [("list", "pods", "yes"), ("delete", "pods", "no"), ("get", "secrets", "no")]
    {
        let answer = space.kubectl(&["auth", "can-i", verb, resource, &user]).out();
        assert_eq!(answer.trim(), expected, "{verb} {resource}");
    }
    space.kubectl(&["delete", "rolebinding", "see"]).stdout();
    eventually("the grant to end", LONG, || match ask(&space, &pods) {
        Ok(list) => Err(list),
        Err(denied) => Ok(denied),
    });
}

#[test]
fn nobody_grants_rights_that_he_does_not_have() {
    let space = SHARED.space("escalation");
    space.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: climber}\n");
    let verbs = "--verb=create,get,update,patch,bind";
    let resources = "--resource=roles.rbac.authorization.k8s.io";
    space.kubectl(&["create", "role", "roles", verbs, resources]).stdout();
    let account = format!("--serviceaccount={}:climber", space.name);
    space.kubectl(&["create", "rolebinding", "roles", "--role=roles", &account]).stdout();
    let user = format!("--as=system:serviceaccount:{}:climber", space.name);
    let higher = ["create", "role", "higher", "--verb=get", "--resource=secrets", &user];
    let refused = eventually("the refusal", LONG, || {
        let refused = space.kubectl(&higher).refused();
        match refused.contains("cannot create resource") {
            true => Err(refused),
            false => Ok(refused),
        }
    });
    assert!(
        refused.contains("attempting to grant RBAC permissions not currently held"),
        "{refused}"
    );
}

#[test]
fn a_token_names_its_account_and_ends_with_its_pod() {
    let space = with_reader("tokens");
    let token = space.kubectl(&["create", "token", "reader"]).stdout();
    let review = |token: &str| {
        let review = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token.trim()},
        });
        let create = ["create", "-o", "json", "-f", "-"];
        let answer = space.kubectl_with(&create, &review.to_string()).stdout();
        serde_json::from_str::<serde_json::Value>(&answer).unwrap()["status"].clone()
    };
    let status = review(&token);
    let name = format!("system:serviceaccount:{}:reader", space.name);
    assert_eq!(
        (&status["authenticated"], &status["user"]["username"]),
        (&true.into(), &name.into())
    );

    let bound = space.sh("p", "cat /var/run/secrets/kubernetes.io/serviceaccount/token").stdout();
    let extra = &review(&bound)["user"]["extra"];
    assert_eq!(extra["authentication.kubernetes.io/pod-name"][0], "p");
    space.kubectl(&["delete", "pod", "p"]).stdout();
    let status = eventually("the token to end", LONG, || {
        let status = review(&bound);
        if status["authenticated"] == true { Err(status.to_string()) } else { Ok(status) }
    });
    assert!(status["error"].is_string(), "{status}");

    let (code, answer) = space.request("GET", "/pods", &["-H", "Authorization: Bearer x.y.z"]);
    // A bad token beside a good certificate: the certificate decides, as upstream.
    assert_eq!(code, 200, "{answer}");
    let anonymous = ["-sk", "-o", "/dev/null", "-w", "%{http_code}"];
    for (header, path, expected) in [
        ("Authorization: Bearer x.y.z", "/api/v1/pods", "401"),
        ("X-Nothing: 1", "/api/v1/pods", "403"),
        ("X-Nothing: 1", "/readyz", "200"),
    ] {
        let url = format!("https://127.0.0.1:6443{path}");
        let mut all = anonymous.to_vec();
        all.extend(["-H", header, &url]);
        assert_eq!(space.cluster.on_node("curl", &all).out(), expected, "{header} {path}");
    }
}
