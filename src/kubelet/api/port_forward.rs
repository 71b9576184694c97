//! Connections to ports of pods: over SPDY, over SPDY inside of a WebSocket, or over plain channels
//! of a WebSocket. Whatever carries them, each goes to `localhost` as the pod sees it.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use netlink::Netns;
use runtime::Sandbox;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tracing::debug;

use super::{
    server::{Answer, Query, Server, text},
    spdy::{self, Session, Stream},
    websocket::{self, Received},
};
use crate::podspec::PodExt;

/// The protocol above SPDY.
const PROTOCOL: &str = "portforward.k8s.io";
/// A WebSocket that carries SPDY.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// How long a port may take to answer.
const CONNECT: Duration = Duration::from_secs(30);
/// Bytes passed on at a time.
const CHUNK: usize = 32 << 10;

/// A pod whose ports are to be reached.
#[derive(Clone)]
struct Destination {
    /// None on the host's network.
    netns: Option<PathBuf>,
    pod: String,
    uid: String,
}

pub(super) async fn serve(
    server: &Server,
    pod: Pod,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let Some(sandbox) = server.shared.runtime.sandbox(pod.uid()) else {
        return text(StatusCode::NOT_FOUND, "pod does not run");
    };
    let destination = Destination {
        netns: Sandbox::netns_path(&sandbox),
        pod: pod.full_name(),
        uid: pod.uid().to_owned(),
    };
    let headers = request.headers().clone();
    if websocket::wanted(&headers) {
        return over_websocket(server, destination, query, request);
    }
    if !spdy::wanted(&headers) {
        return text(StatusCode::BAD_REQUEST, "Upgrade request required");
    }
    if spdy::negotiate(&headers, &[PROTOCOL]).is_none() {
        return spdy::refuse(&[PROTOCOL]);
    }
    server.tasks.spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => {
                over_spdy(&destination, Session::start(TokioIo::new(upgraded))).await;
            }
            Err(error) => debug!(%error, "connection not upgraded"),
        }
    });
    spdy::accept(PROTOCOL)
}

impl Destination {
    /// Connects to a port.
    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let netns = self.netns.clone();
        let connect = move || {
            let of = |address: SocketAddr| std::net::TcpStream::connect_timeout(&address, CONNECT);
            let either = || {
                of((Ipv4Addr::LOCALHOST, port).into())
                    .or_else(|error| of((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))
            };
            let stream = match netns {
                Some(path) => Netns::open(path)?.run(either)??,
                None => either()?,
            };
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let connected = tokio::task::spawn_blocking(connect).await;
        TcpStream::from_std(connected.unwrap_or_else(|error| Err(io::Error::other(error)))?)
    }

    fn failure(&self, port: u16, error: &io::Error) -> String {
        format!(
            "error forwarding port {port} to pod {}, uid {}: failed to connect to \
             localhost:{port} inside of the pod's network namespace: {error}",
            self.pod, self.uid
        )
    }
}

/// One connection: a stream for data, one for what went wrong.
#[derive(Default)]
struct Pair {
    data: Option<Stream>,
    error: Option<Stream>,
}

async fn over_spdy(destination: &Destination, mut session: Session) {
    let mut waiting: HashMap<String, Pair> = HashMap::new();
    while let Some(stream) = session.next().await {
        let data = match stream.header("streamtype") {
            Some("data") => true,
            Some("error") => false,
            other => {
                debug!(kind = other, "unexpected stream");
                stream.writer.abandon().await;
                continue;
            }
        };
        // Old clients do not number their requests, but open the two streams in this order.
        let number = stream.id.saturating_sub(if data { 2 } else { 0 }).to_string();
        let request = stream.header("requestid").unwrap_or(&number).to_owned();
        let pair = waiting.entry(request.clone()).or_default();
        *if data { &mut pair.data } else { &mut pair.error } = Some(stream);
        if let Some(Pair { data: Some(data), error: Some(error) }) = waiting
            .get_mut(&request)
            .filter(|pair| pair.data.is_some() && pair.error.is_some())
            .map(std::mem::take)
        {
            waiting.remove(&request);
            let destination = destination.clone();
            tokio::spawn(async move { forward(&destination, data, error).await });
        }
    }
    session.close().await;
}

async fn forward(destination: &Destination, data: Stream, mut error: Stream) {
    let port = data.header("port").and_then(|port| port.parse::<u16>().ok());
    let connected = match port.filter(|port| *port > 0) {
        Some(port) => {
            let failure = |error| destination.failure(port, &error);
            destination.connect(port).await.map_err(failure)
        }
        None => Err("\"port\" header must be a number between 1 and 65535".to_owned()),
    };
    match connected {
        Ok(mut connection) => {
            let Stream { mut reader, mut writer, .. } = data;
            let (mut from, mut to) = connection.split();
            let outgoing = async {
                while let Some(bytes) = reader.next().await {
                    if to.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                let _ = to.shutdown().await;
            };
            let incoming = async {
                let mut buffer = vec![0; CHUNK];
                while let Ok(count @ 1..) = from.read(&mut buffer).await {
                    if writer.write(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
                writer.finish().await;
            };
            tokio::join!(outgoing, incoming);
        }
        Err(why) => {
            // The client reads this to its end before it looks at the data.
            let _ = error.writer.write(why.as_bytes()).await;
            data.writer.finish().await;
        }
    }
    error.writer.finish().await;
}

fn over_websocket(
    server: &Server,
    destination: Destination,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let headers = request.headers().clone();
    if websocket::offered(&headers).iter().any(|name| name == TUNNEL) {
        server.tasks.spawn(async move {
            if let Some(socket) = websocket::open(request).await {
                over_spdy(&destination, Session::start(websocket::tunnel(socket))).await;
            }
        });
        return websocket::accept(&headers, TUNNEL);
    }
    let ports: Result<Vec<u16>, _> = query
        .all("port")
        .iter()
        .chain(&query.all("ports"))
        .flat_map(|ports| ports.split(','))
        .map(str::parse)
        .collect();
    let ports = match ports {
        Ok(ports) if ports.is_empty() => {
            return text(StatusCode::BAD_REQUEST, "query parameter \"port\" is required");
        }
        // Each port has two channels, and a channel's number is a byte.
        Ok(ports) if ports.contains(&0) || ports.len() > 127 => {
            return text(StatusCode::BAD_REQUEST, "ports have to be 1 to 65535, 127 at most");
        }
        Ok(ports) => ports,
        Err(error) => {
            return text(StatusCode::BAD_REQUEST, format!("unable to parse port: {error}"));
        }
    };
    let Some(protocol) = websocket::negotiate(&headers) else {
        return text(StatusCode::FORBIDDEN, "unable to upgrade: no protocol known");
    };
    server.tasks.spawn(async move {
        if let Some(socket) = websocket::open(request).await {
            over_channels(destination, ports, websocket::split(socket, protocol)).await;
        }
    });
    websocket::accept(&headers, protocol.name)
}

/// Channel 2n carries the data of port n, channel 2n+1 what went wrong. The first message of each
/// is the number of its port.
async fn over_channels(
    destination: Destination,
    ports: Vec<u16>,
    (mut reader, mut writer): (websocket::Reader, websocket::Writer),
) {
    let (out, mut outgoing) = mpsc::channel::<(u8, Vec<u8>)>(16);
    let mut inputs = Vec::new();
    for (channel, port) in (0u8..).step_by(2).zip(ports) {
        for channel in [channel, channel + 1] {
            if writer.send(channel, &port.to_le_bytes()).await.is_err() {
                return;
            }
        }
        let (input, data) = mpsc::channel(16);
        inputs.push(input);
        tokio::spawn(channel_to_port(destination.clone(), port, channel, data, out.clone()));
    }
    drop(out);
    loop {
        tokio::select! {
            message = outgoing.recv() => match message {
                Some((channel, data)) => if writer.send(channel, &data).await.is_err() { return },
                // All connections have ended.
                None => break,
            },
            received = reader.next() => match received {
                Some(Received::Data(channel, data)) if channel % 2 == 0 => {
                    if let Some(input) = inputs.get(usize::from(channel / 2)) {
                        let _ = input.send(data).await;
                    }
                }
                Some(_) => {}
                None => return,
            },
        }
    }
    writer.close().await;
}

async fn channel_to_port(
    destination: Destination,
    port: u16,
    channel: u8,
    mut data: mpsc::Receiver<bytes::Bytes>,
    out: mpsc::Sender<(u8, Vec<u8>)>,
) {
    let mut connection = match destination.connect(port).await {
        Ok(connection) => connection,
        Err(error) => {
            let why = destination.failure(port, &error);
            let _ = out.send((channel + 1, why.into_bytes())).await;
            return;
        }
    };
    let (mut from, mut to) = connection.split();
    let outgoing = async {
        while let Some(bytes) = data.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let incoming = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if out.send((channel, buffer[..count].to_vec())).await.is_err() {
                return;
            }
        }
    };
    // These clients cannot close one direction alone.
    tokio::select! {
        () = outgoing => {}
        () = incoming => {}
    }
}
