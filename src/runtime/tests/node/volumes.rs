//! Mounts of containers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use linux::mount;
use runtime::{ContainerSpec, Mount, Propagation, StartError};

use crate::node::{Archive, Node, layer, strings};

crate::tests![
    folders_and_files,
    read_only,
    each_mount_has_its_own_propagation,
    a_private_source_cannot_be_shared,
    links_in_the_image_lead_nowhere,
    images_as_volumes,
];

fn bind(source: &Path, destination: &str) -> Mount {
    Mount { source: source.to_owned(), destination: destination.into(), ..Default::default() }
}

async fn folders_and_files(node: Node) {
    let data = node.dir.join("volume");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    std::fs::write(data.join("sub/file"), "content\n").unwrap();
    let missing = node.dir.join("made/by/runtime");
    let (one, other) = (data.clone(), data.join("sub/file"));
    let made = missing.clone();
    let change = move |s: &mut ContainerSpec| {
        // Children first in the list, parents first in the container.
        s.mounts = vec![
            bind(&other, "/data/sub/deep/er"),
            bind(&one, "/data"),
            bind(&other, "/etc/added"),
            bind(&made, "/made"),
        ];
    };
    let script = "cat /data/sub/file /data/sub/deep/er /etc/added; echo w > /data/written; \
        echo w > /made/written";
    let lines = node.output(change, script).await;
    assert_eq!(lines, ["content"; 3]);
    assert_eq!(std::fs::read_to_string(data.join("written")).unwrap(), "w\n");
    assert_eq!(std::fs::read_to_string(missing.join("written")).unwrap(), "w\n");
    // Neither is a container's own root to be mounted over, nor may a file be a folder.
    let sandbox = node.sandbox().await;
    for bad in [bind(&data, "/"), bind(&data, "/etc/added"), bind(&data.join("sub/file"), "/tmp")] {
        let mut spec = node.script("true").await;
        spec.mounts = vec![bad];
        let error = sandbox.start_container(spec).await.unwrap_err();
        assert!(matches!(error, StartError::Create(_)), "{error:?}");
    }
}

async fn read_only(node: Node) {
    let data = node.dir.join("volume");
    let inner = data.join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    mount::mount("tmpfs", "tmpfs", &inner, 0, None).unwrap();
    let _unmount = Unmount(inner);
    let change = move |s: &mut ContainerSpec| {
        s.mounts = vec![
            Mount { readonly: true, ..bind(&data, "/flat") },
            Mount { readonly: true, recursive_readonly: true, ..bind(&data, "/deep") },
            bind(&data, "/writable"),
        ];
    };
    let script = "for d in flat flat/inner deep deep/inner writable; do \
        touch /$d/x 2>/dev/null && echo $d; done; true";
    assert_eq!(node.output(change, script).await, ["flat/inner", "writable"]);
}

/// Takes a mount of a test away.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = mount::unmount(&self.0);
    }
}

async fn each_mount_has_its_own_propagation(node: Node) {
    let base = node.dir.join("shared");
    std::fs::create_dir_all(&base).unwrap();
    mount::bind(&base, &base).unwrap();
    let _unmount = Unmount(base.clone());
    mount::set_propagation(&base, mount::Propagation::Shared, false).unwrap();
    for name in ["from-host", "from-container", "from-slave", "from-private"] {
        std::fs::create_dir(base.join(name)).unwrap();
    }
    let sandbox = node.sandbox().await;
    let mut spec = node.script("echo up; sleep 1000").await;
    spec.privileged = true;
    spec.mounts = vec![
        bind(&base, "/private"),
        Mount { propagation: Propagation::HostToContainer, ..bind(&base, "/slave") },
        Mount { propagation: Propagation::Bidirectional, ..bind(&base, "/both") },
    ];
    let id = sandbox.start_container(spec).await.unwrap().id;
    mount::mount("tmpfs", "tmpfs", base.join("from-host"), 0, None).unwrap();
    let _inner = Unmount(base.join("from-host"));
    std::fs::write(base.join("from-host/seen"), "").unwrap();
    let script = "ls /private/from-host /slave/from-host /both/from-host; \
        mount -t tmpfs x /both/from-container; touch /both/from-container/seen; \
        mount -t tmpfs x /slave/from-slave; touch /slave/from-slave/seen; \
        mount -t tmpfs x /private/from-private; touch /private/from-private/seen; echo $?";
    let argv = strings(&["/bin/sh", "-c", script]);
    let output = sandbox.exec_sync(&id, argv, Duration::from_secs(10)).await.unwrap();
    let _outer = Unmount(base.join("from-container"));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "/both/from-host:\nseen\n\n/private/from-host:\n\n/slave/from-host:\nseen\n0\n"
    );
    assert!(base.join("from-container/seen").exists(), "shared with the host");
    assert!(!base.join("from-slave/seen").exists() && !base.join("from-private/seen").exists());
    sandbox.remove().await.unwrap();
    // The container's other mounts were never the host's.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = mounts.lines().filter(|l| l.contains(base.to_str().unwrap())).count();
    assert_eq!(ours, 3, "the test's own two and the container's one");
}

async fn a_private_source_cannot_be_shared(node: Node) {
    let base = node.dir.join("private");
    std::fs::create_dir_all(&base).unwrap();
    mount::bind(&base, &base).unwrap();
    let _unmount = Unmount(base.clone());
    mount::set_propagation(&base, mount::Propagation::Private, false).unwrap();
    let sandbox = node.sandbox().await;
    let mut spec = node.script("true").await;
    spec.mounts = vec![Mount { propagation: Propagation::Bidirectional, ..bind(&base, "/x") }];
    let error = sandbox.start_container(spec).await.unwrap_err();
    let want = format!("path {base:?} is mounted on {base:?} but it is not a shared mount");
    assert_eq!(error.to_string(), want);
    let slave = move |s: &mut ContainerSpec| {
        s.mounts = vec![Mount { propagation: Propagation::HostToContainer, ..bind(&base, "/x") }];
    };
    assert_eq!(node.output(slave, "ls -d /x").await, ["/x"]);
}

async fn links_in_the_image_lead_nowhere(node: Node) {
    node.image().await;
    let secret = node.dir.join("secret");
    std::fs::create_dir_all(&secret).unwrap();
    std::fs::write(secret.join("here"), "").unwrap();
    let target = secret.to_str().unwrap().to_owned();
    let mut archive = Archive::busybox();
    archive.name = "knarr.test/hostile:1".into();
    archive.layers.push(layer(|l| {
        l.link("escape", &target);
        l.link("up", "../../../../..");
        l.link("proc/evil", "/");
    }));
    let path = node.dir.join("hostile.tar");
    archive.write(&path);
    node.runtime.images().import(&path).await.unwrap();
    let image = node.runtime.images().get("knarr.test/hostile:1").unwrap().id;
    let data = node.dir.join("volume");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("mounted"), "").unwrap();
    let hidden = target.clone();
    let change = move |s: &mut ContainerSpec| {
        s.image = image.clone();
        s.mounts = vec![bind(&data, "/escape/vol"), bind(&data, &format!("/up{hidden}/vol2"))];
    };
    let script = format!("ls /escape/vol {target}/vol2");
    let lines = node.output(change, &script).await;
    assert_eq!(lines.iter().filter(|l| *l == "mounted").count(), 2, "{lines:?}");
    let names: Vec<_> = std::fs::read_dir(&secret).unwrap().flatten().collect();
    assert_eq!(names.len(), 1, "nothing was made on the host");
}

async fn images_as_volumes(node: Node) {
    let image = node.image().await;
    let files = |name: &str, content: &str| {
        layer(|l| {
            l.dir("models", 0o755);
            l.file(&format!("models/{name}"), 0o644, content.as_bytes());
        })
    };
    let layers = vec![files("a", "one\n"), files("b", "two\n")];
    for (name, layers) in [("one", layers[..1].to_vec()), ("two", layers)] {
        let path = node.dir.join(format!("{name}.tar"));
        Archive::new(&format!("knarr.test/{name}:1"), layers).write(&path);
        node.runtime.images().import(&path).await.unwrap();
    }
    let id = |name: &str| node.runtime.images().get(name).unwrap().id;
    let volume = |name: &str, source: &str, destination: &str| Mount {
        image: Some(id(name)),
        ..bind(Path::new(source), destination)
    };
    let mounts = vec![
        volume("knarr.test/one:1", "", "/one"),
        volume("knarr.test/two:1", "", "/two"),
        volume("knarr.test/two:1", "models", "/sub"),
        volume("knarr.test/two:1", "models/b", "/etc/added"),
    ];
    let change = |s: &mut ContainerSpec| s.mounts = mounts.clone();
    let script =
        "cat /one/models/a /two/models/* /sub/b /etc/added; touch /two/x /sub/y 2>&1; true";
    let lines = node.output(change, script).await;
    assert_eq!(lines[..5], ["one", "one", "two", "two", "two"]);
    assert_eq!(lines.iter().filter(|l| l.contains("Read-only")).count(), 2, "{lines:?}");
    assert_ne!(image, id("knarr.test/one:1"));
    // Removed under the container's hands it cannot be.
    let sandbox = node.sandbox().await;
    let mut spec = node.script("sleep 100").await;
    spec.mounts = mounts.clone();
    sandbox.start_container(spec).await.unwrap();
    let error = node.runtime.images().remove("knarr.test/two:1").await.unwrap_err();
    assert!(error.to_string().contains("used by"), "{error}");
    let mut spec = node.script("true").await;
    spec.mounts = vec![volume("knarr.test/one:1", "none", "/x")];
    assert!(sandbox.start_container(spec).await.is_err());
}
