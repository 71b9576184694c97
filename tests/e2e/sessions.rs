//! What passes between kubectl and a container: exec, attach, logs, ports, files.

use serde_json::Value;

use crate::support::{LONG, Shared, Space, eventually};

static SHARED: Shared = Shared::with_node();

/// A pod with two containers that stay.
const TALKER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talker}
spec:
  containers:
  - &stay
    name: first
    image: knarr.demo/backend:v1
    command: [sh, -c, 'echo first; hostname > /www/index.html; httpd -p 8080 -h /www; trap exit TERM; sleep 1d & wait']
  - {<<: *stay, name: second, command: [sh, -c, 'echo second; trap exit TERM; sleep 1d & wait']}
"#;

fn with_talker(name: &'static str) -> Space {
    let space = SHARED.space(name);
    space.apply(TALKER);
    space.wait("condition=Ready", &["pod/talker"]);
    space
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn exec_passes_input_output_and_the_exit_code() {
    let space = with_talker("exec");
    let echoed = space.kubectl_with(&["exec", "-i", "talker", "--", "cat"], "in and out");
    assert_eq!(echoed.stdout(), "in and out");
    let failed = space.sh("talker -c first", "echo out; echo err >&2; exit 7");
    assert_eq!((failed.out().as_str(), failed.code()), ("out\n", Some(7)));
    assert!(failed.err().starts_with("err\n"), "{failed}");
    let second = space.sh("talker -c second", "ls /www").stdout();
    assert_eq!(second, "", "the second container has a file system of its own");
    let refused = space.kubectl(&["exec", "talker", "--", "nothing"]).refused();
    assert!(refused.contains("nothing"), "{refused}");
    // More than a window of any protocol, both ways.
    let large = "0123456789abcdef".repeat(65_536);
    let back = space.kubectl_with(&["exec", "-i", "talker", "--", "cat"], &large).stdout();
    assert!(back == large, "{} bytes of {} came back", back.len(), large.len());
}

#[test]
fn a_terminal_is_one_on_both_sides() {
    let space = with_talker("terminal");
    // The size comes after the terminal. Without one stty complains, and calls it a success.
    let line = "tty; until stty size | grep .; do sleep 0.05; done";
    let arguments = ["exec", "-it", "talker", "-c", "first", "--", "sh", "-c", line];
    let kubectl = space.cluster.command_line(&["-n", space.name], &arguments);
    let line = format!("stty rows 33 cols 99; {kubectl}; echo exit code $?");
    let mut session = space.cluster.in_background("script", &["-qec", &line, "/dev/null"]);
    session.line_with("/dev/pts/");
    session.line_with("33 99");
    assert!(session.end().0);
}

#[test]
fn attach_joins_a_running_container() {
    let space = SHARED.space("attach");
    let run = ["run", "echo", "--image=knarr.demo/backend:v1", "--restart=Never", "--rm", "-i"];
    let mut all = run.to_vec();
    all.extend(["--", "sh", "-c", "while read line; do echo got $line; done"]);
    let said = space.kubectl_with(&all, "one\ntwo\n").stdout();
    assert!(said.contains("got one\ngot two\n"), "{said}");
    assert!(space.names(&["pods"]).is_empty(), "--rm");
}

#[test]
fn logs_follow_a_container_to_its_end() {
    let space = SHARED.space("follow");
    space.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: knarr.demo/backend:v1
    command: [sh, -c, 'echo begun; until [ -e /tmp/go ]; do sleep 0.05; done; for i in 1 2 3; do echo $i; done']
"#,
    );
    space.wait("condition=Ready", &["pod/counter"]);
    let mut follow = space.kubectl_in_background(&["logs", "-f", "counter"]);
    follow.line_with("begun");
    space.sh_at_last("counter", "touch /tmp/go");
    assert_eq!(follow.end(), (true, ["1", "2", "3"].map(ToOwned::to_owned).to_vec()));
    let logs = |arguments: &[&str]| {
        let mut all = vec!["logs", "counter"];
        all.extend(arguments);
        space.kubectl(&all).stdout()
    };
    assert_eq!(logs(&["--tail=2"]), "2\n3\n");
    assert_eq!(logs(&["--limit-bytes=5"]), "begun");
    let stamped = logs(&["--timestamps", "--tail=1"]);
    let (stamp, line) = stamped.split_once(' ').unwrap();
    assert!(stamp.ends_with('Z') && stamp.contains('T') && line == "3\n", "{stamped}");
    assert_eq!(logs(&["--since-time=2199-01-01T00:00:00Z"]), "");
}

#[test]
fn logs_lie_where_collectors_look_for_them() {
    let space = SHARED.space("collected");
    let told = ["run", "teller", "--image=knarr.demo/backend:v1", "--restart=Never", "--"];
    space.kubectl(&[&told[..], &["echo", "told"]].concat()).stdout();
    space.wait("jsonpath={.status.phase}=Succeeded", &["pod/teller"]);
    let pod = space.get(&["pod", "teller"]);
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let logs = space.cluster.folder().join("logs");
    let file = logs.join(format!("pods/collected_teller_{uid}/teller/0.log"));
    let link = logs
        .join("containers")
        .join(format!("teller_collected_teller-{}.log", id.split("://").last().unwrap()));
    assert_eq!(std::fs::read_link(&link).unwrap(), file);
    let text = std::fs::read_to_string(link).unwrap();
    assert!(text.ends_with(" stdout F told\n"), "{text}");
    space.kubectl(&["delete", "pod", "teller"]).stdout();
    eventually("the logs to go with their pod", LONG, || match file.exists() {
        true => Err("still there".to_owned()),
        false => Ok(()),
    });
}

#[test]
fn logs_of_the_previous_container_and_of_all_containers_are_there() {
    let space = with_talker("previous");
    let all = space.kubectl(&["logs", "talker", "--all-containers", "--prefix"]).stdout();
    assert_eq!(sorted(&all), ["[pod/talker/first] first", "[pod/talker/second] second"]);
    let none = space.kubectl(&["logs", "talker", "-c", "first", "--previous"]).refused();
    assert!(none.contains("previous terminated container"), "{none}");
    space.sh("talker", "echo last words > /proc/1/fd/1; kill -TERM 1");
    space.until("pod/talker", "/status/containerStatuses/0/restartCount", |count| *count == 1);
    let previous = space.kubectl(&["logs", "talker", "-c", "first", "--previous"]).stdout();
    assert_eq!(previous, "first\nlast words\n");
}

#[test]
fn a_forwarded_port_reaches_the_pod() {
    let space = with_talker("forward");
    let mut forward = space.kubectl_in_background(&["port-forward", "pod/talker", ":8080"]);
    let line = forward.line_with("Forwarding from 127.0.0.1:");
    let port = line.split(['>', ' ', ':']).find(|part| part.parse::<u16>().is_ok()).unwrap();
    let url = format!("http://127.0.0.1:{port}/");
    for _ in 0..5 {
        assert_eq!(space.cluster.on_node("curl", &["-sS", &url]).stdout(), "talker\n");
    }
}

#[test]
fn files_are_copied_both_ways() {
    let space = with_talker("copy");
    let here = space.cluster.data().join("copied");
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(n) >> 3) as u8).collect();
    std::fs::write(&here, &bytes).unwrap();
    let there = format!("{}/talker:/tmp/there", space.name);
    let cluster = space.cluster;
    cluster.kubectl(&["cp", here.to_str().unwrap(), &there]).stdout();
    let back = cluster.data().join("back");
    cluster.kubectl(&["cp", &there, back.to_str().unwrap()]).stdout();
    assert!(std::fs::read(back).unwrap() == bytes);
}

#[test]
fn a_debug_container_joins_a_running_pod() {
    let space = with_talker("debug");
    let debug = ["debug", "talker", "--image=knarr.demo/web:v1", "-c", "debugger", "--"];
    let mut all = debug.to_vec();
    all.extend(["sh", "-c", "wget -qO- http://127.0.0.1:8080"]);
    space.kubectl(&all).stdout();
    let ended = "/status/ephemeralContainerStatuses/0/state/terminated/exitCode";
    space.until("pod/talker", ended, |code| *code == 0);
    assert_eq!(space.kubectl(&["logs", "talker", "-c", "debugger"]).stdout(), "talker\n");
}

#[test]
fn the_api_passes_requests_on_to_pods_services_and_nodes() {
    let space = with_talker("proxy");
    let (code, body) = space.request("GET", "/pods/talker:8080/proxy/", &[]);
    assert_eq!((code, body.as_str()), (200, "talker\n"));
    space.kubectl(&["label", "pod", "talker", "app=talker"]).stdout();
    space.kubectl(&["expose", "pod", "talker", "--port=80", "--target-port=8080"]).stdout();
    eventually("the service through the API", LONG, || {
        match space.request("GET", "/services/talker/proxy/", &[]) {
            (200, body) if body == "talker\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let (code, body) = space.cluster.request("GET", "/api/v1/nodes/node/proxy/pods", &[]);
    assert_eq!(code, 200, "{body}");
    let pods: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(pods["kind"], "PodList");
}
