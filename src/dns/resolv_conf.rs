//! The upstream servers that a resolv.conf names.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::SystemTime;

const DNS_PORT: u16 = 53;

/// What identifies one version of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl Version {
    /// The present version, following symbolic links; `None` while there is no file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(path).ok()?;
        let modified = metadata.modified().ok();
        Some(Self { modified, length: metadata.len(), inode: metadata.ino() })
    }
}

/// Reads the servers of a file; one that cannot be read names none.
pub(crate) fn read(path: &Path) -> Vec<SocketAddr> {
    match fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "resolv.conf not readable");
            Vec::new()
        }
    }
}

/// The addresses after `nameserver`, which may have a port as in `[10.0.0.1]:5353`.
fn parse(text: &str) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        if let Some(server) = words.next().and_then(server)
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers
}

fn server(text: &str) -> Option<SocketAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once("]:")?;
        return Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?));
    }
    if let Some((address, interface)) = text.split_once('%') {
        let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok()?;
        let scope = index.trim().parse().ok()?;
        return Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, scope).into());
    }
    let address: IpAddr = text.parse().ok()?;
    Some(SocketAddr::new(address, DNS_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers() {
        let text = "# nameserver 1.1.1.1\nsearch x.example\nnameserver 10.0.0.1\n\
            nameserver\t10.0.0.1 # again\n  nameserver fd00::1\nnameserver\nnameserver nonsense\n\
            nameserver [127.0.0.1]:5353\noptions ndots:5\nnameserver fe80::1%lo";
        let servers: Vec<String> = parse(text).iter().map(SocketAddr::to_string).collect();
        let expected = ["10.0.0.1:53", "[fd00::1]:53", "127.0.0.1:5353", "[fe80::1%1]:53"];
        assert_eq!(servers, expected);
    }
}
