//! Images: pulled from a registry that wants to know who asks, and kept.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    sync::{Arc, Mutex, OnceLock},
};

use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    outside::{ADDRESS, answer, serve},
    support::{Cluster, LONG, Options, Shared, Space, eventually, images},
};

static SHARED: Shared = Shared::started_by(start);

/// What the registry was asked: method and path, with the answer's code.
static ASKED: Mutex<Vec<(String, u16)>> = Mutex::new(Vec::new());
static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Where the registry listens; a container of the cluster's configuration names it, so it is there
/// before the server is.
struct Registry {
    host: String,
    /// Digest of the image's manifest.
    digest: String,
    /// Digests of its layers.
    layers: Vec<String>,
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Blobs and manifests by the last element of their path: `web:v1` of the demo, as `crew/web:1`.
fn content() -> (HashMap<String, Vec<u8>>, String, Vec<String>) {
    let mut files = HashMap::new();
    let mut archive = tar::Archive::new(fs::File::open(images::archive()).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path.trim_start_matches("./").to_owned(), bytes);
    }
    let index: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    let image = index.as_array().unwrap().iter().find(|i| i["RepoTags"][0] == "knarr.demo/web:v1");
    let image = image.unwrap();
    let mut served = HashMap::new();
    let mut describe = |name: &Value, kind: &str| {
        let bytes = files[name.as_str().unwrap()].clone();
        let told = json!({"mediaType": kind, "digest": digest(&bytes), "size": bytes.len()});
        served.insert(digest(&bytes), bytes);
        told
    };
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let config = describe(&image["Config"], "application/vnd.oci.image.config.v1+json");
    let layers: Vec<Value> =
        image["Layers"].as_array().unwrap().iter().map(|name| describe(name, layer)).collect();
    let digests = layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
    });
    let manifest = manifest.to_string().into_bytes();
    let of_manifest = digest(&manifest);
    served.insert(of_manifest.clone(), manifest.clone());
    served.insert("1".to_owned(), manifest);
    (served, of_manifest, digests)
}

/// Starts the registry: plain HTTP, and basic authentication as `sailor` with `ahoy`.
fn start_registry(cluster: &Cluster) -> Registry {
    let (content, of_manifest, layers) = content();
    let content = Arc::new(content);
    let wanted = base64::engine::general_purpose::STANDARD.encode("sailor:ahoy");
    let port = serve(cluster, move |request, reader| {
        let (code, status, headers, body): (u16, &str, String, &[u8]) =
            if request.header("authorization") != format!("Basic {wanted}") {
                let challenge = "WWW-Authenticate: Basic realm=\"ship\"\r\n".to_owned();
                (401, "401 Unauthorized", challenge, b"{}")
            } else if request.path == "/v2/" {
                (200, "200 OK", String::new(), b"{}")
            } else {
                let name = request.path.rsplit('/').next().unwrap_or_default();
                match content.get(name).filter(|_| request.path.starts_with("/v2/crew/web/")) {
                    Some(bytes) => {
                        let kind = match request.path.contains("/manifests/") {
                            true => MANIFEST,
                            false => "application/octet-stream",
                        };
                        let headers = format!(
                            "Content-Type: {kind}\r\nDocker-Content-Digest: {}\r\n",
                            digest(bytes)
                        );
                        (200, "200 OK", headers, bytes)
                    }
                    None => (404, "404 Not Found", String::new(), b"{}"),
                }
            };
        let line = format!("{} {}", request.method, request.path);
        ASKED.lock().unwrap().push((line, code));
        match request.method.as_str() {
            "HEAD" => {
                use std::io::Write;
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
                let _ = reader.get_mut().write_all(head.as_bytes());
            }
            _ => answer(reader.get_mut(), status, &headers, body),
        }
    });
    Registry { host: format!("{ADDRESS}:{port}"), digest: of_manifest, layers }
}

fn start() -> Cluster {
    let mut cluster = Cluster::stopped_with(Options { without_images: true, ..Options::default() });
    let registry = REGISTRY.get_or_init(|| start_registry(&cluster));
    let host = &registry.host;
    let file = cluster.folder().join("registries.yaml");
    fs::write(&file, format!("mirrors: {{'{host}': {{endpoint: ['http://{host}']}}}}\n")).unwrap();
    cluster.add_flag(format!("--private-registry={}", file.display()));
    cluster.launch();
    cluster.wait_for_node();
    cluster
}

fn registry() -> &'static Registry {
    SHARED.cluster();
    REGISTRY.get().unwrap()
}

fn pod(space: &Space, name: &str, image: &str, more: &str) {
    space.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {more}
  containers:
  - name: c
    image: {image}
    command: [sh, -c, 'cat /etc/version; trap exit TERM; sleep 1d & wait']
"#
    ));
}

fn login(space: &Space, password: &str) {
    let server = format!("--docker-server={}", registry().host);
    let password = format!("--docker-password={password}");
    let create = ["create", "secret", "docker-registry", "login", "--docker-username=sailor"];
    let mut all = create.to_vec();
    all.extend([server.as_str(), &password]);
    space.kubectl(&all).stdout();
}

/// How often a path that ends so was asked for and given.
fn given(end: &str) -> usize {
    let asked = ASKED.lock().unwrap();
    asked.iter().filter(|(line, code)| line.ends_with(end) && *code == 200).count()
}

#[test]
fn an_image_is_pulled_with_the_secret_of_its_pod_and_only_with_it() {
    let space = SHARED.space("pull-secrets");
    let image = format!("{}/crew/web:1", registry().host);
    let waiting = "/status/containerStatuses/0/state/waiting";
    // Without a secret, with a wrong one, with the right one.
    let use_it = "imagePullSecrets: [{name: login}]";
    pod(&space, "stranger", &image, "imagePullSecrets: []");
    let seen = space.until("pod/stranger", waiting, |waiting| {
        ["ErrImagePull", "ImagePullBackOff"].map(Value::from).contains(&waiting["reason"])
    });
    assert!(seen.to_string().contains("crew/web:1"), "{seen}");
    login(&space, "wrong");
    pod(&space, "liar", &image, use_it);
    space.until("pod/liar", waiting, |waiting| {
        ["ErrImagePull", "ImagePullBackOff"].map(Value::from).contains(&waiting["reason"])
    });
    assert_eq!(given("/manifests/1"), 0);
    space.kubectl(&["delete", "secret", "login"]).stdout();
    login(&space, "ahoy");
    pod(&space, "sailor", &image, use_it);
    space.wait("condition=Ready", &["pod/sailor"]);
    assert_eq!(space.kubectl(&["logs", "sailor"]).stdout(), "v1\n");
    let status = &space.get(&["pod", "sailor"])["status"]["containerStatuses"][0];
    assert_eq!(status["imageID"], format!("{}/crew/web@{}", registry().host, registry().digest));
    // The account's secrets are the pod's.
    let patch = r#"{"imagePullSecrets":[{"name":"login"}]}"#;
    space.kubectl(&["patch", "serviceaccount", "default", "-p", patch]).stdout();
    pod(
        &space,
        "mate",
        &format!("{}/crew/web@{}", registry().host, registry().digest),
        "serviceAccountName: default",
    );
    space.wait("condition=Ready", &["pod/mate"]);
    assert_eq!(space.kubectl(&["logs", "mate"]).stdout(), "v1\n");

    // What is there is not fetched again, but Always asks whether it is still the same.
    let manifests = given("/manifests/1");
    pod(&space, "again", &image, use_it);
    space.wait("condition=Ready", &["pod/again"]);
    assert_eq!(given("/manifests/1"), manifests, "IfNotPresent asks nobody");
    pod(&space, "always", &format!("{image}\n    imagePullPolicy: Always"), use_it);
    space.wait("condition=Ready", &["pod/always"]);
    assert!(given("/manifests/1") > manifests, "Always asks");
    let fetched: Vec<usize> = registry().layers.iter().map(|layer| given(layer)).collect();
    assert_eq!(fetched, [1, 1], "each layer is fetched once");
}

#[test]
fn an_image_that_is_not_there_is_said_to_be_missing() {
    let space = SHARED.space("no-image");
    login(&space, "ahoy");
    let image = format!("{}/crew/nothing:1", registry().host);
    pod(&space, "p", &image, "imagePullSecrets: [{name: login}]");
    let waiting = "/status/containerStatuses/0/state/waiting/reason";
    space.until("pod/p", waiting, |reason| *reason == "ImagePullBackOff");
    let events = ["get", "events", "-o", "jsonpath={.items[*].message}"];
    eventually("the event", LONG, || {
        let said = space.kubectl(&events).stdout();
        let known = said.contains("Failed to pull image") && said.contains("not found");
        if known { Ok(()) } else { Err(said) }
    });
    pod(
        &space,
        "never",
        "nowhere.example/x:1\n    imagePullPolicy: Never",
        "restartPolicy: Always",
    );
    space.until("pod/never", waiting, |reason| *reason == "ErrImageNeverPull");
    pod(&space, "wrong", "'Not An Image'", "restartPolicy: Always");
    space.until("pod/wrong", waiting, |reason| *reason == "InvalidImageName");
}
