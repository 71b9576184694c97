//! Pulling an image: from the first registry that has it, layers as streams straight into the
//! store, each downloaded and unpacked once however many ask for it.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use tokio::sync::{OwnedMutexGuard, Semaphore, mpsc, watch};

use super::build::{Build, unpack_layer};
use super::manifest::{Descriptor, Manifest, select};
use super::reference::Reference;
use super::registry::{Kind, Refusal, Registries, Repository};
use super::store::{NewLayer, Store};
use super::unpack::Unpacked;
use super::{Image, ProgressFn, PullProgress};
use crate::config::{Credential, RegistryConfig};
use crate::error::{Error, PullError};
use crate::sync::{blocking, lock};

/// Layers on their way at once.
const PARALLEL: usize = 3;
/// How often a broken download is taken up again.
const RETRIES: u32 = 4;
/// Longest silence of a download.
const SILENCE: Duration = Duration::from_secs(60);
/// Indexes within indexes.
const MAX_DEPTH: u32 = 4;

type Outcome = Option<Result<Image, PullError>>;

/// Pulls under way.
#[derive(Debug)]
pub(super) struct Pulls {
    registries: Registries,
    /// By reference and credentials.
    running: Mutex<HashMap<String, watch::Receiver<Outcome>>>,
    /// By digest of the uncompressed layer.
    layers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Pulls {
    pub(super) fn new(config: RegistryConfig) -> Pulls {
        let registries = Registries::new(config);
        Pulls { registries, running: Mutex::default(), layers: Mutex::default() }
    }

    pub(super) async fn pull(
        self: &Arc<Pulls>,
        store: &Arc<Store>,
        text: &str,
        credentials: &[Credential],
        progress: Option<ProgressFn>,
    ) -> Result<Image, PullError> {
        let reference = Reference::parse(text).map_err(|message| PullError::InvalidReference {
            reference: text.to_owned(),
            message: message.to_owned(),
        })?;
        let secrets: Vec<String> = credentials
            .iter()
            .map(|c| {
                [&c.username, &c.password, &c.identity_token, &c.registry_token]
                    .map(String::as_str)
                    .join("\0")
            })
            .collect();
        let key = format!("{reference}\n{}", secrets.join("\n"));
        let (mut outcome, tell) = {
            let mut running = lock(&self.running);
            match running.get(&key) {
                Some(outcome) => (outcome.clone(), None),
                None => {
                    let (tell, outcome) = watch::channel(None);
                    running.insert(key.clone(), outcome.clone());
                    (outcome, Some(tell))
                }
            }
        };
        if let Some(tell) = tell {
            // On its own, so that it goes on when the one who asked has lost patience: others may
            // be waiting too, and the next attempt finds the layers.
            let (this, store) = (self.clone(), store.clone());
            let credentials = credentials.to_vec();
            tokio::spawn(async move {
                let pull = Pull { pulls: &this, store: &store, reference: &reference, progress };
                let done = pull.run(&credentials).await;
                lock(&this.running).remove(&key);
                tell.send_replace(Some(done));
            });
        }
        let ended = outcome.wait_for(Option::is_some).await;
        let ended = ended.ok().and_then(|outcome| outcome.clone());
        ended.unwrap_or_else(|| {
            let message = "pull was interrupted".to_owned();
            Err(PullError::Unavailable { image: text.to_owned(), message })
        })
    }

    /// Waits until nobody else works on any of these layers. The order makes sure that two images
    /// with layers in common do not wait for each other.
    async fn lock_layers(&self, mut diff_ids: Vec<String>) -> Vec<LayerLock<'_>> {
        diff_ids.sort_unstable();
        let mut held = Vec::new();
        for diff_id in diff_ids {
            let mutex = lock(&self.layers).entry(diff_id.clone()).or_default().clone();
            held.push(LayerLock { guard: Some(mutex.lock_owned().await), pulls: self, diff_id });
        }
        held
    }
}

/// The right to work on a layer.
struct LayerLock<'a> {
    guard: Option<OwnedMutexGuard<()>>,
    pulls: &'a Pulls,
    diff_id: String,
}

impl Drop for LayerLock<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut layers = lock(&self.pulls.layers);
        if layers.get(&self.diff_id).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            layers.remove(&self.diff_id);
        }
    }
}

/// One pull.
struct Pull<'a> {
    pulls: &'a Arc<Pulls>,
    store: &'a Arc<Store>,
    reference: &'a Reference,
    progress: Option<ProgressFn>,
}

/// What a manifest for this machine says.
struct Resolved {
    /// Digest of what the reference names, an index perhaps.
    digest: String,
    manifest: Manifest,
    size: u64,
}

impl Pull<'_> {
    async fn run(&self, credentials: &[Credential]) -> Result<Image, PullError> {
        let registries = &self.pulls.registries;
        let mut tries: Vec<Option<Credential>> = credentials.iter().cloned().map(Some).collect();
        tries.extend(registries.credential(&self.reference.host).map(Some));
        tries.push(None);
        let mut last = Refusal::unavailable("no registry");
        for endpoint in registries.endpoints(&self.reference.host) {
            for credential in &tries {
                let repository =
                    registries.repository(endpoint.clone(), self.reference, credential.clone());
                match self.resolve(&repository).await {
                    Ok(resolved) => match self.fetch(&repository, resolved).await {
                        // A mirror may have lost a layer that its manifest still names.
                        Err(error) if endpoint.is_mirror() => {
                            last = error;
                            break;
                        }
                        other => return other.map_err(|e| self.error(e, "failed to pull")),
                    },
                    Err(refusal) => {
                        let secret = refusal.kind == Kind::Unauthorized;
                        // What a mirror lacks says little, and the registry itself comes last.
                        last = refusal;
                        if !secret {
                            break;
                        }
                    }
                }
            }
            if endpoint.is_mirror() {
                let (endpoint, error) = (endpoint.to_string(), &last.message);
                tracing::debug!(image = %self.reference, endpoint, error, "mirror");
            }
        }
        let what = format!("failed to resolve reference {:?}", self.reference.to_string());
        Err(self.error(last, &what))
    }

    fn error(&self, refusal: Refusal, what: &str) -> PullError {
        let image = self.reference.to_string();
        let message = match refusal.kind {
            Kind::NotFound => format!("{what}: {image}: not found"),
            _ => format!("{what}: {}", refusal.message),
        };
        match refusal.kind {
            Kind::NotFound => PullError::NotFound { image, message },
            Kind::Unauthorized => PullError::Unauthorized { image, message },
            Kind::Unavailable => PullError::Unavailable { image, message },
            Kind::Invalid => PullError::Invalid { image, message },
        }
    }

    /// Finds the manifest for this machine.
    async fn resolve(&self, repository: &Repository<'_>) -> Result<Resolved, Refusal> {
        let mut raw = repository.manifest(self.reference.target()).await?;
        let digest = raw.digest.clone();
        for _ in 0..MAX_DEPTH {
            let manifest: Manifest = serde_json::from_slice(&raw.bytes)
                .map_err(|e| Refusal::invalid(format!("manifest {}: {e}", raw.digest)))?;
            let Some(manifests) = &manifest.manifests else {
                if manifest.schema_version != 2 {
                    let version = manifest.schema_version;
                    let message = format!("unsupported manifest schema version {version}");
                    return Err(Refusal::invalid(message));
                }
                let size = raw.bytes.len() as u64;
                return Ok(Resolved { digest, manifest, size });
            };
            let chosen = select(manifests)
                .ok_or_else(|| Refusal::invalid("no match for platform in manifest: not found"))?;
            raw = repository.manifest(&chosen.digest).await?;
        }
        Err(Refusal::invalid("manifest has too many levels"))
    }

    /// Brings configuration and missing layers.
    async fn fetch(
        &self,
        repository: &Repository<'_>,
        resolved: Resolved,
    ) -> Result<Image, Refusal> {
        let Resolved { digest, manifest, size } = resolved;
        let config = manifest.config.ok_or_else(|| Refusal::invalid("no configuration"))?;
        let config = repository.small_blob(&config.digest).await?;
        let layers = manifest.layers;
        let size = size + config.len() as u64 + layers.iter().map(|l| l.size).sum::<u64>();

        let mut build = Build::new(self.store, &config, layers.len()).map_err(refused)?;
        let missing = build.missing();
        let wanted = missing.iter().map(|(_, diff_id)| diff_id.clone()).collect();
        let held = self.pulls.lock_layers(wanted).await;
        // Others may have brought some while we waited.
        let missing = build.missing();
        let total = missing.iter().map(|(place, _)| layers[*place].size).sum();
        let received = AtomicU64::new(0);
        let note = |n: u64| {
            let received = received.fetch_add(n, Ordering::Relaxed) + n;
            if let Some(progress) = &self.progress {
                progress(PullProgress { received, total });
            }
        };
        note(0);
        let places = Semaphore::new(PARALLEL);
        let work = missing.iter().map(|(place, diff_id)| {
            let (places, layer, note) = (&places, &layers[*place], &note);
            async move {
                let _place = places.acquire().await;
                let done = self.layer(repository, layer, diff_id, note).await;
                done.map(|(new, unpacked)| (*place, new, unpacked))
            }
        });
        let mut failed = None;
        for done in futures::future::join_all(work).await {
            match done {
                Ok((place, new, unpacked)) => build.put(place, new, unpacked),
                Err(refusal) => failed = failed.or(Some(refusal)),
            }
        }
        let names: Vec<String> = self.reference.tagged().into_iter().collect();
        let digests = vec![self.reference.with_digest(&digest)];
        let done = blocking(move || match failed {
            Some(refusal) => {
                build.abandon();
                Ok::<_, Error>(Err(refusal))
            }
            None => Ok(build.finish(names, digests, size).map_err(refused)),
        });
        let done = done.await.map_err(refused)?;
        drop(held);
        done
    }

    /// Downloads and unpacks one layer.
    async fn layer(
        &self,
        repository: &Repository<'_>,
        layer: &Descriptor,
        diff_id: &str,
        note: &(dyn Fn(u64) + Sync),
    ) -> Result<(NewLayer, Unpacked), Refusal> {
        let (sender, receiver) = mpsc::channel(4);
        let store = self.store.clone();
        let (diff_id, digest, size) = (diff_id.to_owned(), layer.digest.clone(), layer.size);
        let unpack = blocking(move || {
            let stream = Chunks { receiver, chunk: Bytes::new() };
            unpack_layer(&store, stream, &diff_id, Some((&digest, size)))
        });
        let (downloaded, unpacked) =
            tokio::join!(download(repository, layer, sender, note), unpack);
        // A download that failed is why the unpacking did.
        downloaded?;
        unpacked.map_err(refused)
    }
}

/// Downloads a blob in order, taking a broken download up where it broke.
async fn download(
    repository: &Repository<'_>,
    layer: &Descriptor,
    sender: mpsc::Sender<io::Result<Bytes>>,
    note: &(dyn Fn(u64) + Sync),
) -> Result<(), Refusal> {
    let mut offset = 0;
    let mut attempt = 0;
    loop {
        let refusal = match download_from(repository, layer, &mut offset, &sender, note).await {
            Ok(()) => return Ok(()),
            Err(refusal) => refusal,
        };
        attempt += 1;
        if attempt > RETRIES || refusal.kind != Kind::Unavailable {
            let _ = sender.send(Err(io::Error::other(refusal.message.clone()))).await;
            return Err(refusal);
        }
        tracing::debug!(digest = layer.digest, offset, error = refusal.message, "download again");
        tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
    }
}

async fn download_from(
    repository: &Repository<'_>,
    layer: &Descriptor,
    offset: &mut u64,
    sender: &mpsc::Sender<io::Result<Bytes>>,
    note: &(dyn Fn(u64) + Sync),
) -> Result<(), Refusal> {
    let (mut body, ranged) = repository.blob(&layer.digest, *offset).await?;
    // A registry without ranges begins anew; what is known is thrown away.
    let mut skip = if ranged { 0 } else { *offset };
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| Refusal::unavailable("download stalled"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| Refusal::unavailable(format!("download: {e}")))?;
        let Ok(mut data) = frame.into_data() else { continue };
        let skipped = skip.min(data.len() as u64);
        skip -= skipped;
        let _ = data.split_to(skipped as usize);
        *offset += data.len() as u64;
        if *offset > layer.size {
            return Err(Refusal::invalid(format!("blob {} is too long", layer.digest)));
        }
        note(data.len() as u64);
        if sender.send(Ok(data)).await.is_err() {
            // The unpacking has failed, and says why.
            return Ok(());
        }
    }
    if *offset < layer.size {
        return Err(Refusal::unavailable("unexpected EOF"));
    }
    Ok(())
}

/// Chunks from an async task, read by a blocking one.
struct Chunks {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.chunk = chunk?,
            }
        }
        let n = buf.len().min(self.chunk.len());
        buf[..n].copy_from_slice(&self.chunk.split_to(n));
        Ok(n)
    }
}

/// The store's errors as a pull's.
fn refused(error: Error) -> Refusal {
    match error {
        Error::Invalid(message) => Refusal::invalid(message),
        other => Refusal { kind: Kind::Invalid, message: other.to_string() },
    }
}
