//! The sockets: UDP datagrams and TCP streams (RFC 7766) of one resolver.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::resolver::{Reply, Resolver, Transport};

/// Longer questions do not exist.
const MAX_PACKET: usize = 4096;
/// Datagrams that are answered before other tasks have their turn.
const BATCH: usize = 64;
/// Clients connected at the same time.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may be silent, and how long a question may take to arrive.
const IDLE: Duration = Duration::from_secs(10);
/// Answers of one connection that may wait to be written.
const PIPELINE: usize = 16;
/// How long accepting pauses when there are no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Answers datagrams until `stop` completes, then finishes those that wait for an answer.
///
/// The socket has to be bound to the very address that clients ask: an answer from another one,
/// as a wildcard socket would send it, is not accepted.
pub async fn serve_udp(resolver: Arc<Resolver>, socket: UdpSocket, stop: impl Future<Output = ()>) {
    let socket = Arc::new(socket);
    let mut pending = JoinSet::new();
    let mut stop = pin!(stop);
    let mut packet = vec![0; MAX_PACKET];
    loop {
        let ready = tokio::select! {
            ready = socket.readable() => ready,
            Some(_) = pending.join_next() => continue,
            () = &mut stop => break,
        };
        if let Err(error) = ready {
            tracing::error!(%error, "dns socket failed");
            break;
        }
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut packet) {
                Ok((length, client)) => {
                    answer_datagram(&resolver, &socket, &packet[..length], client, &mut pending);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An earlier answer could not be delivered, as ICMP has told.
                Err(error) => tracing::debug!(%error, "dns receive failed"),
            }
        }
        tokio::task::yield_now().await;
    }
    while pending.join_next().await.is_some() {}
}

fn answer_datagram(
    resolver: &Resolver,
    socket: &Arc<UdpSocket>,
    packet: &[u8],
    client: SocketAddr,
    pending: &mut JoinSet<()>,
) {
    match resolver.handle(packet, Transport::Udp) {
        // When the send queue is full the answer is lost, as datagrams are.
        Reply::Now(answer) => drop(socket.try_send_to(&answer, client)),
        Reply::Later(later) => {
            let socket = socket.clone();
            pending.spawn(async move {
                let answer = later.finish().await;
                let _lost = socket.send_to(&answer, client).await;
            });
        }
        Reply::Never => {}
    }
}

/// Answers connections until `stop` completes, then finishes those that wait for an answer.
pub async fn serve_tcp(
    resolver: Arc<Resolver>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // One too many is closed at once: it would wait in vain otherwise.
                let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
                let resolver = resolver.clone();
                let mut stopped = stopped.clone();
                connections.spawn(async move {
                    let stop = async move {
                        let _stopping = stopped.wait_for(|stopping| *stopping).await;
                    };
                    serve_connection(resolver, stream, stop).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "dns accept failed");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
    let _nobody = stopping.send(true);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    resolver: Arc<Resolver>,
    stream: TcpStream,
    stop: impl Future<Output = ()>,
) {
    let (mut reader, writer) = stream.into_split();
    let (answers, queue) = mpsc::channel(PIPELINE);
    let writing = tokio::spawn(write_answers(writer, queue));
    let mut stop = pin!(stop);
    loop {
        let packet = tokio::select! {
            packet = timeout(IDLE, read_packet(&mut reader)) => packet,
            () = answers.closed() => break,
            () = &mut stop => break,
        };
        let Ok(Ok(packet)) = packet else { break };
        match resolver.handle(&packet, Transport::Tcp) {
            Reply::Now(answer) => {
                if answers.send(answer).await.is_err() {
                    break;
                }
            }
            Reply::Later(later) => {
                // The slot is taken before the question is asked: a client that sends without
                // reading is stopped here.
                let Ok(slot) = answers.clone().reserve_owned().await else { break };
                tokio::spawn(async move {
                    slot.send(later.finish().await);
                });
            }
            Reply::Never => break,
        }
    }
    drop(answers);
    let _written = writing.await;
}

async fn read_packet(reader: &mut OwnedReadHalf) -> io::Result<Vec<u8>> {
    let length = usize::from(reader.read_u16().await?);
    if length > MAX_PACKET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "question too long"));
    }
    let mut packet = vec![0; length];
    reader.read_exact(&mut packet).await?;
    Ok(packet)
}

async fn write_answers(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(answer) = queue.recv().await {
        let Ok(length) = u16::try_from(answer.len()) else { break };
        let mut framed = Vec::with_capacity(2 + answer.len());
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        match timeout(IDLE, writer.write_all(&framed)).await {
            Ok(Ok(())) => {}
            _ => break,
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
