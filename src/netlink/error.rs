//! What can go wrong between a program and the kernel's netlink families.

use std::io;

/// The result of a netlink operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a netlink operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself failed: it could not be opened, sent to or read from.
    #[error("netlink socket, {action}: {source}")]
    Socket {
        /// What was being done with the socket.
        action: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
    /// The kernel understood the request and refused it.
    #[error("{request}: {source}{}", detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// The request and the object that it was about.
        request: String,
        /// The kernel's error number.
        source: io::Error,
        /// The kernel's extended acknowledgement, where it gave one.
        detail: Option<String>,
    },
    /// A reply of the kernel does not have the shape that its interface promises.
    #[error("malformed netlink reply: {0}")]
    Malformed(&'static str),
    /// A dump was interrupted by concurrent changes each time it was tried.
    #[error("{0}: the list kept changing while it was read")]
    Interrupted(&'static str),
}

impl Error {
    /// A failed system call on the socket.
    pub(crate) fn socket(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Socket { action, source }
    }

    /// A request that the kernel refused with `errno` (positive).
    pub(crate) fn refused(request: impl Into<String>, errno: i32, detail: Option<String>) -> Self {
        Self::Refused {
            request: request.into(),
            source: io::Error::from_raw_os_error(errno),
            detail,
        }
    }

    /// The kernel's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::Malformed(_) | Self::Interrupted(_) => None,
        }
    }

    /// Whether the object of the request is not there (`ENOENT`, `ESRCH`, `ENODEV` or
    /// `EADDRNOTAVAIL`: each family has its own word for it).
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.errno(),
            Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL)
        )
    }

    /// Whether the object of the request is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }
}
