//! Connections of probes and lifecycle hooks, made from the node's own network namespace.

use std::{io, net::IpAddr, time::Duration};

use tokio::net::{TcpSocket, TcpStream, lookup_host};

/// An address as Go prints it: IPv6 in brackets.
pub(super) fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}

/// Connects, or tells why not in the words of Go's net package.
pub(super) async fn connect(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, String> {
    let address = authority(host, port);
    match tokio::time::timeout(timeout, open(host, port)).await {
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
        Ok(Err(error)) => Err(format!("dial tcp {address}: {}", words(&error))),
        Ok(Ok(stream)) => Ok(stream),
    }
}

async fn open(host: &str, port: u16) -> io::Result<TcpStream> {
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => lookup_host((host, port))
            .await?
            .next()
            .ok_or_else(|| io::Error::other("no such host"))?
            .ip(),
    };
    let socket = if ip.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Many probes would leave as many connections in TIME_WAIT; a reset at the end leaves none.
    socket.set_zero_linger()?;
    socket.connect((ip, port).into()).await
}

/// An error of a system call as Go words it.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}
