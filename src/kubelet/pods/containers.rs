//! Starting one container: its image, its specification, its process, the hook after its start.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, VolumeMount};
use runtime::{
    ContainerSpec, Device, Image, LogLimits, Mount, Propagation, Sandbox, StartError, resolve_argv,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    actions::KillReason,
    hooks,
    kill::{Killer, fixed, grace_of},
    log_files, observe,
    sandbox::Files,
    termination_message,
    view::ContainerView,
};
use crate::{
    env::{self, Sources},
    hosts::{Names, hosts_file},
    images::Wanted,
    podspec::{Kind, PodExt, container_reference},
    resources::{cgroups::container_resources, oom},
    security,
    shared::Shared,
    volumes::{Volumes, subpath},
};

/// After another failure than one that names its own time, a start is tried again after this long.
const RETRY: Duration = Duration::from_secs(10);

/// What all containers of a pod are started with.
pub(super) struct Context<'a> {
    pub(super) shared: &'a Shared,
    pub(super) pod: &'a Arc<Pod>,
    pub(super) sandbox: &'a Sandbox,
    pub(super) ips: &'a [IpAddr],
    pub(super) volumes: &'a Volumes,
    pub(super) pod_dir: &'a Path,
    pub(super) cancel: &'a CancellationToken,
}

/// Why a container did not start.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) retry: Instant,
    /// The instance that this leaves behind, if any.
    pub(super) instance: Option<ContainerView>,
    /// The pod is about to end, so the failure is nobody's business.
    pub(super) cancelled: bool,
}

fn failure(reason: &str, message: impl Into<String>) -> Failure {
    Failure {
        reason: reason.to_owned(),
        message: message.into(),
        retry: Instant::now() + RETRY,
        instance: None,
        cancelled: false,
    }
}

fn cancelled() -> Failure {
    Failure { cancelled: true, ..failure("", "") }
}

impl Context<'_> {
    /// Starts `container`; `previous` is its newest instance.
    pub(super) async fn start(
        &self,
        kind: Kind,
        container: &Container,
        previous: Option<&ContainerView>,
        started: impl FnOnce(),
    ) -> Result<(), Failure> {
        let reference = container_reference(self.pod, kind, &container.name);
        let recorder = &self.shared.recorder;
        let failed =
            |error: &str| recorder.warning(&reference, "Failed", format!("Error: {error}"));
        let image = self.image(container, &reference).await.inspect_err(|failure| {
            if !failure.cancelled {
                failed(&failure.reason);
            }
        })?;
        let attempt = match previous {
            Some(previous) => previous.attempt + 1,
            None => log_files::next_attempt(&self.shared.config.log_dir, self.pod, &container.name),
        };
        let spec = match self.spec(container, &image, attempt).await {
            Ok(spec) => spec,
            Err(why) => {
                failed(&why);
                return Err(failure("CreateContainerConfigError", why));
            }
        };
        let id = spec.id.clone();
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        // The shim makes the file, the folder is ours, as it is upstream's kubelet's.
        if let Some(folder) = spec.log_path.as_deref().and_then(Path::parent)
            && let Err(error) = std::fs::create_dir_all(folder)
        {
            let why = format!("create log folder {}: {error}", folder.display());
            failed(&why);
            return Err(failure("CreateContainerError", why));
        }
        let named = |error: &str| error.replace(&id, &container.name);
        match self.sandbox.start_container(spec.clone()).await {
            Ok(_) => {
                recorder.normal(&reference, "Created", "Container created");
                recorder.normal(&reference, "Started", "Container started");
            }
            Err(StartError::Run(why)) => {
                recorder.normal(&reference, "Created", "Container created");
                failed(&named(&why));
                let instance = observe::failed_start(&spec, why.clone());
                return Err(Failure {
                    instance: Some(instance),
                    ..failure("RunContainerError", why)
                });
            }
            Err(error) => {
                let why = error.to_string();
                failed(&named(&why));
                return Err(failure("CreateContainerError", why));
            }
        }
        self.link_log(container, &spec);
        started();
        self.post_start(container, &id, &reference).await
    }

    async fn image(
        &self,
        container: &Container,
        reference: &ObjectReference,
    ) -> Result<Image, Failure> {
        let wanted = Wanted {
            pod: self.pod,
            reference,
            image: container.image.as_deref().unwrap_or_default(),
            policy: container.image_pull_policy.as_deref(),
        };
        tokio::select! {
            image = self.shared.images.ensure(&wanted, &self.shared.objects) => {
                image.map_err(|why| Failure {
                    retry: why.retry,
                    ..failure(why.reason, why.message)
                })
            }
            () = self.cancel.cancelled() => Err(cancelled()),
        }
    }

    async fn post_start(
        &self,
        container: &Container,
        id: &str,
        reference: &ObjectReference,
    ) -> Result<(), Failure> {
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(hook) = hook else { return Ok(()) };
        let target = hooks::Target {
            pod: self.pod,
            container,
            sandbox: self.sandbox,
            id,
            ips: self.ips,
            recorder: &self.shared.recorder,
        };
        let done = tokio::select! {
            done = hooks::run(&target, hook) => done,
            () = self.cancel.cancelled() => return Err(cancelled()),
        };
        let Err(why) = done else { return Ok(()) };
        // Not the reason: a server's answer may hold secrets.
        self.shared.recorder.warning(reference, "FailedPostStartHook", "PostStartHook failed");
        let killer = Killer {
            pod: self.pod.clone(),
            sandbox: self.sandbox.clone(),
            ips: self.ips.to_vec(),
            recorder: self.shared.recorder.clone(),
        };
        let grace = fixed(grace_of(self.pod, Some(container), KillReason::Other));
        let message = "FailedPostStartHook".to_owned();
        killer.kill(&container.name, id, message, grace, None).await;
        Err(failure("PostStartHookError", why))
    }

    /// The specification of a container. The error is the message of CreateContainerConfigError.
    async fn spec(
        &self,
        container: &Container,
        image: &Image,
        attempt: u32,
    ) -> Result<ContainerSpec, String> {
        let (pod, config) = (self.pod.as_ref(), &self.shared.config);
        let name = &container.name;
        let variables = self.variables(container).await?;
        let expanded = |texts: &Option<Vec<String>>| {
            env::expand_all(texts.as_deref().unwrap_or_default(), &variables)
        };
        let termination = match container.termination_message_path.as_deref() {
            Some(path) if !path.is_empty() => {
                let file = termination_message::make(self.pod_dir, name)
                    .map_err(|error| format!("termination message file: {error}"))?;
                Some((file, PathBuf::from(path)))
            }
            _ => None,
        };
        let mut mounts = self.mounts(container, &variables).await?;
        if let Some((file, path)) = &termination {
            mounts.push(Mount {
                source: file.clone(),
                destination: absolute(path),
                ..Mount::default()
            });
        }
        // Parents before children, otherwise in the order of the pod.
        mounts.sort_by_key(|mount| mount.destination.components().count());
        let working_dir = container.working_dir.clone().filter(|dir| !dir.is_empty());
        let capacity = self.shared.machine.memory;
        let mut env = image.config.env.clone();
        env.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
        let mut spec = ContainerSpec {
            id: new_id(),
            name: name.clone(),
            attempt,
            image: image.id.clone(),
            argv: resolve_argv(
                &expanded(&container.command),
                &expanded(&container.args),
                &image.config,
            ),
            env,
            working_dir: working_dir.unwrap_or_else(|| image.config.working_dir.clone()),
            mounts,
            devices: self.devices(container)?,
            resources: container_resources(pod, container),
            oom_score_adj: oom::score_adjust(pod, container, capacity),
            tty: container.tty == Some(true),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            log_path: Some(log_files::file(&config.log_dir, pod, name, attempt)),
            log_limits: LogLimits {
                max_size: config.log_max_size,
                max_files: config.log_max_files,
            },
            stop_signal: stop_signal(container, image),
            labels: BTreeMap::from([
                ("io.kubernetes.pod.name".to_owned(), pod.name().to_owned()),
                ("io.kubernetes.pod.namespace".to_owned(), pod.namespace().to_owned()),
                ("io.kubernetes.pod.uid".to_owned(), pod.uid().to_owned()),
                ("io.kubernetes.container.name".to_owned(), name.clone()),
            ]),
            annotations: observe::annotations(
                container,
                image,
                termination.as_ref().map(|(file, _)| file.as_path()),
            ),
            ..ContainerSpec::default()
        };
        if spec.argv.is_empty() {
            // Worded as containerd refuses to create such a container.
            return Err("failed to generate spec: no command specified".to_owned());
        }
        let (seccomp_dir, default) = (&config.seccomp_dir, config.seccomp_default);
        security::apply(&mut spec, pod, container, &image.config, seccomp_dir, default)?;
        Ok(spec)
    }

    async fn variables(&self, container: &Container) -> Result<Vec<(String, String)>, String> {
        let spec = self.pod.spec_or_empty();
        self.shared.services.synced().await;
        let links = spec.enable_service_links != Some(false);
        let services = env::service_variables(&self.shared.services, self.pod.namespace(), links);
        let volumes: HashMap<String, PathBuf> = self
            .volumes
            .by_name
            .iter()
            .map(|(name, volume)| (name.clone(), volume.path.clone()))
            .collect();
        let sources = Sources {
            objects: &self.shared.objects,
            services,
            facts: self.shared.facts(self.ips),
            volumes: &volumes,
        };
        env::environment(self.pod, container, &sources).await
    }

    fn devices(&self, container: &Container) -> Result<Vec<Device>, String> {
        container
            .volume_devices
            .iter()
            .flatten()
            .map(|device| {
                let volume = self.volumes.by_name.get(&device.name).filter(|v| v.block);
                let volume = volume.ok_or_else(|| {
                    format!(
                        "cannot find volume {:?} to pass into container {:?}",
                        device.name, container.name
                    )
                })?;
                let permissions = if volume.read_only { "r" } else { "mrw" };
                Ok(Device {
                    host_path: volume.path.clone(),
                    container_path: PathBuf::from(&device.device_path),
                    permissions: permissions.to_owned(),
                })
            })
            .collect()
    }

    async fn mounts(
        &self,
        container: &Container,
        variables: &[(String, String)],
    ) -> Result<Vec<Mount>, String> {
        let mut mounts = Vec::new();
        let mut own_hosts = false;
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            own_hosts |= mount.mount_path == "/etc/hosts";
            mounts.push(self.volume_mount(container, index, mount, variables).await?);
        }
        let files = Files::of(self.pod_dir);
        let mut add = |source: PathBuf, destination: &str| {
            if !mounts.iter().any(|mount| mount.destination == Path::new(destination)) {
                let destination = PathBuf::from(destination);
                mounts.push(Mount { source, destination, ..Mount::default() });
            }
        };
        add(files.resolv_conf, "/etc/resolv.conf");
        add(files.hostname, "/etc/hostname");
        if !own_hosts {
            let names = Names::of(self.pod, &self.shared.config.cluster_domain)?;
            let text = hosts_file(self.pod, &names, self.ips).map_err(|error| error.to_string())?;
            std::fs::write(&files.hosts, text).map_err(|error| error.to_string())?;
            add(files.hosts, "/etc/hosts");
        }
        Ok(mounts)
    }

    async fn volume_mount(
        &self,
        container: &Container,
        index: usize,
        mount: &VolumeMount,
        variables: &[(String, String)],
    ) -> Result<Mount, String> {
        let name = &mount.name;
        let volume = self.volumes.by_name.get(name).ok_or_else(|| {
            format!("cannot find volume {name:?} to mount into container {:?}", container.name)
        })?;
        let part = part(mount, variables)?;
        let read_only = mount.read_only == Some(true) || volume.read_only;
        let mut source = volume.path.clone();
        if let Some(part) = &part {
            if volume.image.is_some() {
                source.clone_from(part);
            } else {
                let target = subpath::folder(self.pod_dir, name, &container.name, index);
                let (root, below, bound) = (source, part.clone(), target.clone());
                let done =
                    tokio::task::spawn_blocking(move || subpath::bind(&root, &below, &bound)).await;
                // The reason stays in the log: it could tell about the node's own files.
                if let Err(error) = done
                    .map_err(|e| e.to_string())
                    .and_then(|d| d.map_err(|error| error.to_string()))
                {
                    tracing::warn!(pod = %self.pod.full_name(), volume = %name, %error,
                        "subPath not prepared");
                    return Err(format!(
                        "failed to prepare subPath for volumeMount {name:?} of container {:?}",
                        container.name
                    ));
                }
                source = target;
            }
        }
        let recursive = match mount.recursive_read_only.as_deref() {
            Some("Enabled" | "IfPossible") => true,
            Some("Disabled") | None => false,
            Some(other) => return Err(format!("unknown recursive read-only mode {other:?}")),
        };
        Ok(Mount {
            source,
            image: volume.image.clone(),
            destination: absolute(Path::new(&mount.mount_path)),
            readonly: read_only,
            recursive_readonly: recursive && read_only,
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => Propagation::HostToContainer,
                Some("Bidirectional") => Propagation::Bidirectional,
                _ => Propagation::None,
            },
        })
    }

    /// Log collectors find logs by pod and container in one folder of links.
    fn link_log(&self, container: &Container, spec: &ContainerSpec) {
        let Some(log) = &spec.log_path else { return };
        let link =
            log_files::link(&self.shared.config.log_dir, self.pod, &container.name, &spec.id);
        let made = link.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| std::os::unix::fs::symlink(log, &link)) {
            tracing::debug!(link = %link.display(), %error, "log not linked");
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}

fn stop_signal(container: &Container, image: &Image) -> String {
    let own = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
    own.unwrap_or_else(|| image.config.stop_signal.clone())
}

/// The part of a volume that a mount shows.
fn part(mount: &VolumeMount, variables: &[(String, String)]) -> Result<Option<PathBuf>, String> {
    let mut part = mount.sub_path.clone().unwrap_or_default();
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
        let values: HashMap<&str, &str> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let missing = std::cell::RefCell::new(std::collections::BTreeSet::new());
        part = env::expand(expression, |name| {
            let value = values.get(name).copied().filter(|value| !value.is_empty());
            if value.is_none() {
                missing.borrow_mut().insert(name.to_owned());
            }
            value
        });
        let missing = missing.into_inner();
        if !missing.is_empty() {
            let names: Vec<String> = missing.into_iter().collect();
            return Err(format!("missing value for {}", names.join(", ")));
        }
    }
    if part.is_empty() {
        return Ok(None);
    }
    if part.starts_with('/') {
        return Err(format!("error SubPath `{part}` must not be an absolute path"));
    }
    if part.split('/').any(|step| step == "..") {
        return Err(format!("unable to provision SubPath `{part}`: must not contain '..'"));
    }
    Ok(Some(PathBuf::from(part)))
}

/// 64 hexadecimal digits, as container ids look everywhere.
fn new_id() -> String {
    (0..4).map(|_| format!("{:016x}", rand::random::<u64>())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_volumes() {
        let variables = [("POD".to_owned(), "p-0".to_owned()), ("EMPTY".to_owned(), String::new())];
        let of = |path: &str, expression: &str| {
            let mount = VolumeMount {
                sub_path: Some(path.to_owned()),
                sub_path_expr: Some(expression.to_owned()),
                ..VolumeMount::default()
            };
            part(&mount, &variables)
        };
        assert_eq!(of("", "").unwrap(), None);
        assert_eq!(of("a/b", "").unwrap(), Some(PathBuf::from("a/b")));
        assert_eq!(of("", "x/$(POD)").unwrap(), Some(PathBuf::from("x/p-0")));
        assert_eq!(of("", "$(EMPTY)").unwrap_err(), "missing value for EMPTY");
        assert_eq!(
            of("", "/tmp/$(POD)").unwrap_err(),
            "error SubPath `/tmp/p-0` must not be an absolute path"
        );
        assert!(of("a/../b", "").is_err());
    }

    #[test]
    fn ids_are_long_and_different() {
        assert_eq!(new_id().len(), 64);
        assert_ne!(new_id(), new_id());
    }
}
