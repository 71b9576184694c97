//! Running containers: output, exit codes, signals, exec, attach, terminals.

use std::time::Duration;

use runtime::{Error, ExecSpec, LogLimits, RuntimeEvent, Signal, StartError, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{Node, exit_of, in_time, log_lines, strings, until};

crate::tests![
    runs_and_logs,
    reports_the_exit_once_and_in_order,
    says_what_cannot_be_run,
    kills_and_signals,
    execs,
    execs_on_a_terminal,
    times_out,
    attaches,
    attaches_to_a_terminal,
    rotates_logs,
    shares_processes,
    sees_the_processes_of_a_target,
    environment_and_folder,
];

async fn runs_and_logs(node: Node) {
    let sandbox = node.sandbox().await;
    let script = "echo out; echo err >&2; printf unfinished; exit 3";
    let spec = node.script(script).await;
    let log = spec.log_path.clone().unwrap();
    let (exit, mut lines) = node.finish(&sandbox, spec).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (3, 0, false));
    assert!(exit.finished_at >= exit.started_at);
    lines.sort();
    assert_eq!(lines, ["err", "out", "unfinished"]);
    let text = std::fs::read_to_string(log).unwrap();
    assert!(text.contains(" stderr F err\n") && text.contains(" stdout F out\n"), "{text}");
    // Layers: what the second one removes and adds.
    let lines = node.output(|_| {}, "cat /etc/added; ls /etc").await;
    assert_eq!(lines, ["added", "added", "group", "passwd", "secret"]);
}

async fn reports_the_exit_once_and_in_order(mut node: Node) {
    let sandbox = node.sandbox().await;
    for _ in 0..5 {
        let spec = node.script("exit 7").await;
        let state = sandbox.start_container(spec).await.unwrap();
        let RuntimeEvent::ContainerExited { pod_uid, container_id, exit } = node.event().await
        else {
            panic!("another event");
        };
        assert_eq!((pod_uid.as_str(), &container_id), (sandbox.pod_uid(), &state.id));
        assert_eq!(exit.code, 7);
        let now = sandbox.container(&state.id).unwrap();
        assert_eq!(exit_of(&now), Some(&exit));
    }
    assert_eq!(sandbox.containers().len(), 5);
    assert!(node.events.try_recv().is_err());
}

async fn says_what_cannot_be_run(node: Node) {
    let sandbox = node.sandbox().await;
    for (argv, want) in [
        (&["nope"][..], "exec: \"nope\": executable file not found in $PATH"),
        (&["/nope"], "exec: \"/nope\": stat /nope: no such file or directory"),
        (&["/etc/added"], "exec: \"/etc/added\": permission denied"),
        (&["/etc"], "exec: \"/etc\": is a directory"),
    ] {
        let mut spec = node.script("").await;
        spec.argv = strings(argv);
        let id = spec.id.clone();
        let error = sandbox.start_container(spec).await.unwrap_err();
        assert!(matches!(error, StartError::Run(_)), "{error:?}");
        assert!(error.to_string().ends_with(want), "{error}");
        assert!(sandbox.container(&id).is_none());
    }
    let mut spec = node.script("true").await;
    spec.image = "sha256:none".into();
    let error = sandbox.start_container(spec).await.unwrap_err();
    assert!(matches!(error, StartError::ImageMissing(_)), "{error:?}");
    let mut spec = node.script("true").await;
    spec.user.username = "nobody-here".into();
    let error = sandbox.start_container(spec).await.unwrap_err();
    assert!(
        matches!(&error, StartError::Create(m) if m.contains("unable to find user")),
        "{error}"
    );
    let mut spec = node.script("true").await;
    spec.argv.clear();
    let error = sandbox.start_container(spec).await.unwrap_err();
    assert_eq!(error.to_string(), "no command specified");
    // The sandbox is none the worse.
    let spec = node.script("true").await;
    assert_eq!(node.finish(&sandbox, spec).await.0.code, 0);
}

async fn kills_and_signals(node: Node) {
    let sandbox = node.sandbox().await;
    let mut spec =
        node.script("trap 'echo bye; exit 5' TERM; echo up; while true; do sleep 0.1; done").await;
    let log = spec.log_path.clone().unwrap();
    let trapped = sandbox.start_container(spec).await.unwrap();
    until(|| !log_lines(&log).is_empty()).await;
    sandbox.signal(&trapped.id, Signal::TERM).await.unwrap();
    assert_eq!(in_time(sandbox.wait(&trapped.id)).await.unwrap().code, 5);
    assert_eq!(log_lines(&log), ["up", "bye"]);

    spec = node.script("sleep 1000 & sleep 1000 & wait").await;
    let stubborn = sandbox.start_container(spec).await.unwrap();
    sandbox.kill(&stubborn.id).await.unwrap();
    let exit = in_time(sandbox.wait(&stubborn.id)).await.unwrap();
    assert_eq!((exit.code, exit.signal), (137, 9));
    // Over and over again is fine.
    sandbox.kill(&stubborn.id).await.unwrap();
    sandbox.signal(&stubborn.id, Signal::TERM).await.unwrap();
    sandbox.remove_container(&stubborn.id).await.unwrap();
    sandbox.remove_container(&stubborn.id).await.unwrap();
    assert!(matches!(sandbox.kill(&stubborn.id).await, Err(Error::NotFound(_))));
    assert!(sandbox.container(&stubborn.id).is_none());
}

async fn execs(node: Node) {
    let sandbox = node.sandbox().await;
    let mut spec = node.script("sleep 1000").await;
    spec.env = strings(&["FROM_POD=1"]);
    spec.user.username = "web".into();
    let state = sandbox.start_container(spec).await.unwrap();
    let id = &state.id;
    let sync = |script: &'static str| {
        sandbox.exec_sync(id, strings(&["sh", "-c", script]), Duration::from_secs(20))
    };
    let output = sync("echo out; echo err >&2; exit 4").await.unwrap();
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice(), output.code),
        (&b"out\n"[..], &b"err\n"[..], 4)
    );
    let output = sync("id; echo $FROM_POD $FROM_IMAGE $HOME; pwd").await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        ["uid=33(web) gid=34(web) groups=4(log),34(web)", "1 yes /home/web", "/root"]
    );
    // As much as one likes, in both directions.
    let mut session = sandbox
        .exec(
            id,
            ExecSpec {
                argv: strings(&["cat"]),
                stdin: true,
                stdout: true,
                stderr: true,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    let mut stdin = session.stdin.take().unwrap();
    let text = b"0123456789abcdef".repeat(20_000);
    let sent = text.clone();
    let writer = tokio::spawn(async move {
        stdin.write_all(&sent).await.unwrap();
        stdin.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    in_time(session.stdout.take().unwrap().read_to_end(&mut back)).await.unwrap();
    writer.await.unwrap();
    assert!(back == text);
    assert_eq!(in_time(session.wait()).await.unwrap(), 0);
    assert_eq!(session.wait().await.unwrap(), 0, "again");

    let error = sandbox.exec_sync(id, strings(&["nope"]), Duration::ZERO).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH"
    );
    // Many at once.
    let all = (0..20).map(|_| sync("exit 9"));
    for done in futures::future::join_all(all).await {
        assert_eq!(done.unwrap().code, 9);
    }
    // What a command leaves running does not hold it up.
    let output = in_time(sync("sleep 1000 & echo started")).await.unwrap();
    assert_eq!(output.stdout, b"started\n");
    sandbox.kill(id).await.unwrap();
    in_time(sandbox.wait(id)).await.unwrap();
    assert!(sync("true").await.is_err(), "it does not run any more");
}

async fn execs_on_a_terminal(node: Node) {
    let sandbox = node.sandbox().await;
    let spec = node.script("sleep 1000").await;
    let id = sandbox.start_container(spec).await.unwrap().id;
    let mut session = sandbox
        .exec(
            &id,
            ExecSpec {
                argv: strings(&["sh", "-c", "tty; stty size; read x; stty size; echo got $x"]),
                tty: true,
                tty_size: Some((90, 30)),
                stdin: true,
                stdout: true,
                ..Default::default()
            },
        )
        .await
        .unwrap();
    assert!(session.stderr.is_none());
    let mut stdout = session.stdout.take().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 100];
    while !text.contains("30 90") {
        let n = in_time(stdout.read(&mut buffer)).await.unwrap();
        assert!(n > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(text.starts_with("/dev/pts/"), "{text}");
    session.resize(100, 40).unwrap();
    session.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
    in_time(stdout.read_to_string(&mut text)).await.unwrap();
    assert!(text.contains("40 100") && text.contains("got word"), "{text}");
    assert_eq!(in_time(session.wait()).await.unwrap(), 0);
}

async fn times_out(node: Node) {
    let sandbox = node.sandbox().await;
    let id = sandbox.start_container(node.script("sleep 1000").await).await.unwrap().id;
    let argv = strings(&["sleep", "500"]);
    let error = sandbox.exec_sync(&id, argv, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    // The process is gone: only the first one and this ps are left.
    let gone = async {
        loop {
            let ps = sandbox.exec_sync(&id, strings(&["ps"]), Duration::ZERO).await.unwrap();
            if !String::from_utf8(ps.stdout).unwrap().contains("sleep 500") {
                break;
            }
        }
    };
    in_time(gone).await;
}

async fn attaches(node: Node) {
    let sandbox = node.sandbox().await;
    let mut spec = node.script("cat; echo end").await;
    (spec.stdin, spec.stdin_once) = (true, true);
    let log = spec.log_path.clone().unwrap();
    let id = sandbox.start_container(spec).await.unwrap().id;
    let mut session = sandbox.attach(&id, true).await.unwrap();
    let mut watching = sandbox.attach(&id, false).await.unwrap();
    assert!(watching.stdin.is_none());
    session.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut buffer = [0; 6];
    in_time(session.stdout.as_mut().unwrap().read_exact(&mut buffer)).await.unwrap();
    assert_eq!(&buffer, b"hello\n");
    session.stdin = None;
    let mut rest = String::new();
    in_time(session.stdout.take().unwrap().read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "end\n", "stdin ended with the client's");
    let mut all = String::new();
    in_time(watching.stdout.take().unwrap().read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "hello\nend\n");
    assert_eq!(in_time(session.wait()).await.unwrap(), 0);
    assert_eq!(log_lines(&log), ["hello", "end"]);
}

async fn attaches_to_a_terminal(node: Node) {
    let sandbox = node.sandbox().await;
    let mut spec = node
        .script("tty; read x; stty size; echo got $x; test -c /dev/console && echo console")
        .await;
    (spec.tty, spec.stdin) = (true, true);
    let log = spec.log_path.clone().unwrap();
    let id = sandbox.start_container(spec).await.unwrap().id;
    let mut session = sandbox.attach(&id, true).await.unwrap();
    session.resize(120, 50).unwrap();
    session.stdin.as_mut().unwrap().write_all(b"x\n").await.unwrap();
    assert_eq!(in_time(session.wait()).await.unwrap(), 0);
    let text = log_lines(&log).join("|");
    assert!(text.contains("/dev/pts/0") && text.contains("50 120"), "{text}");
    assert!(text.contains("got x") && text.contains("console"), "{text}");
}

async fn rotates_logs(node: Node) {
    let sandbox = node.sandbox().await;
    let mut spec = node.script("seq 1 2000; sleep 1.1; seq 2001 4000").await;
    spec.log_limits = LogLimits { max_size: 50_000, max_files: 3 };
    let log = spec.log_path.clone().unwrap();
    let (exit, lines) = node.finish(&sandbox, spec).await;
    assert_eq!(exit.code, 0);
    let files = std::fs::read_dir(log.parent().unwrap()).unwrap().count();
    assert!((2..=3).contains(&files), "{files} files");
    assert!(lines.len() < 3000, "{} lines in the live file", lines.len());
    // Moved by somebody else, opened anew on request.
    let spec = node.script("echo one; read x; echo two").await;
    let spec = runtime::ContainerSpec { stdin: true, ..spec };
    let log = spec.log_path.clone().unwrap();
    let id = sandbox.start_container(spec).await.unwrap().id;
    until(|| !log_lines(&log).is_empty()).await;
    std::fs::rename(&log, log.with_extension("old")).unwrap();
    sandbox.reopen_log(&id).await.unwrap();
    let mut session = sandbox.attach(&id, true).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    in_time(session.wait()).await.unwrap();
    assert_eq!(log_lines(&log), ["two"]);
}

async fn shares_processes(node: Node) {
    let spec = runtime::SandboxSpec { share_process_namespace: true, ..node.sandbox_spec() };
    let sandbox = node.runtime.create_sandbox(spec).await.unwrap();
    let first = sandbox.start_container(node.script("sleep 1111").await).await.unwrap();
    let script = "ps; cat /proc/1/cmdline | tr '\\0' ' '; ls /proc/1/root/bin 2>&1";
    let (exit, lines) = node.finish(&sandbox, node.script(script).await).await;
    let text = lines.join("\n");
    assert!(text.contains("sleep 1111") && text.contains("knarr init"), "{text}");
    assert_ne!(exit.code, 0, "the init's root is empty or closed: {text}");
    // What outlives its container's first process is killed all the same.
    let (exit, _) = node.finish(&sandbox, node.script("sleep 2222 & true").await).await;
    assert_eq!(exit.code, 0);
    let gone = async {
        loop {
            let ps = sandbox.exec_sync(&first.id, strings(&["ps"]), Duration::ZERO).await.unwrap();
            let ps = String::from_utf8(ps.stdout).unwrap();
            assert!(ps.contains("sleep 1111"), "{ps}");
            if !ps.contains("sleep 2222") {
                break;
            }
        }
    };
    in_time(gone).await;
    sandbox.kill(&first.id).await.unwrap();
    let exit = in_time(sandbox.wait(&first.id)).await.unwrap();
    assert_eq!(exit.code, 137);
}

async fn sees_the_processes_of_a_target(node: Node) {
    let sandbox = node.sandbox().await;
    let target = sandbox.start_container(node.script("exec sleep 1111").await).await.unwrap();
    let mut spec = node.script("ps; sleep 2222 & exec sleep 3333").await;
    spec.process_namespace_of = Some(target.id.clone());
    let log = spec.log_path.clone().unwrap();
    let guest = sandbox.start_container(spec.clone()).await.unwrap();
    until(|| log_lines(&log).iter().any(|l| l.ends_with("sleep 1111"))).await;
    let ps = || async {
        let ps = sandbox.exec_sync(&target.id, strings(&["ps"]), Duration::ZERO).await.unwrap();
        String::from_utf8(ps.stdout).unwrap()
    };
    let later = sandbox.exec_sync(&guest.id, strings(&["ps"]), Duration::ZERO).await.unwrap();
    assert!(String::from_utf8(later.stdout).unwrap().contains("sleep 1111"));
    assert!(ps().await.contains("sleep 3333"));
    sandbox.kill(&guest.id).await.unwrap();
    assert_eq!(in_time(sandbox.wait(&guest.id)).await.unwrap().code, 137);
    sandbox.remove_container(&guest.id).await.unwrap();
    let text = ps().await;
    assert!(
        text.contains("sleep 1111") && !text.contains("2222") && !text.contains("3333"),
        "{text}"
    );
    spec.id = node.id();
    spec.process_namespace_of = Some("nobody".into());
    assert!(sandbox.start_container(spec).await.is_err());
}

async fn environment_and_folder(node: Node) {
    let script = "env | sort; pwd; hostname; cat /proc/self/oom_score_adj";
    let change = |spec: &mut runtime::ContainerSpec| {
        spec.env = strings(&["B=1", "FROM_IMAGE=no"]);
        spec.working_dir = "/made/up".into();
        spec.oom_score_adj = 500;
    };
    let lines = node.output(change, script).await;
    let lines: Vec<&str> =
        lines.iter().map(String::as_str).filter(|l| !l.starts_with("SHLVL")).collect();
    assert_eq!(
        lines,
        [
            "B=1",
            "FROM_IMAGE=no",
            "HOME=/root",
            "HOSTNAME=testpod",
            "PATH=/bin",
            "PWD=/made/up",
            "/made/up",
            "testpod",
            "500"
        ]
    );
    let sandbox = node.sandbox().await;
    let state = sandbox.start_container(node.script("sleep 100").await).await.unwrap();
    assert_eq!(state.status, Status::Running);
    assert_eq!((state.user.uid, state.user.groups), (0, vec![0]));
}
