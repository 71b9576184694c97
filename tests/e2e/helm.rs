//! helm 4, with a chart of its own.

use std::fs;

use crate::support::Shared;

static SHARED: Shared = Shared::with_node();

const CHART: &str = "apiVersion: v2\nname: ship\nversion: 0.1.0\nappVersion: \"1\"\n";
const VALUES: &str = "colour: red\nreplicas: 1\n";
const TEMPLATE: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-page}
data: {index.html: {{ .Values.colour }}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: {{ .Release.Name }}}}
  template:
    metadata:
      labels: {app: {{ .Release.Name }}}
      annotations: {colour: {{ .Values.colour }}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: knarr.demo/backend:v1
        command: [sh, -c, 'httpd -p 80 -h /page; trap exit TERM; sleep 1d & wait']
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        volumeMounts: [{name: page, mountPath: /page}]
      volumes: [{name: page, configMap: {name: {{ .Release.Name }}-page}}]
---
apiVersion: v1
kind: Service
metadata: {name: {{ .Release.Name }}}
spec: {selector: {app: {{ .Release.Name }}}, ports: [{port: 80}]}
"#;

#[test]
fn helm_installs_upgrades_rolls_back_and_uninstalls() {
    let space = SHARED.space("helm");
    let chart = space.cluster.folder().join("ship");
    fs::create_dir_all(chart.join("templates")).unwrap();
    fs::write(chart.join("Chart.yaml"), CHART).unwrap();
    fs::write(chart.join("values.yaml"), VALUES).unwrap();
    fs::write(chart.join("templates/all.yaml"), TEMPLATE).unwrap();
    let chart = chart.display().to_string();
    let home = format!("HOME={}", space.cluster.folder().display());
    let helm = |arguments: &[&str]| {
        let mut all = vec!["-n", space.name];
        all.extend(arguments);
        space.cluster.client(&[&home], "helm", &all).stdout()
    };
    let colour = || {
        let asked = ["exec", "deploy/knorr", "--", "wget", "-qO-", "http://knorr"];
        space.kubectl(&asked).stdout()
    };
    helm(&["install", "knorr", &chart, "--wait", "--timeout=60s"]);
    assert_eq!(colour(), "red");
    let set = ["--set", "colour=green,replicas=2"];
    let upgrade = ["upgrade", "knorr", &chart, "--wait", "--timeout=60s"];
    helm(&[&upgrade[..], &set].concat());
    assert_eq!(space.get(&["deployment", "knorr"])["status"]["readyReplicas"], 2);
    assert_eq!(space.get(&["configmap", "knorr-page"])["data"]["index.html"], "green");
    let history = helm(&["history", "knorr"]);
    assert_eq!(history.lines().count(), 3, "{history}");
    helm(&["rollback", "knorr", "1", "--wait", "--timeout=60s"]);
    assert_eq!(space.get(&["deployment", "knorr"])["spec"]["replicas"], 1);
    assert_eq!(space.get(&["configmap", "knorr-page"])["data"]["index.html"], "red");
    let listed = helm(&["list"]);
    assert!(listed.contains("ship-0.1.0") && listed.contains("deployed"), "{listed}");
    helm(&["uninstall", "knorr", "--wait", "--timeout=60s"]);
    let left = ["get", "deployments,services,configmaps,secrets", "-o", "name"];
    assert_eq!(space.kubectl(&left).stdout(), "configmap/kube-root-ca.crt\n");
}
