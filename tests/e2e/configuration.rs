//! What a pod is told and given: environment, configuration, volumes.

use crate::support::{Shared, Space};

static SHARED: Shared = Shared::with_node();

const STAY: &str = "trap exit TERM; sleep 1d & wait";

/// The value of a variable in the pod's environment.
fn variable(space: &Space, pod: &str, name: &str) -> String {
    space.sh(pod, &format!("echo \"${{{name}-unset}}\"")).stdout().trim_end().to_owned()
}

#[test]
fn the_environment_comes_from_every_source() {
    let space = SHARED.space("environment");
    space.apply(&format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: colours}}
data: {{sky: blue, sea: green}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{DOOR: open sesame}}
---
apiVersion: v1
kind: Pod
metadata: {{name: p, labels: {{tier: front}}, annotations: {{note: well}}}}
spec:
  serviceAccountName: default
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, '{STAY}']
    resources: {{requests: {{cpu: 100m}}, limits: {{memory: 64Mi}}}}
    envFrom:
    - {{prefix: OF_, configMapRef: {{name: colours}}}}
    - {{secretRef: {{name: keys}}}}
    - {{configMapRef: {{name: nowhere, optional: true}}}}
    env:
    - {{name: PLAIN, value: words}}
    - {{name: JOINED, value: $(PLAIN) and $(OF_sky) but $$(PLAIN) and $(NOTHING)}}
    - {{name: SKY, valueFrom: {{configMapKeyRef: {{name: colours, key: sky}}}}}}
    - {{name: GONE, valueFrom: {{configMapKeyRef: {{name: colours, key: sun, optional: true}}}}}}
    - {{name: KEY, valueFrom: {{secretKeyRef: {{name: keys, key: DOOR}}}}}}
    - {{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: TIER, valueFrom: {{fieldRef: {{fieldPath: "metadata.labels['tier']"}}}}}}
    - {{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}
    - {{name: IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: HOST, valueFrom: {{fieldRef: {{fieldPath: status.hostIP}}}}}}
    - {{name: MEMORY, valueFrom: {{resourceFieldRef: {{resource: limits.memory, divisor: 1Mi}}}}}}
"#
    ));
    space.wait("condition=Ready", &["pod/p"]);
    let pod = space.get(&["pod", "p"]);
    let ip = pod["status"]["podIP"].as_str().unwrap();
    let expected = [
        ("OF_sky", "blue"),
        ("OF_sea", "green"),
        ("DOOR", "open sesame"),
        ("PLAIN", "words"),
        ("JOINED", "words and blue but $(PLAIN) and $(NOTHING)"),
        ("SKY", "blue"),
        ("GONE", "unset"),
        ("KEY", "open sesame"),
        ("NAME", "p"),
        ("TIER", "front"),
        ("NODE", "node"),
        ("IP", ip),
        ("HOST", "192.0.2.1"),
        ("MEMORY", "64"),
        ("KUBERNETES_SERVICE_HOST", "10.43.0.1"),
        ("KUBERNETES_SERVICE_PORT", "443"),
        ("HOSTNAME", "p"),
    ];
    for (name, value) in expected {
        assert_eq!(variable(&space, "p", name), value, "{name}");
    }
}

#[test]
fn a_changed_config_map_reaches_its_volume_as_one() {
    let space = SHARED.space("atomic");
    let map = |value: u32| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: twins}}\n\
             data: {{left: '{value}', right: '{value}'}}\n"
        )
    };
    space.apply(&map(1));
    // Reads both files of one folder over and over. `..data` is what is swapped; a reader who has
    // the folder behind it open may find it empty, but never half new.
    let watcher = "trap exit TERM; exec 2>/dev/null; while :; do cd -P /twins/..data && l=$(cat left) \
                   && r=$(cat right) && [ \"$l\" != \"$r\" ] && echo torn $l $r; done";
    space.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, '{STAY}']
    volumeMounts:
    - &all {{name: twins, mountPath: /twins}}
    - {{name: twins, mountPath: /left, subPath: left}}
    - {{name: some, mountPath: /some}}
  - name: watcher
    image: knarr.demo/backend:v1
    command: [sh, -c, '{watcher}']
    volumeMounts: [*all]
  volumes:
  - {{name: twins, configMap: {{name: twins}}}}
  - {{name: some, configMap: {{name: twins, defaultMode: 0400, items: [{{key: left, path: deep/one}}]}}}}
"#
    ));
    space.wait("condition=Ready", &["pod/p"]);
    assert_eq!(space.sh("p -c c", "cat /left /some/deep/one").stdout(), "11");
    assert_eq!(space.sh("p -c c", "stat -Lc %a /some/deep/one").stdout(), "400\n");
    for value in 2..5 {
        space.apply(&map(value));
        space.sh_until("p -c c", &format!("grep {value} /twins/left && grep {value} /twins/right"));
    }
    assert_eq!(space.sh("p -c c", "cat /left").stdout(), "1", "a subPath is not updated");
    assert_eq!(space.kubectl(&["logs", "p", "-c", "watcher"]).stdout(), "");
}

#[test]
fn the_downward_api_follows_the_labels() {
    let space = SHARED.space("downward");
    space.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: p, labels: {{tier: front}}}}
spec:
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, '{STAY}']
    resources: {{limits: {{cpu: 250m}}}}
    volumeMounts: [{{name: info, mountPath: /info}}]
  volumes:
  - name: info
    downwardAPI:
      items:
      - {{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}
      - {{path: space, fieldRef: {{fieldPath: metadata.namespace}}}}
      - {{path: cpu, resourceFieldRef: {{containerName: c, resource: limits.cpu, divisor: 1m}}}}
"#
    ));
    space.wait("condition=Ready", &["pod/p"]);
    let told = space.sh("p", "cd /info; cat labels space cpu").stdout();
    assert_eq!(told, "tier=\"front\"downward250");
    space.kubectl(&["label", "pod", "p", "colour=red"]).stdout();
    space.sh_until("p", "grep -x 'colour=\"red\"' /info/labels");
}

#[test]
fn an_empty_volume_lasts_as_long_as_its_pod_and_is_shared_in_it() {
    let space = SHARED.space("empty-dir");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - &c
    name: one
    image: knarr.demo/backend:v1
    command: [sh, -c, 'echo $HOSTNAME >> /disk/starts; trap exit TERM; sleep 1d & wait']
    volumeMounts:
    - {name: disk, mountPath: /disk}
    - {name: memory, mountPath: /memory}
    - {name: disk, mountPath: /sub, subPathExpr: a/$(WHERE)}
    env: [{name: WHERE, value: b}]
  - {<<: *c, name: two}
  volumes:
  - {name: disk, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
"#,
    );
    space.wait("condition=Ready", &["pod/p"]);
    space.sh("p -c one", "echo hello > /memory/from-one; echo deep > /sub/file").stdout();
    assert_eq!(
        space.sh("p -c two", "cat /memory/from-one /disk/a/b/file").stdout(),
        "hello\ndeep\n"
    );
    let kind = space.sh("p -c two", "grep ' /memory ' /proc/mounts").stdout();
    assert!(kind.contains("tmpfs"), "{kind}");
    let full = space.sh("p -c two", "dd if=/dev/zero of=/memory/large bs=1k count=2000").refused();
    assert!(full.contains("No space left on device"), "{full}");
    space.sh("p -c one", "kill -TERM 1");
    space.until("pod/p", "/status/containerStatuses/0/restartCount", |count| *count == 1);
    space.sh_until("p -c one", "test $(wc -l < /disk/starts) = 3 && cat /memory/from-one");
    let uid = space.get(&["pod", "p"])["metadata"]["uid"].as_str().unwrap().to_owned();
    space.kubectl(&["delete", "pod", "p"]).stdout();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&uid), "the pod's mounts are gone: {mounts}");
}

#[test]
fn a_pod_waits_for_the_configuration_that_it_needs() {
    let space = SHARED.space("missing");
    space.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: env}}
spec:
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, '{STAY}']
    envFrom: [{{configMapRef: {{name: later}}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: volume}}
spec:
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, '{STAY}']
    volumeMounts: [{{name: later, mountPath: /later}}]
  volumes: [{{name: later, configMap: {{name: later}}}}]
"#
    ));
    let waiting = "/status/containerStatuses/0/state/waiting/reason";
    let pod = space.until("pod/env", waiting, |why| *why == "CreateContainerConfigError");
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(*message, r#"configmap "later" not found"#);
    space.until("pod/volume", waiting, |why| *why == "ContainerCreating");
    space.kubectl(&["create", "configmap", "later", "--from-literal=ANSWER=42"]).stdout();
    space.wait("condition=Ready", &["pod/env", "pod/volume"]);
    assert_eq!(variable(&space, "env", "ANSWER"), "42");
    assert_eq!(space.sh("volume", "cat /later/ANSWER").stdout(), "42");
}

#[test]
fn a_projected_volume_joins_its_sources() {
    let space = SHARED.space("projected");
    space.kubectl(&["create", "configmap", "colours", "--from-literal=sky=blue"]).stdout();
    space.kubectl(&["create", "secret", "generic", "keys", "--from-literal=door=open"]).stdout();
    space.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: p}}
spec:
  automountServiceAccountToken: false
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, '{STAY}']
    volumeMounts: [{{name: all, mountPath: /all, readOnly: true}}]
  volumes:
  - name: all
    projected:
      sources:
      - {{configMap: {{name: colours}}}}
      - {{secret: {{name: keys, items: [{{key: door, path: keys/door}}]}}}}
      - {{downwardAPI: {{items: [{{path: name, fieldRef: {{fieldPath: metadata.name}}}}]}}}}
      - {{serviceAccountToken: {{path: token, audience: someone, expirationSeconds: 600}}}}
"#
    ));
    space.wait("condition=Ready", &["pod/p"]);
    assert_eq!(space.sh("p", "cd /all; cat sky keys/door name").stdout(), "blueopenp");
    let token = space.sh("p", "cat /all/token").stdout();
    assert_eq!(token.split('.').count(), 3, "{token}");
    space.sh("p", "touch /all/new").refused();
    let none = space.sh("p", "ls /var/run/secrets").refused();
    assert!(none.contains("No such file"), "{none}");
}
