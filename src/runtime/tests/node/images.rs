//! Images: imports, pulls from a registry, what hostile ones cannot do, removal.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use runtime::{Credential, PullError, Runtime};

use crate::node::{Archive, IMAGE, Node, in_time, layer, sha256};

crate::tests![
    imports_every_format,
    refuses_hostile_archives,
    the_conformance_images,
    pulls,
    pulls_share_their_work,
    pulls_with_secrets,
    pulls_from_mirrors,
    pulls_what_broke,
    refuses_wrong_content,
    removes_what_nobody_uses,
    survives_restarts,
    settles_folders_of_layers,
];

/// Everything below the layers' folder, for telling whether something was left.
fn layers(node: &Node) -> Vec<String> {
    let dir = std::fs::read_dir(node.config.data_dir.join("layers")).unwrap();
    let mut names: Vec<_> =
        dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

async fn import(runtime: &Runtime, path: &Path, bytes: &[u8]) -> runtime::Result<Vec<String>> {
    std::fs::write(path, bytes).unwrap();
    runtime.images().import(path).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

async fn imports_every_format(node: Node) {
    let path = node.dir.join("archive");
    let archive = Archive::busybox();
    for bytes in [
        archive.docker(),
        gzip(&archive.docker()),
        archive.oci(),
        gzip(&archive.oci()),
        zstd::encode_all(&archive.oci()[..], 1).unwrap(),
    ] {
        assert_eq!(import(&node.runtime, &path, &bytes).await.unwrap(), [IMAGE]);
    }
    let images = node.runtime.images();
    assert_eq!(images.list().len(), 1, "one image, however it came");
    assert_eq!(layers(&node).len(), 2, "each layer once");
    let image = images.get(IMAGE).unwrap();
    assert_eq!(image.id, format!("sha256:{}", sha256(&archive.config_json())));
    assert_eq!(images.get(&image.id).unwrap(), image);
    assert_eq!(images.get(&image.digests[0]).unwrap(), image);
    assert!(image.digests[0].starts_with("knarr.test/busybox@sha256:"));
    let config = &image.config;
    assert_eq!((config.entrypoint[0].as_str(), config.working_dir.as_str()), ("/bin/sh", "/root"));
    assert_eq!(config.labels["a"], "b");
    assert!(images.get("knarr.test/other").is_none());
    let usage = images.disk_usage();
    assert!(usage.bytes > 500_000 && usage.inodes > 30, "{usage:?}");
}

async fn refuses_hostile_archives(node: Node) {
    let path = node.dir.join("archive");
    let evil = |name: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(1);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header, &b"x"[..]).unwrap();
        tar.into_inner().unwrap()
    };
    let good = Archive::busybox();
    let mut bad: Vec<(&str, Vec<u8>)> = Vec::new();
    for name in ["../../evil", "/../evil"] {
        let layers = vec![good.layers[0].clone(), evil(name)];
        bad.push(("leaves the layer", Archive::new("x/y:1", layers).docker()));
    }
    // Content that is not what the configuration says.
    let mut lying = Archive::busybox();
    let config = lying.config_json();
    lying.layers[1] = layer(|l| {
        l.file("evil", 0o755, b"x");
    });
    let manifest = r#"[{"Config":"c.json","RepoTags":["x/y:1"],"Layers":["0","1"]}]"#;
    let swapped = layer(|tar| {
        tar.file("c.json", 0o644, &config);
        tar.file("0", 0o644, &lying.layers[0]).file("1", 0o644, &lying.layers[1]);
        tar.file("manifest.json", 0o644, manifest.as_bytes());
    });
    bad.push(("has digest", swapped));
    // A layer that breaks off, a layer that is missing, and things that are no archives.
    let docker = good.docker();
    bad.push(("", docker[..docker.len() / 2].to_vec()));
    bad.push((
        "lacks",
        layer(|tar| {
            tar.file("c.json", 0o644, &config);
            tar.file("manifest.json", 0o644, manifest.as_bytes());
        }),
    ));
    bad.push((
        "neither",
        layer(|tar| {
            tar.file("hello", 0o644, b"x");
        }),
    ));
    bad.push(("", vec![0x55; 100_000]));
    bad.push(("", gzip(&docker)[..50_000].to_vec()));
    bad.push((
        "manifest.json",
        layer(|tar| {
            tar.file("manifest.json", 0o644, b"{{");
        }),
    ));
    let no_layers = br#"[{"Config":"c","RepoTags":null,"Layers":[]}]"#;
    bad.push((
        "layers",
        layer(|tar| {
            tar.file("c", 0o644, b"{}").file("manifest.json", 0o644, no_layers);
        }),
    ));
    for (want, bytes) in bad {
        let error = import(&node.runtime, &path, &bytes).await.unwrap_err().to_string();
        assert!(error.contains(want), "{error} has no {want:?}");
    }
    assert!(node.runtime.images().list().is_empty());
    assert!(layers(&node).is_empty(), "{:?}", layers(&node));
    assert!(!node.dir.join("evil").exists() && !Path::new("/evil").exists());
}

/// Real images, where they were built.
async fn the_conformance_images(node: Node) {
    let home = std::env::var("HOME").unwrap_or_default();
    let archive = Path::new(&home).join(".cache/conformance/images.tar");
    if !archive.exists() {
        return;
    }
    let at = std::time::Instant::now();
    let names = in_time(node.runtime.images().import(&archive)).await.unwrap();
    let bytes = node.runtime.images().disk_usage().bytes;
    println!("speed: import of {} images, {} MB, {:?}", names.len(), bytes >> 20, at.elapsed());
    assert!(names.len() > 5, "{names:?}");
    assert_eq!(node.runtime.images().list().len(), names.len());
    let again = in_time(node.runtime.images().import(&archive)).await.unwrap();
    assert_eq!(again, names);
    // And each of them runs.
    let sandbox = node.sandbox().await;
    for name in names {
        let image = node.runtime.images().get(&name).unwrap();
        let mut spec = node.script("").await;
        spec.argv = runtime::resolve_argv(&[], &[], &image.config);
        spec.image = image.id;
        spec.user.username = image.config.user.clone();
        let state = sandbox.start_container(spec).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        sandbox.remove_container(&state.id).await.unwrap();
    }
}

/// A registry over plain HTTP with what the tests want it to do wrong.
#[derive(Default)]
struct Registry {
    /// `manifests/<tag>` and `blobs/<digest>`, below any repository.
    content: BTreeMap<String, Vec<u8>>,
    /// What it wants to see in the Authorization header.
    authorization: Option<String>,
    /// Where tokens are to be had, if not by basic authentication.
    token: Option<String>,
    /// Answers with half of a large blob now and then.
    breaks: AtomicBool,
    requests: Mutex<Vec<String>>,
    layers_sent: AtomicUsize,
}

impl Registry {
    fn of(archive: &Archive, tag: &str) -> Registry {
        let (blobs, manifest) = archive.blobs();
        let mut content = BTreeMap::new();
        content.insert(format!("manifests/{tag}"), blobs[&manifest].clone());
        content.insert(format!("manifests/{manifest}"), blobs[&manifest].clone());
        for (digest, blob) in blobs {
            content.insert(format!("blobs/{digest}"), blob);
        }
        Registry { content, ..Default::default() }
    }

    /// Serves on a port of its own, for as long as the test runs.
    fn serve(self) -> (Arc<Registry>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = Arc::new(self);
        let (shared, own) = (registry.clone(), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (registry, address) = (shared.clone(), own.clone());
                std::thread::spawn(move || registry.answer(stream, &address));
            }
        });
        (registry, address)
    }

    fn answer(&self, mut stream: TcpStream, address: &str) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let header = |name: &str| {
            let mut lines = head.lines().skip(1);
            lines.find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)))
        };
        let path = head.split(' ').nth(1).unwrap().to_owned();
        self.requests.lock().unwrap().push(path.clone());
        let authorization = header("authorization").map(|(_, value)| value.to_owned());
        if path.starts_with("/token") {
            let basic = authorization.as_deref() == Some("Basic dXNlcjpwYXNz");
            let good = basic && path.contains("scope=repository%3A");
            let body = format!("{{\"token\":\"{}\"}}", self.token.clone().unwrap_or_default());
            let status = if good { "200 OK" } else { "401 Unauthorized" };
            return send(&mut stream, status, "", body.as_bytes());
        }
        if self.authorization.is_some() && authorization != self.authorization {
            let challenge = match &self.token {
                Some(_) => format!(
                    "WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"s\"\r\n"
                ),
                None => "WWW-Authenticate: Basic realm=\"r\"\r\n".to_owned(),
            };
            return send(&mut stream, "401 Unauthorized", &challenge, b"");
        }
        let key = path.split('?').next().unwrap().rsplitn(3, '/').take(2).collect::<Vec<_>>();
        let key = format!("{}/{}", key[1], key[0]);
        let Some(body) = self.content.get(&key) else {
            return send(&mut stream, "404 Not Found", "", b"{}");
        };
        let large = body.len() > 100_000;
        if large {
            self.layers_sent.fetch_add(1, Ordering::SeqCst);
        }
        let from = header("range")
            .and_then(|(_, v)| v.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let from: usize = from.unwrap_or(0);
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let rest = &body[from..];
        if large && self.breaks.swap(false, Ordering::SeqCst) {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", rest.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&rest[..rest.len() / 2]);
            return;
        }
        send(&mut stream, status, "", rest);
    }

    fn asked_for(&self, text: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|r| r.contains(text)).count()
    }
}

fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

async fn pulls(node: Node) {
    let archive = Archive::busybox();
    let (registry, address) = Registry::of(&archive, "v1").serve();
    let images = node.runtime.images();
    let reference = format!("{address}/team/app:v1");
    let progress = Arc::new(Mutex::new(Vec::new()));
    let seen = progress.clone();
    let note = move |p: runtime::PullProgress| seen.lock().unwrap().push(p);
    let image = images.pull(&reference, &[], Some(Arc::new(note))).await.unwrap();
    assert_eq!(image.names, std::slice::from_ref(&reference));
    assert_eq!(image.id, format!("sha256:{}", sha256(&archive.config_json())));
    let last = *progress.lock().unwrap().last().unwrap();
    assert!(last.received == last.total && last.total > 100_000, "{last:?}");
    // Again, and by digest: the manifest is asked for, the layers are there.
    let sent = registry.layers_sent.load(Ordering::SeqCst);
    assert_eq!(images.pull(&reference, &[], None).await.unwrap(), image);
    let by_digest = images.pull(&image.digests[0], &[], None).await.unwrap();
    assert_eq!((by_digest.id, by_digest.names), (image.id.clone(), image.names.clone()));
    assert_eq!(registry.layers_sent.load(Ordering::SeqCst), sent);

    for (name, want) in [
        (format!("{address}/team/app:v2"), "not found"),
        (format!("{address}/team/app@sha256:{}", "0".repeat(64)), "not found"),
    ] {
        let error = images.pull(&name, &[], None).await.unwrap_err();
        assert!(matches!(error, PullError::NotFound { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "failed to pull and unpack image {name:?}: failed to resolve reference {name:?}: {name}: {want}"
            )
        );
    }
    let error = images.pull("Not/A:Name:x", &[], None).await.unwrap_err();
    assert!(matches!(error, PullError::InvalidReference { .. }), "{error:?}");
    let error = images.pull("127.0.0.1:1/x", &[], None).await.unwrap_err();
    assert!(matches!(error, PullError::Unavailable { .. }), "{error:?}");
    assert!(
        error.to_string().contains("dial tcp 127.0.0.1:1: connect: connection refused"),
        "{error}"
    );
    let error = images.pull("no-such-host.invalid/x", &[], None).await.unwrap_err();
    assert!(error.to_string().contains("lookup no-such-host.invalid"), "{error}");
}

async fn pulls_share_their_work(node: Node) {
    let (registry, address) = Registry::of(&Archive::busybox(), "v1").serve();
    let images = node.runtime.images();
    let names: Vec<String> = (0..6).map(|i| format!("{address}/team/app{}:v1", i % 3)).collect();
    let all = names.iter().map(|name| images.pull(name, &[], None));
    let all = futures::future::join_all(all).await;
    let ids: Vec<_> = all.into_iter().map(|image| image.unwrap().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(registry.layers_sent.load(Ordering::SeqCst), 1, "one large layer, once");
    assert_eq!(images.get(&ids[0]).unwrap().names.len(), 3);
    assert_eq!(layers(&node).len(), 2);
}

async fn pulls_with_secrets(node: Node) {
    let images = node.runtime.images();
    let good =
        Credential { username: "user".into(), password: "pass".into(), ..Default::default() };
    let bad = Credential { password: "wrong".into(), ..good.clone() };
    for token in [None, Some("t0ken".to_owned())] {
        let authorization = match &token {
            None => "Basic dXNlcjpwYXNz".to_owned(),
            Some(token) => format!("Bearer {token}"),
        };
        let mut registry = Registry::of(&Archive::busybox(), "v1");
        (registry.authorization, registry.token) = (Some(authorization), token);
        let (_, address) = registry.serve();
        let name = format!("{address}/team/app:v1");
        for credentials in [&[][..], std::slice::from_ref(&bad)] {
            let error = images.pull(&name, credentials, None).await.unwrap_err();
            assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
            assert!(!error.to_string().contains("wrong"), "{error}");
        }
        images.pull(&name, &[bad.clone(), good.clone()], None).await.unwrap();
    }
}

async fn pulls_from_mirrors(node: Node) {
    let (_, empty) = Registry::default().serve();
    let (mirror, address) = Registry::of(&Archive::busybox(), "v1").serve();
    let mut config = node.config.clone();
    let mirrors = vec![
        format!("http://{empty}"),
        "http://127.0.0.1:1".into(),
        format!("http://{address}/prefix"),
    ];
    config.registries.mirrors.insert("docker.io".into(), mirrors);
    let (runtime, _events) = Runtime::open(config).await.unwrap();
    let image = runtime.images().pull("busybox:v1", &[], None).await.unwrap();
    assert_eq!(image.names, ["docker.io/library/busybox:v1"]);
    assert!(mirror.asked_for("/prefix/v2/library/busybox/manifests/v1?ns=docker.io") == 1);
}

async fn pulls_what_broke(node: Node) {
    let mut registry = Registry::of(&Archive::busybox(), "v1");
    registry.breaks = AtomicBool::new(true);
    let (registry, address) = registry.serve();
    let image = node.runtime.images().pull(&format!("{address}/a/b:v1"), &[], None).await.unwrap();
    assert!(!registry.breaks.load(Ordering::SeqCst));
    assert_eq!(registry.layers_sent.load(Ordering::SeqCst), 2, "the rest of it only");
    assert_eq!(node.runtime.images().get(&image.id).unwrap(), image);
}

async fn refuses_wrong_content(node: Node) {
    let images = node.runtime.images();
    let archive = Archive::busybox();
    let (_, manifest) = archive.blobs();
    let large = |r: &Registry| r.content.iter().find(|(_, v)| v.len() > 100_000).unwrap().0.clone();
    type Change = Box<dyn Fn(&mut Registry)>;
    let changes: [(&str, Change); 4] = [
        (
            "has digest",
            Box::new(move |r| {
                // Another valid layer under the digest of the right one: a tar file may end in
                // any number of zeros.
                let key = large(r);
                let size = r.content[&key].len();
                let mut other = layer(|l| {
                    l.file("evil", 0o755, &[7; 200]);
                });
                other.resize(size, 0);
                r.content.insert(key, other);
            }),
        ),
        (
            "too long",
            Box::new(move |r| {
                let key = large(r);
                r.content.get_mut(&key).unwrap().extend([0; 1000]);
            }),
        ),
        (
            "unexpected EOF",
            Box::new(move |r| {
                let key = large(r);
                r.content.get_mut(&key).unwrap().truncate(1000);
            }),
        ),
        (
            "has digest",
            Box::new(move |r| {
                let key = format!("manifests/{manifest}");
                r.content.get_mut(&key).unwrap().push(b' ');
            }),
        ),
    ];
    for (want, change) in changes {
        let mut registry = Registry::of(&archive, "v1");
        change(&mut registry);
        let (_, address) = registry.serve();
        let (_, manifest) = archive.blobs();
        let name = format!("{address}/a/b@{manifest}");
        let error = images.pull(&name, &[], None).await.unwrap_err().to_string();
        assert!(error.contains(want), "{error} has no {want:?}");
    }
    assert!(images.list().is_empty());
    // The small layer was whole every time; the other left nothing.
    assert_eq!(layers(&node).len(), 1, "{:?}", layers(&node));
}

async fn removes_what_nobody_uses(node: Node) {
    let images = node.runtime.images();
    let id = node.image().await;
    let mut other = Archive::busybox();
    other.name = "knarr.test/other:1".into();
    other.layers.push(layer(|l| {
        l.file("own", 0o644, &vec![1; 10_000]);
    }));
    let path = node.dir.join("other.tar");
    other.write(&path);
    images.import(&path).await.unwrap();
    let usage = images.usage();
    assert_eq!(usage.len(), 2);
    let other_id = images.get("knarr.test/other:1").unwrap().id;
    let of = |id: &str| usage.iter().find(|u| u.id == id).unwrap();
    assert_eq!(of(&other_id).unique_bytes, 10_000);
    assert_eq!(of(&id).unique_bytes, 0, "all its layers are the other's as well");

    let sandbox = node.sandbox().await;
    let state = sandbox.start_container(node.script("sleep 100").await).await.unwrap();
    assert!(images.usage().iter().find(|u| u.id == id).unwrap().in_use);
    assert!(images.remove(&id).await.unwrap_err().to_string().contains("used by 1"));
    images.set_pinned(&id, true).await.unwrap();
    assert!(images.usage().iter().find(|u| u.id == id).unwrap().pinned);
    assert_eq!(images.remove("knarr.test/other:1").await.unwrap(), 10_000);
    assert!(images.get(&other_id).is_none());
    sandbox.remove_container(&state.id).await.unwrap();
    assert!(images.remove(IMAGE).await.unwrap() > 500_000);
    assert!(images.remove(IMAGE).await.is_err());
    assert_eq!(images.disk_usage().bytes, 0);
    // A name that moves to another image leaves the old one without.
    let mut first = Archive::busybox();
    first.config["Labels"]["a"] = "c".into();
    let second = Archive::busybox();
    for archive in [&first, &second] {
        archive.write(&path);
        images.import(&path).await.unwrap();
    }
    assert_eq!(images.list().len(), 2);
    let named = images.get(IMAGE).unwrap();
    assert_eq!(named.config.labels["a"], "b");
    assert!(images.list().iter().any(|i| i.names.is_empty()));
}

async fn survives_restarts(mut node: Node) {
    let id = node.image().await;
    let before = node.runtime.images().get(&id).unwrap();
    let data = &node.config.data_dir;
    // What a crash leaves: half a layer, half an image, a layer that nobody knows.
    std::fs::create_dir_all(data.join("layers/.new-77/fs/x")).unwrap();
    std::fs::create_dir_all(data.join("layers/78/fs/x")).unwrap();
    std::fs::write(data.join("images/00.json"), "{").unwrap();
    std::fs::create_dir_all(data.join("containers/ghost/upper")).unwrap();
    node.restart().await;
    assert_eq!(node.runtime.images().get(IMAGE).unwrap(), before);
    assert_eq!(layers(&node).len(), 2, "{:?}", layers(&node));
    assert_eq!(node.runtime.images().list().len(), 1);
    assert!(!node.config.data_dir.join("containers/ghost").exists());
    let (exit, _) = node.finish(&node.sandbox().await, node.script("exit 3").await).await;
    assert_eq!(exit.code, 3);
    // An image whose layer is gone is no image.
    let layer = node.config.data_dir.join("layers").join(&layers(&node)[0]);
    std::fs::remove_dir_all(layer).unwrap();
    node.restart().await;
    assert!(node.runtime.images().get(&id).is_none());
}

async fn settles_folders_of_layers(node: Node) {
    // A base with links and modes that the next layer takes for granted.
    let mut archive = Archive::busybox();
    archive.name = "knarr.test/usrmerge:1".into();
    archive.layers.push(layer(|l| {
        l.dir("usr/lib", 0o755).link("lib", "usr/lib").dir("drop", 0o1777);
    }));
    archive.layers.push(layer(|l| {
        l.file("lib/app/module", 0o644, b"module\n").file("drop/file", 0o644, b"");
    }));
    let path = node.dir.join("usrmerge.tar");
    archive.write(&path);
    node.runtime.images().import(&path).await.unwrap();
    let image = node.runtime.images().get("knarr.test/usrmerge:1").unwrap().id;
    let script = "readlink /lib; cat /usr/lib/app/module /lib/app/module; stat -c %a /drop";
    let lines = node.output(|s| s.image = image, script).await;
    assert_eq!(lines, ["usr/lib", "module", "module", "1777"]);
}
