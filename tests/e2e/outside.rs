//! Servers of ours on the machine outside the cluster, and connections from there.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use crate::support::Cluster;

/// The machine's address.
pub const ADDRESS: &str = "192.0.2.2";
/// The node's address, as seen from there.
pub const NODE: &str = "192.0.2.1";

/// Does `work` on a thread in the network namespace of the machine outside; the sockets that it
/// makes belong there for good.
pub fn outside<T: Send>(cluster: &Cluster, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(cluster.outside_namespace()).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            linux::namespace::enter(&namespace, libc::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// A connection to a port of the node.
pub fn connect(cluster: &Cluster, port: u16) -> TcpStream {
    let stream = outside(cluster, || TcpStream::connect((NODE, port))).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A datagram socket.
pub fn datagrams(cluster: &Cluster) -> UdpSocket {
    let socket = outside(cluster, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// A request that one of our servers got; header names are in lower case.
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
}

impl Request {
    /// A header's value, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Writes an answer with a body of known length.
pub fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    // The client may be gone.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Serves HTTP/1.1 on the machine outside for as long as the test process lives, one thread a
/// connection; `handle` reads bodies itself. Returns the port.
pub fn serve(
    cluster: &Cluster,
    handle: impl Fn(&Request, &mut BufReader<TcpStream>) + Send + Sync + 'static,
) -> u16 {
    let listener = outside(cluster, || TcpListener::bind((ADDRESS, 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some(request) = read_request(&mut reader) {
                    handle(&request, &mut reader);
                }
            });
        }
    });
    port
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace().map(ToOwned::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Request { method, path, headers })
}

/// Reads a body that comes in chunks or in a known length.
pub fn read_body(request: &Request, reader: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut body = Vec::new();
    if request.header("transfer-encoding") == "chunked" {
        while let Some(chunk) = read_chunk(reader) {
            body.extend(chunk);
        }
    } else if let Ok(length) = request.header("content-length").parse() {
        body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
    }
    body
}

/// Reads one chunk of a body; nothing is its end.
pub fn read_chunk(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let length = usize::from_str_radix(line.trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    reader.read_exact(&mut chunk).unwrap();
    chunk.truncate(length);
    (length > 0).then_some(chunk)
}
