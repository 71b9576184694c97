//! Images for containers: present already, or pulled by the pod's policy with the pod's secrets.

mod access;
pub(crate) mod gc;
mod keyring;
pub(crate) mod name;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use access::Access;
use client::events::Recorder;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use runtime::{Credential, Image, ImageStore, PullError};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    objects::{Data, Objects},
    podspec::PodExt,
};

const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(300);

/// Why a container has no image: reason and message of its waiting state.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// When to try again.
    pub(crate) retry: Instant,
}

struct Backoff {
    delay: Duration,
    until: Instant,
    /// What the last attempt said.
    message: String,
}

/// The images of this node, as pods ask for them.
pub(crate) struct Images {
    store: ImageStore,
    recorder: Recorder,
    slots: Semaphore,
    /// Failed pulls by pod uid and image.
    backoff: Mutex<HashMap<(String, String), Backoff>>,
    access: Access,
}

/// An image wanted by a pod.
pub(crate) struct Wanted<'a> {
    pub(crate) pod: &'a Pod,
    /// What events are about: the container, or the pod for an image volume.
    pub(crate) reference: &'a ObjectReference,
    /// As the pod names it.
    pub(crate) image: &'a str,
    pub(crate) policy: Option<&'a str>,
}

impl Images {
    pub(crate) fn new(
        store: ImageStore,
        recorder: Recorder,
        parallel: usize,
        data_dir: &Path,
    ) -> Self {
        Self {
            store,
            recorder,
            slots: Semaphore::new(parallel.max(1)),
            backoff: Mutex::default(),
            access: Access::open(data_dir.join("image-access.json")),
        }
    }

    /// The store underneath.
    pub(crate) fn store(&self) -> &ImageStore {
        &self.store
    }

    /// The image, pulled if the policy and its absence say so.
    pub(crate) async fn ensure(
        &self,
        wanted: &Wanted<'_>,
        objects: &Objects,
    ) -> Result<Image, Failure> {
        let image = wanted.image;
        let soon = Instant::now() + FIRST_BACKOFF;
        if let Err(why) = name::check(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: \
                 {why}"
            );
            self.recorder.warning(wanted.reference, "InspectFailed", message.clone());
            return Err(Failure { reason: "InvalidImageName", message, retry: soon });
        }
        let policy = wanted.policy.unwrap_or_else(|| name::default_policy(image));
        let present = if policy == "Always" { None } else { self.store.get(image) };
        let never = || {
            let message =
                format!("Container image {image:?} is not present with pull policy of Never");
            self.recorder.warning(wanted.reference, "ErrImageNeverPull", message.clone());
            Failure { reason: "ErrImageNeverPull", message, retry: soon }
        };
        if present.is_none() && policy == "Never" {
            return Err(never());
        }
        let credentials = self.credentials(wanted.pod, image, objects).await;
        if let Some(found) = present {
            if self.access.allowed(&found.id, &credentials.found) {
                let message = format!(
                    "Container image {image:?} already present on machine and can be accessed by \
                     the pod"
                );
                self.recorder.normal(wanted.reference, "Pulled", message);
                return Ok(found);
            }
            if policy == "Never" {
                return Err(never());
            }
        }
        self.pull(wanted, &credentials).await
    }

    async fn pull(&self, wanted: &Wanted<'_>, credentials: &Secrets) -> Result<Image, Failure> {
        let image = wanted.image;
        let key = (wanted.pod.uid().to_owned(), image.to_owned());
        if let Some(failure) = self.backing_off(&key, wanted) {
            return Err(failure);
        }
        self.recorder.normal(wanted.reference, "Pulling", format!("Pulling image {image:?}"));
        let asked = Instant::now();
        let Ok(_slot) = self.slots.acquire().await else {
            let message = "the node is stopping".to_owned();
            return Err(Failure { reason: "ErrImagePull", message, retry: asked });
        };
        let began = Instant::now();
        match self.store.pull(image, &credentials.found, None).await {
            Ok(pulled) => {
                self.lock().remove(&key);
                self.access.pulled(&pulled.id, &credentials.found);
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: \
                     {} bytes.",
                    go_duration(began.elapsed()),
                    go_duration(asked.elapsed()),
                    pulled.size
                );
                self.recorder.normal(wanted.reference, "Pulled", message);
                Ok(pulled)
            }
            Err(error) => {
                let text = format!("Failed to pull image {image:?}: {error}");
                self.recorder.warning(wanted.reference, "Failed", text);
                if !credentials.missing.is_empty() {
                    let names = credentials.missing.join(", ");
                    let text = format!(
                        "Unable to retrieve some image pull secrets ({names}); attempting to pull \
                         the image may not succeed."
                    );
                    let pod = crate::podspec::pod_reference(wanted.pod);
                    self.recorder.warning(&pod, "FailedToRetrieveImagePullSecret", text);
                }
                Err(self.failed(key, &error))
            }
        }
    }

    /// Whether a pull failed a short while ago, and is not to be tried again yet.
    fn backing_off(&self, key: &(String, String), wanted: &Wanted<'_>) -> Option<Failure> {
        let (retry, last) = {
            let mut backoff = self.lock();
            let entry = backoff.get(key)?;
            if entry.until <= Instant::now() {
                // What failed long ago is forgotten.
                if entry.until + 2 * LAST_BACKOFF < Instant::now() {
                    backoff.remove(key);
                }
                return None;
            }
            (entry.until, entry.message.clone())
        };
        let short = format!("Back-off pulling image {:?}", wanted.image);
        self.recorder.normal(wanted.reference, "BackOff", short.clone());
        let message = format!("{short}: {last}");
        Some(Failure { reason: "ImagePullBackOff", message, retry })
    }

    fn failed(&self, key: (String, String), error: &PullError) -> Failure {
        let (reason, message) = match error {
            PullError::InvalidReference { .. } => ("InvalidImageName", error.to_string()),
            _ => ("ErrImagePull", error.to_string()),
        };
        let mut backoff = self.lock();
        let delay = match backoff.get(&key) {
            Some(entry) => (entry.delay * 2).min(LAST_BACKOFF),
            None => FIRST_BACKOFF,
        };
        let now = Instant::now();
        let entry = Backoff { delay, until: now + delay, message: format!("{reason}: {message}") };
        backoff.insert(key, entry);
        // The pod is told of the back-off shortly after of the failure, as upstream does.
        Failure { reason, message, retry: now + Duration::from_secs(1).min(delay) }
    }

    /// Forgets what failed for a pod.
    pub(crate) fn forget(&self, uid: &str) {
        self.lock().retain(|(pod, _), _| pod != uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), Backoff>> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn credentials(&self, pod: &Pod, image: &str, objects: &Objects) -> Secrets {
        let mut secrets = Secrets::default();
        let mut keyring = keyring::Keyring::default();
        for reference in pod.spec_or_empty().image_pull_secrets.iter().flatten() {
            if reference.name.is_empty() {
                continue;
            }
            let found = objects.secret(pod.namespace(), &reference.name, false).await;
            match found {
                Ok(Some(data)) => add(&mut keyring, &data),
                _ => secrets.missing.push(reference.name.clone()),
            }
        }
        secrets.found = keyring.lookup(image);
        secrets
    }
}

/// What the pod's secrets give for one image.
#[derive(Default)]
struct Secrets {
    found: Vec<Credential>,
    missing: Vec<String>,
}

fn add(keyring: &mut keyring::Keyring, data: &Data) {
    let bytes = match data.kind.as_str() {
        "kubernetes.io/dockerconfigjson" => data.bytes(".dockerconfigjson"),
        "kubernetes.io/dockercfg" => data.bytes(".dockercfg"),
        _ => None,
    };
    if let Some(bytes) = bytes {
        keyring.add(bytes);
    }
}

/// A duration in whole milliseconds as Go prints it.
fn go_duration(duration: Duration) -> String {
    let nanos = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    apimachinery::time::format_duration(nanos)
}
