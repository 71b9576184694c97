//! Jobs: how much runs at once, and when it is done.

use serde_json::Value;

use crate::support::{LONG, Shared, Space, eventually};

static SHARED: Shared = Shared::with_node();

fn job(space: &Space, name: &str, spec: &str, line: &str) {
    space.apply(&format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: {name}}}
spec:
  {spec}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: knarr.demo/backend:v1
        command: [sh, -c, '{line}']
"#
    ));
}

fn pods(space: &Space, job: &str) -> Vec<Value> {
    let label = format!("job-name={job}");
    let list = space.get(&["pods", "-l", &label]);
    list["items"].as_array().unwrap().clone()
}

#[test]
fn a_job_completes_and_never_runs_more_at_once_than_it_may() {
    let space = SHARED.space("parallel");
    // The pods of one node share a folder: each says when it begins and when it ends.
    let folder = space.cluster.folder().join("parallel");
    std::fs::create_dir_all(&folder).unwrap();
    space.apply(&format!(
        r#"
apiVersion: batch/v1
kind: Job
metadata: {{name: count}}
spec:
  completions: 5
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers:
      - name: c
        image: knarr.demo/backend:v1
        command: [sh, -c, 'echo + >> /log/log; sleep 0.3; echo - >> /log/log']
        volumeMounts: [{{name: log, mountPath: /log}}]
      volumes: [{{name: log, hostPath: {{path: {}}}}}]
"#,
        folder.display()
    ));
    space.wait("condition=Complete", &["job/count"]);
    let status = &space.get(&["job", "count"])["status"];
    assert_eq!(status["succeeded"], 5);
    assert!(status["completionTime"].is_string(), "{status}");
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    let (mut running, mut most) = (0, 0);
    for line in log.lines() {
        running += if line == "+" { 1 } else { -1 };
        most = most.max(running);
    }
    assert_eq!((log.lines().count(), running, most), (10, 0, 2), "{log}");
    assert_eq!(pods(&space, "count").len(), 5);
    let shown = space.kubectl(&["get", "job", "count"]).stdout();
    assert!(shown.contains("Complete") && shown.contains("5/5"), "{shown}");
}

#[test]
fn each_pod_of_an_indexed_job_has_its_index() {
    let space = SHARED.space("indexed");
    let spec = "completions: 3\n  parallelism: 3\n  completionMode: Indexed";
    job(&space, "parts", spec, "echo part $JOB_COMPLETION_INDEX");
    space.wait("condition=Complete", &["job/parts"]);
    assert_eq!(space.get(&["job", "parts"])["status"]["completedIndexes"], "0-2");
    let logs = space.kubectl(&["logs", "-l", "job-name=parts"]).stdout();
    let mut lines: Vec<&str> = logs.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["part 0", "part 1", "part 2"]);
}

#[test]
fn a_job_that_fails_too_often_has_failed() {
    let space = SHARED.space("backoff");
    job(&space, "vain", "backoffLimit: 0", "exit 1");
    space.wait("condition=Failed", &["job/vain"]);
    let job_ = space.get(&["job", "vain"]);
    let conditions = job_["status"]["conditions"].as_array().unwrap();
    let failed = conditions.iter().find(|condition| condition["type"] == "Failed").unwrap();
    assert_eq!(failed["reason"], "BackoffLimitExceeded");
    assert_eq!((&job_["status"]["failed"], pods(&space, "vain").len()), (&1.into(), 1));
    // It may fail for a reason that is no fault of its own.
    let spec = "backoffLimit: 0\n  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: \
                {operator: In, values: [42]}}]}";
    job(&space, "policy", spec, "exit 42");
    space.wait("condition=Failed", &["job/policy"]);
    let conditions = space.get(&["job", "policy"])["status"]["conditions"].to_string();
    assert!(conditions.contains("PodFailurePolicy"), "{conditions}");
}

#[test]
fn a_suspended_job_runs_when_it_is_resumed() {
    let space = SHARED.space("suspended");
    job(&space, "later", "suspend: true", "true");
    space.wait("condition=Suspended", &["job/later"]);
    assert!(pods(&space, "later").is_empty());
    space.kubectl(&["patch", "job", "later", "-p", r#"{"spec":{"suspend":false}}"#]).stdout();
    space.wait("condition=Complete", &["job/later"]);
}

#[test]
fn a_finished_job_goes_after_its_time_to_live_and_its_pods_with_it() {
    let space = SHARED.space("ttl");
    job(&space, "brief", "ttlSecondsAfterFinished: 0", "true");
    eventually("the job to go", LONG, || match space.kubectl(&["get", "job", "brief"]).result() {
        Ok(there) => Err(there),
        Err(gone) if gone.contains("NotFound") => Ok(()),
        Err(other) => Err(other),
    });
    eventually("its pods to go", LONG, || {
        let left = pods(&space, "brief").len();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    });
}
