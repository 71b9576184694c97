//! Images that are imported by hand, with and without a server.

use std::time::Duration;

use crate::support::{Cluster, Options, eventually, images};

const BACKEND: &str = "knarr.demo/backend:v1";

/// A cluster whose node has no images yet.
fn bare() -> Cluster {
    let cluster = Cluster::start_with(Options { without_images: true, ..Options::default() });
    cluster.wait_for_node();
    cluster
}

fn archive() -> String {
    images::archive().display().to_string()
}

fn has(cluster: &Cluster, image: &str) -> bool {
    cluster.knarr(&["images", "list"]).stdout().contains(image)
}

fn run_backend(cluster: &Cluster) {
    let pod =
        ["run", "late", "--image", BACKEND, "--image-pull-policy=Never", "--", "sleep", "9999"];
    cluster.kubectl(&pod).stdout();
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/late", "--timeout=30s"]).stdout();
}

#[test]
fn an_image_imported_beside_a_running_server_can_be_used_at_once() {
    let mut cluster = bare();
    assert!(!has(&cluster, BACKEND));
    cluster.knarr(&["images", "import", &archive()]).stdout();
    assert!(has(&cluster, BACKEND));
    run_backend(&cluster);

    // Removal is the server's business too: it knows what is in use.
    let refused = cluster.knarr(&["images", "remove", BACKEND]).refused();
    assert!(refused.contains("used by 1 containers"), "{refused}");
    cluster.knarr(&["images", "remove", "knarr.demo/web:v2"]).stdout();
    assert!(!has(&cluster, "web:v2") && has(&cluster, "web:v1"));

    // Without a server nobody knows.
    cluster.stop_server();
    let refused = cluster.knarr(&["images", "remove", BACKEND]).refused();
    assert!(refused.contains("pods run here that may use it"), "{refused}");
    cluster.knarr(&["images", "import", &archive()]).stdout();
    assert!(has(&cluster, "web:v2"));
    cluster.launch();
    assert!(has(&cluster, "web:v2"));
}

#[test]
fn a_server_that_was_killed_does_not_keep_images_from_being_imported() {
    let mut cluster = bare();
    cluster.kill_server();
    cluster.knarr(&["images", "import", &archive()]).stdout();
    cluster.launch();
    assert!(has(&cluster, BACKEND));
}

#[test]
fn a_broken_archive_is_named_and_keeps_no_other_from_being_imported() {
    let cluster = bare();
    let folder = cluster.data().join("agent/images");
    let whole = std::fs::read(images::archive()).unwrap();
    std::fs::write(folder.join("a-truncated.tar"), &whole[..whole.len() / 2]).unwrap();
    let mut corrupt = whole.clone();
    // A byte of busybox, deep within the first layer.
    corrupt[whole.len() / 3] ^= 1;
    std::fs::write(folder.join("b-corrupt.tar"), corrupt).unwrap();
    std::fs::copy(images::archive(), folder.join("c-whole.tar")).unwrap();
    eventually("the whole archive", Duration::from_secs(30), || match has(&cluster, BACKEND) {
        true => Ok(()),
        false => Err(cluster.log()),
    });
    for name in ["a-truncated.tar", "b-corrupt.tar"] {
        let log = cluster.log();
        let refused = |line: &&str| line.contains(name) && line.contains("not imported");
        assert_eq!(log.lines().filter(refused).count(), 1, "{log}");
        // Whoever replaces it need not restart anything.
        std::fs::copy(images::archive(), folder.join("new")).unwrap();
        std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
        eventually("the archive in its place", Duration::from_secs(30), || {
            let log = cluster.log();
            let imported = |line: &str| line.contains(name) && line.contains(" imported");
            log.lines().any(imported).then_some(()).ok_or(log)
        });
    }
}
