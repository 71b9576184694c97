//! Admission: what the cluster's own policies change in a write, and hold against it.

use crate::support::Shared;

static SHARED: Shared = Shared::control_plane();

#[test]
fn what_a_policy_adds_gets_the_defaults_of_the_namespace() {
    let space = SHARED.space("added");
    space.apply(
        r#"
apiVersion: v1
kind: LimitRange
metadata: {name: defaults}
spec: {limits: [{type: Container, default: {cpu: 200m}, defaultRequest: {cpu: 100m}}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: add-helper}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: added}}
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  reinvocationPolicy: Never
  mutations:
  - patchType: JSONPatch
    jsonPatch:
      expression: >-
        [JSONPatch{op: "add", path: "/spec/containers/-",
          value: Object.spec.containers{name: "helper", image: "helper"}}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: add-helper}
spec: {policyName: add-helper}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec: {containers: [{name: web, image: web}]}
"#,
    );
    let pod = space.get(&["pod", "web"]);
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 2, "added once: {containers:?}");
    let helper = &containers[1];
    assert_eq!(helper["name"], "helper");
    assert_eq!(helper["resources"]["limits"]["cpu"], "200m");
    assert_eq!(helper["volumeMounts"][0]["name"], containers[0]["volumeMounts"][0]["name"]);
}

#[test]
fn a_policy_refuses_what_it_is_against_and_says_why() {
    let space = SHARED.space("against");
    space.apply(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few-replicas}
spec:
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: against}}
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  validations:
  - expression: object.spec.replicas <= 3
    messageExpression: "'too many: ' + string(object.spec.replicas)"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few-replicas}
spec: {policyName: few-replicas, validationActions: [Deny]}
"#,
    );
    space.kubectl(&["create", "deployment", "web", "--image=web", "--replicas=3"]).stdout();
    let refused = space.kubectl(&["scale", "deployment", "web", "--replicas=4"]).result();
    assert!(refused.is_ok(), "a scale is no deployment: the rule does not name it");
    let refused = space.kubectl(&["label", "deployment", "web", "tier=front"]).result();
    let said = refused.unwrap_err();
    assert!(
        said.contains(
            "ValidatingAdmissionPolicy 'few-replicas' with binding 'few-replicas' denied request: \
             too many: 4"
        ),
        "{said}"
    );
}
