//! What agent and edge say to each other over a unix socket: JSON in frames that begin with their
//! length, and sockets that travel beside them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// No frame is longer: room for a headless service with all endpoints of a large cluster.
const MAX_FRAME: usize = 16 << 20;
const READ: usize = 64 << 10;

/// A socket that the agent binds and the edge serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Listener {
    /// Cluster DNS in datagrams.
    DnsUdp(SocketAddr),
    /// Cluster DNS in streams.
    DnsTcp(SocketAddr),
    /// Ingress in clear text.
    Http(SocketAddr),
    /// Ingress over TLS.
    Https(SocketAddr),
    /// Where the next agent finds the edge.
    Control,
}

impl Listener {
    /// The port, where there is one.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::DnsUdp(address)
            | Self::DnsTcp(address)
            | Self::Http(address)
            | Self::Https(address) => address.port(),
            Self::Control => 0,
        }
    }

    /// The option by which another port or address is chosen, where there is one.
    pub(crate) fn option(self) -> Option<&'static str> {
        match self {
            Self::DnsUdp(_) | Self::DnsTcp(_) => Some("--cluster-dns"),
            Self::Http(_) => Some("--ingress-http-port"),
            Self::Https(_) => Some("--ingress-https-port"),
            Self::Control => None,
        }
    }
}

/// What the agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ToEdge {
    /// The settings, before anything else.
    Configure {
        /// Of cluster DNS.
        dns: dns::Config,
        /// Of Ingress.
        ingress: ingress::Config,
    },
    /// Serve this socket, which comes with the frame.
    Listen(Listener),
    /// Stop serving this socket.
    Close(Listener),
    /// A full transfer of the DNS records begins.
    BeginDns,
    /// A change of the DNS records.
    Dns(dns::Update),
    /// A full transfer of the Ingress rules begins.
    BeginIngress,
    /// A change of the Ingress rules.
    Ingress(ingress::Update),
    /// Send a copy of every socket, and then `HandedOver`.
    HandOver,
    /// Serve nothing more, finish what is under way, and end.
    Drain,
    /// Say `Pong`.
    Ping,
}

/// What the edge says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ToAgent {
    /// Who it is: the first frame of every connection.
    Hello {
        /// See [`build`].
        build: String,
        /// Its process.
        pid: i32,
    },
    /// A copy of this socket comes with the frame.
    Listener(Listener),
    /// There are no more sockets.
    HandedOver,
    /// It knows everything that it has to: the answer to the last `Synced`.
    Ready,
    /// It is alive.
    Pong,
}

/// What tells one build of this binary from another: a replaced file is another one even if its
/// version is the same.
pub(crate) fn build() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match std::fs::metadata("/proc/self/exe") {
        Ok(exe) => {
            let (size, time) = (exe.size(), exe.mtime_nsec());
            format!("{version}-{:x}.{:x}.{size:x}.{:x}.{time:x}", exe.dev(), exe.ino(), exe.mtime())
        }
        Err(_) => version.to_owned(),
    }
}

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Where in the buffer the next frame begins.
    start: usize,
    fds: VecDeque<OwnedFd>,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, fds: VecDeque::new() }
    }

    /// The next frame; `None` when the other side has ended the connection. Nothing is lost when
    /// the future is dropped.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return serde_json::from_slice(&self.buffer[frame]).map(Some).map_err(invalid);
            }
            self.stream.readable().await?;
            let end = self.buffer.len();
            self.buffer.resize(end + READ, 0);
            let room = &mut self.buffer[end..];
            let received = self
                .stream
                .try_io(Interest::READABLE, || linux::fd::recv_with_fds(self.stream.as_fd(), room));
            self.buffer.truncate(end + received.as_ref().map_or(0, |(length, _)| *length));
            match received {
                Ok((0, _)) if end == self.start => return Ok(None),
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, fds)) => self.fds.extend(fds),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The socket that came with the frame received last.
    pub(crate) fn take_fd(&mut self) -> io::Result<OwnedFd> {
        self.fds.pop_front().ok_or_else(|| invalid("frame came without its socket"))
    }

    fn take_frame(&mut self) -> io::Result<Option<std::ops::Range<usize>>> {
        let unread = &self.buffer[self.start..];
        if let Some((length, rest)) = unread.split_first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > MAX_FRAME {
                return Err(invalid("frame too long"));
            }
            if rest.len() >= length {
                let begin = self.start + 4;
                self.start = begin + length;
                return Ok(Some(begin..begin + length));
            }
        }
        // More is needed: what has been read makes room, also that of an unusual burst.
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * READ {
            self.buffer = Vec::new();
        }
        Ok(None)
    }

    /// Sends a frame, with a socket if there is one.
    pub(crate) async fn send(
        &self,
        message: &impl Serialize,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let mut frames = Frames::default();
        frames.push(message)?;
        self.write(&frames.0, fd).await
    }

    /// Sends frames that have been put together.
    pub(crate) async fn send_all(&self, frames: &mut Frames) -> io::Result<()> {
        self.write(&frames.0, None).await?;
        frames.0.clear();
        Ok(())
    }

    async fn write(&self, mut bytes: &[u8], mut fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            let sent = self.stream.try_io(Interest::WRITABLE, || match &fd {
                Some(fd) => linux::fd::send_with_fds(self.stream.as_fd(), bytes, &[*fd]),
                None => linux::fd::send_with_fds(self.stream.as_fd(), bytes, &[]),
            });
            match sent {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    fd = None;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Frames on their way: many small ones go in one system call.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    pub(crate) fn push(&mut self, message: &impl Serialize) -> io::Result<()> {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut self.0, message).map_err(invalid)?;
        let length = self.0.len() - start - 4;
        if length > MAX_FRAME {
            self.0.truncate(start);
            return Err(invalid("frame too long"));
        }
        self.0[start..start + 4].copy_from_slice(&(length as u32).to_be_bytes());
        Ok(())
    }

    /// Whether it is time to send.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= READ
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Connection, Connection) {
        let (a, b) = UnixStream::pair().unwrap();
        (Connection::new(a), Connection::new(b))
    }

    #[tokio::test]
    async fn frames_and_sockets_arrive_in_order() {
        let (agent, mut edge) = pair();
        let sockets: Vec<std::net::UdpSocket> =
            (0..3).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<SocketAddr> =
            sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let sending = async {
            let mut frames = Frames::default();
            for (socket, address) in sockets.iter().zip(&addresses) {
                // Frames before and after, so that sockets are not always at the boundary.
                for _ in 0..100 {
                    frames.push(&ToEdge::Ping).unwrap();
                }
                agent.send_all(&mut frames).await.unwrap();
                let listen = ToEdge::Listen(Listener::DnsUdp(*address));
                agent.send(&listen, Some(socket.as_fd())).await.unwrap();
            }
            drop(agent);
        };
        let receiving = async {
            let mut got = Vec::new();
            let mut pings = 0;
            while let Some(message) = edge.receive::<ToEdge>().await.unwrap() {
                match message {
                    ToEdge::Listen(Listener::DnsUdp(address)) => {
                        let socket = std::net::UdpSocket::from(edge.take_fd().unwrap());
                        assert_eq!(socket.local_addr().unwrap(), address);
                        got.push(address);
                    }
                    ToEdge::Ping => pings += 1,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(pings, 300);
            got
        };
        let ((), got) = tokio::join!(sending, receiving);
        assert_eq!(got, addresses);
    }

    #[tokio::test]
    async fn large_frames_and_small_ones() {
        let (agent, mut edge) = pair();
        let remove = |length: usize| {
            ToEdge::Dns(dns::Update::Remove { namespace: "ns".into(), name: "x".repeat(length) })
        };
        let lengths = [0, 1_000_000, 10, 70_000, 5];
        let sending = async {
            for length in lengths {
                agent.send(&remove(length), None).await.unwrap();
            }
        };
        let receiving = async {
            for length in lengths {
                let Some(ToEdge::Dns(dns::Update::Remove { name, .. })) =
                    edge.receive().await.unwrap()
                else {
                    panic!("another message");
                };
                assert_eq!(name.len(), length);
            }
        };
        tokio::join!(sending, receiving);
        assert!(edge.take_frame().unwrap().is_none());
        assert_eq!(edge.buffer.capacity(), 0);
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection() {
        for bytes in [&[0xff; 8][..], &[0, 0, 0, 2, b'x', b'y'], &[0, 0, 0, 9, b'"']] {
            let (a, b) = UnixStream::pair().unwrap();
            a.try_write(bytes).unwrap();
            drop(a);
            assert!(Connection::new(b).receive::<ToEdge>().await.is_err());
        }
        let (agent, mut edge) = pair();
        agent.send(&ToEdge::Listen(Listener::Control), None).await.unwrap();
        edge.receive::<ToEdge>().await.unwrap();
        assert!(edge.take_fd().is_err());
    }
}
