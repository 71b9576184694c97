//! A node, its pods and a client outside, each in a network namespace of its own. The namespaces
//! have no names and go with the handles on them, also when a test panics or is killed.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use netlink::Netns;
use netlink::rtnl::{Address, LinkChange, Requests, Route, Rtnl, Scope, Veth, VethEnd, Via};
use network::pod::{self, Attachment};
use network::proxy::{Config, Endpoint, Proxy, ServicePort};
use network::{Cidr, host};

pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const CLIENT_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 42, 0, 1);
/// The protocol of routes that an administrator made.
const STATIC: u8 = 4;
/// Long enough for anything that answers, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough to see that nothing answers.
pub const SILENCE: Duration = Duration::from_millis(500);

pub fn cidr(text: &str) -> Cidr {
    text.parse().expect("a network")
}

pub fn at(ip: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ip, port)
}

/// What must not fail, on a thread of the namespace.
pub fn inside<T: Send, E: Debug + Send>(
    netns: &Netns,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> T {
    netns.run(work).expect("enter the namespace").expect("work inside the namespace")
}

pub fn new_netns() -> Netns {
    Netns::create().expect("making a network namespace needs root")
}

/// A path by which the namespace can be opened, as if it were pinned.
pub fn path(netns: &Netns) -> PathBuf {
    format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd()).into()
}

/// A pod: its namespace, attached to the node's.
pub struct TestPod {
    pub netns: Netns,
    pub ip: Ipv4Addr,
    pub uid: String,
}

/// A node with the networks 10.42.0.0/16 and 10.43.0.0/16, and a client on its link outside.
pub struct Node {
    pub netns: Netns,
    pub client: Netns,
}

impl Node {
    pub fn new() -> Self {
        let (netns, client) = (new_netns(), new_netns());
        inside(&netns, || host::prepare(cidr("10.42.0.0/24"), &[cidr("10.43.0.0/16")]));
        inside(&netns, || connect_client(&client));
        Self { netns, client }
    }

    pub fn config() -> Config {
        Config {
            cluster: cidr("10.42.0.0/16"),
            node: cidr("10.42.0.0/24"),
            service_networks: vec![cidr("10.43.0.0/16")],
            held: vec![],
            sections: vec![],
        }
    }

    pub fn proxy(&self, services: Vec<ServicePort>) -> Proxy {
        inside(&self.netns, || Proxy::start(Self::config(), services))
    }

    /// Attaches a pod whose address ends in `n`.
    pub fn pod(&self, n: u8) -> TestPod {
        let (netns, ip, uid) = (new_netns(), [10, 42, 0, n].into(), format!("uid-{n}"));
        let path = path(&netns);
        inside(&self.netns, || {
            pod::attach(&Attachment {
                uid: &uid,
                title: "test/pod",
                netns: &path,
                interface: "eth0",
                address: ip,
                host_address: GATEWAY,
                mtu: 1400,
                settings: &[],
            })
        });
        TestPod { netns, ip, uid }
    }

    /// Takes the default route away.
    pub fn without_default_route(self) -> Self {
        inside(&self.netns, || {
            let mut rtnl = Rtnl::open()?;
            let mut requests = Requests::new();
            if let Some(route) = rtnl.default_route()? {
                requests.delete_route(&route);
            }
            rtnl.execute(&requests)?;
            assert_eq!(rtnl.default_route()?, None);
            netlink::Result::Ok(())
        });
        self
    }

    /// The output of a tool in the node's namespace, to print when a test is looked into.
    pub fn show(&self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        let run = || std::process::Command::new(words[0]).args(&words[1..]).output();
        match self.netns.run(run).expect("enter the namespace") {
            Ok(out) => String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
            Err(e) => format!("{command}: {e}"),
        }
    }
}

/// Runs in the node's namespace.
fn connect_client(client: &Netns) -> netlink::Result<()> {
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    let address = |link, ip: Ipv4Addr| Address {
        link,
        address: ip.into(),
        prefix: 24,
        scope: Scope::Universe,
        label: String::new(),
    };
    let end = VethEnd { name: "ext0", mac: [2, 0, 0, 0, 1, 1], netns: None, group: 0 };
    let netns = Some(client.as_fd());
    let peer = VethEnd { name: "eth0", mac: [2, 0, 0, 0, 1, 2], netns, ..end };
    let mut node = Rtnl::open()?;
    let mut outside = Rtnl::open_in(client)?;
    let mut requests = Requests::new();
    requests.add_veth(&Veth { end, peer, mtu: 1500 });
    node.execute(&requests)?;
    let ext0 = node.link_by_name("ext0")?.index;
    let eth0 = outside.link_by_name("eth0")?.index;
    let mut requests = Requests::new();
    let default = |link, via: Ipv4Addr| {
        let route = Route::on_link(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0, link, STATIC);
        route.via(Via::Gateway(via.into()))
    };
    requests.set_link(ext0, &up).add_address(&address(ext0, NODE_IP));
    requests.add_route(&default(ext0, CLIENT_IP));
    node.execute(&requests)?;
    let mut requests = Requests::new();
    requests.set_link(1, &up).set_link(eth0, &up).add_address(&address(eth0, CLIENT_IP));
    requests.add_route(&default(eth0, NODE_IP));
    outside.execute(&requests)
}

/// A server that tells each client the server's name and the client's address.
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    wake: Box<dyn Fn() -> bool + Send>,
}

impl Server {
    pub fn tcp(netns: &Netns, name: &str, address: SocketAddrV4) -> Self {
        let listener = inside(netns, || TcpListener::bind(address));
        let name = name.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let peer = stream.peer_addr().map(|a| a.ip());
                if let (mut stream, Ok(peer)) = (stream, peer) {
                    let _ = write!(stream, "{name} {peer}");
                }
            }
        });
        let netns = Netns::open(path(netns)).expect("the namespace again");
        let knock = move || TcpStream::connect_timeout(&address.into(), SILENCE);
        let wake = move || matches!(netns.run(knock), Ok(Ok(_)));
        Self { stop, thread: Some(thread), wake: Box::new(wake) }
    }

    pub fn udp(netns: &Netns, name: &str, address: SocketAddrV4) -> Self {
        let socket = inside(netns, || UdpSocket::bind(address));
        let name = name.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
            }
        });
        let netns = Netns::open(path(netns)).expect("the namespace again");
        let wake = move || {
            let knock = || UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", address);
            matches!(netns.run(knock), Ok(Ok(_)))
        };
        Self { stop, thread: Some(thread), wake: Box::new(wake) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // If its address is gone it cannot be woken, and ends with the process.
        if (self.wake)()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// What a TCP server at `address` says to a client in `netns`.
pub fn try_tcp(netns: &Netns, address: SocketAddrV4, patience: Duration) -> io::Result<String> {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(address), patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    netns.run(ask).expect("enter the namespace")
}

pub fn tcp(netns: &Netns, address: SocketAddrV4) -> String {
    try_tcp(netns, address, PATIENCE).unwrap_or_else(|e| panic!("{address}: {e}"))
}

/// Why there is no answer from `address`.
pub fn no_tcp(netns: &Netns, address: SocketAddrV4) -> io::ErrorKind {
    match try_tcp(netns, address, SILENCE) {
        Ok(answer) => panic!("{address} answered {answer:?}"),
        Err(e) => e.kind(),
    }
}

/// The servers that answer `times` clients.
pub fn servers(netns: &Netns, address: SocketAddrV4, times: usize) -> Vec<String> {
    let name = |_| tcp(netns, address).split(' ').next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = (0..times).map(name).collect();
    names.sort();
    names.dedup();
    names
}

/// A UDP client that keeps its port.
pub struct UdpClient(UdpSocket);

impl UdpClient {
    pub fn new(netns: &Netns, address: SocketAddrV4) -> Self {
        Self::bound(netns, Ipv4Addr::UNSPECIFIED, address)
    }

    pub fn bound(netns: &Netns, source: Ipv4Addr, address: SocketAddrV4) -> Self {
        Self(inside(netns, || {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            io::Result::Ok(socket)
        }))
    }

    pub fn ask(&self) -> io::Result<String> {
        let mut buffer = [0; 64];
        self.0.send(b"?")?;
        let length = self.0.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

/// A service at 10.43.0.`n`:80 with these endpoints of this node, at port 8080.
pub fn service(n: u8, endpoints: &[&TestPod]) -> ServicePort {
    ServicePort {
        id: format!("test/service-{n}:http"),
        cluster_ips: vec![[10, 43, 0, n].into()],
        port: 80,
        endpoints: endpoints.iter().map(|p| Endpoint::new(p.ip, 8080, true)).collect(),
        ..ServicePort::default()
    }
}

pub fn cluster_ip(n: u8) -> SocketAddrV4 {
    at([10, 43, 0, n].into(), 80)
}
