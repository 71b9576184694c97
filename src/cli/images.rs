//! `knarr images`: by way of the node that runs, or on the store itself if none does.

use std::{
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Subcommand;
use linux::inotify::Folder;
use runtime::{Image, ImageStore, Runtime};

use crate::{
    agent::{
        self,
        control::{self, Answer, Connection, Request},
    },
    config::NodeDirectories,
    lock::{DataLock, LockError},
};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often one is looked for that ended meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// What to do with the images of a node.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// List them
    List,
    /// Import them from OCI or docker archives
    Import {
        /// Archives: .tar, .tar.gz or .tar.zst
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Remove them by name
    Remove {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}

impl Action {
    fn requests(self) -> Result<Vec<(String, Request)>, Box<dyn Error>> {
        Ok(match self {
            Self::List => vec![(String::new(), Request::List)],
            Self::Import { archives } => {
                let request = |archive: PathBuf| {
                    let name = archive.display().to_string();
                    let path = archive.canonicalize().map_err(|error| format!("{name}: {error}"));
                    path.map(|path| (name, Request::Import(path)))
                };
                archives.into_iter().map(request).collect::<Result<_, _>>()?
            }
            Self::Remove { images } => {
                images.into_iter().map(|image| (image.clone(), Request::Remove(image))).collect()
            }
        })
    }
}

/// Who works on the store.
enum Store {
    Node(Connection),
    Own {
        store: ImageStore,
        /// Whether there are pods, which nobody but a server can ask what they use.
        pods: bool,
        /// Nobody may start to work on it meanwhile.
        _lock: DataLock,
    },
}

impl Store {
    async fn open(directories: &NodeDirectories) -> Result<Self, Box<dyn Error>> {
        std::fs::create_dir_all(&directories.data_dir)?;
        let mut run_dir = Folder::new(&directories.run_dir);
        let begin = Instant::now();
        let _lock = loop {
            if let Some(node) = Connection::open(&directories.run_dir).await? {
                return Ok(Self::Node(node));
            }
            match DataLock::take(&directories.data_dir) {
                Ok(lock) => break lock,
                // A server that has just been started has its socket as soon as it has a node.
                Err(LockError::Held { .. }) if begin.elapsed() < PATIENCE => {
                    run_dir.changed(LOOK).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let store = Runtime::image_store(&agent::runtime_config(directories)).await?;
        let pods = std::fs::read_dir(directories.run_dir.join("pods"));
        let pods = pods.is_ok_and(|mut pods| pods.next().is_some());
        Ok(Self::Own { store, pods, _lock })
    }

    async fn ask(&mut self, request: Request) -> Result<Answer, Box<dyn Error>> {
        match self {
            Self::Node(node) => {
                let answer = node.ask(&request).await;
                answer.map_err(|error| format!("the server did not answer: {error}").into())
            }
            Self::Own { pods: true, .. } if matches!(request, Request::Remove(_)) => {
                let why = "pods run here that may use it: start the server first, or stop them \
                           with `knarr cleanup`";
                Ok(Answer::Refused(why.to_owned()))
            }
            Self::Own { store, .. } => Ok(control::carry_out(store, request).await),
        }
    }
}

/// Runs one of the actions. What fails does not stop what comes after it.
pub(crate) fn run(action: Action, directories: &NodeDirectories) -> Result<(), Box<dyn Error>> {
    let requests = action.requests()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let refused = runtime.block_on(async {
        let mut store = Store::open(directories).await?;
        let mut refused = Vec::new();
        for (subject, request) in requests {
            match store.ask(request).await? {
                Answer::Images(images) => list(&images),
                Answer::Imported(names) => names.iter().for_each(|name| println!("{name}")),
                Answer::Freed(bytes) => println!("{subject}: {:.1} MB freed", bytes as f64 / 1e6),
                Answer::Refused(why) if why.contains(&subject) => refused.push(why),
                Answer::Refused(why) => refused.push(format!("{subject}: {why}")),
            }
        }
        Ok::<_, Box<dyn Error>>(refused)
    })?;
    if refused.is_empty() { Ok(()) } else { Err(refused.join("\n").into()) }
}

fn list(images: &[Image]) {
    println!("{:<60} {:<14} {:>10}", "IMAGE", "ID", "SIZE");
    for image in images {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        let size = format!("{:.1} MB", image.size as f64 / 1e6);
        for name in &image.names {
            println!("{name:<60} {id:<14} {size:>10}");
        }
    }
}
