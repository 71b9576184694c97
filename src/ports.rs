//! Binds the ports of the machine, and says who has them when they are taken.

use std::{
    io::{Error, ErrorKind},
    net::SocketAddr,
};

use tokio::net::TcpListener;

/// Why a port was not bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// Another process listens there.
    #[error("port {port} for {purpose} is taken by {holder}; choose another with --{option}")]
    Taken {
        /// The port.
        port: u16,
        /// What it is for.
        purpose: &'static str,
        /// Name and pid of the process.
        holder: String,
        /// The option that chooses the port.
        option: &'static str,
    },
    /// The kernel refused for another reason.
    #[error("cannot listen on {address} for {purpose}: {source}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// Why not.
        source: Error,
    },
}

/// Listens on `address`.
pub(crate) async fn bind(
    address: SocketAddr,
    purpose: &'static str,
    option: &'static str,
) -> Result<TcpListener, PortError> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let holder = holder_of(address.port());
            Err(PortError::Taken { port: address.port(), purpose, holder, option })
        }
        Err(source) => Err(PortError::Refused { address, purpose, source }),
    }
}

/// Who listens on a TCP port: the socket's inode from `/proc/net/tcp`, then the process that has
/// it open.
pub(crate) fn holder_of(port: u16) -> String {
    let unknown = || "another process".to_owned();
    let Some(inode) = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| listener_inode(line, port))
    }) else {
        return unknown();
    };
    let link = format!("socket:[{inode}]");
    let Ok(processes) = std::fs::read_dir("/proc") else { return unknown() };
    let is_pid =
        |name: &std::ffi::OsStr| name.to_string_lossy().bytes().all(|b| b.is_ascii_digit());
    for process in processes.flatten().filter(|entry| is_pid(&entry.file_name())) {
        let Ok(open) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let has = open.flatten().any(|file| {
            std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == &*link)
        });
        if has {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return format!("{} (pid {})", name.trim(), process.file_name().to_string_lossy());
        }
    }
    unknown()
}

/// The inode in a line of `/proc/net/tcp`, if the line is a listener (state 0A) on `port`.
fn listener_inode(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let found = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    (state == "0A" && found == port).then(|| inode.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_its_holder_and_the_option() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, "a test", "test-port").await.unwrap_err().to_string();
        let pid = format!("(pid {})", std::process::id());
        assert!(error.contains(&pid) && error.contains("--test-port"), "{error}");
    }
}
