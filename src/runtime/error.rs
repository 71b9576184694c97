//! Errors of the runtime, worded so that the node agent can put them into events and statuses.

use std::io;
use std::path::{Path, PathBuf};

/// An operation of the runtime failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call or file operation.
    #[error("{context}: {source}")]
    Io {
        /// What was tried.
        context: String,
        /// The reason.
        source: io::Error,
    },
    /// No such sandbox, container or image.
    #[error("{0}")]
    NotFound(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The pod's shim does not answer.
    #[error("shim of pod {pod_uid}: {message}")]
    Shim {
        /// The pod.
        pod_uid: String,
        /// What happened.
        message: String,
    },
    /// A file of the runtime's own state cannot be read.
    #[error("{}: {message}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Running a process in a container failed, worded as runc words it.
    #[error("{0}")]
    Exec(String),
    /// A command did not end in time.
    #[error("command {command:?} timed out")]
    Timeout {
        /// The command line.
        command: Vec<String>,
    },
    /// Part of the runtime is shutting down.
    #[error("{0}")]
    Gone(String),
}

/// Result of the runtime's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A container did not start. The variants are the reasons that the kubelet shows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// `CreateContainerError`: mounts, cgroups, users or settings that cannot be.
    #[error("{0}")]
    Create(String),
    /// `RunContainerError`: the process could not be executed.
    #[error("{0}")]
    Run(String),
    /// `CreateContainerError` as well: the image is not in the store.
    #[error("image {0:?} not found")]
    ImageMissing(String),
    /// The runtime itself failed.
    #[error(transparent)]
    Runtime(#[from] Error),
}

/// An image could not be pulled. The text is what follows `Failed to pull image "…": ` in events.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// `InvalidImageName`.
    #[error("couldn't parse image name {reference:?}: {message}")]
    InvalidReference {
        /// As given.
        reference: String,
        /// What is wrong.
        message: String,
    },
    /// The registry does not have it.
    #[error("failed to pull and unpack image {image:?}: {message}")]
    NotFound {
        /// Normalized name.
        image: String,
        /// What is missing.
        message: String,
    },
    /// The registry refuses.
    #[error("failed to pull and unpack image {image:?}: {message}")]
    Unauthorized {
        /// Normalized name.
        image: String,
        /// What it said.
        message: String,
    },
    /// `RegistryUnavailable`: it cannot be reached or answers with a server error.
    #[error("failed to pull and unpack image {image:?}: {message}")]
    Unavailable {
        /// Normalized name.
        image: String,
        /// What happened.
        message: String,
    },
    /// Wrong digest, hostile archive, unknown format, no manifest for this platform.
    #[error("failed to pull and unpack image {image:?}: {message}")]
    Invalid {
        /// Normalized name.
        image: String,
        /// What is wrong.
        message: String,
    },
    /// The disk failed.
    #[error("failed to pull and unpack image {image:?}: {message}")]
    Storage {
        /// Normalized name.
        image: String,
        /// What happened.
        message: String,
    },
}

/// Adds what was tried to an `io::Error`.
pub(crate) trait Context<T> {
    /// With a fixed or formatted text.
    fn context(self, text: impl FnOnce() -> String) -> Result<T>;
    /// With an operation on a path.
    fn at(self, what: &str, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, text: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { context: text(), source })
    }
    fn at(self, what: &str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { context: format!("{what} {}", path.display()), source })
    }
}
