//! Streams over one WebSocket connection: every message begins with the number of its channel. The
//! protocols are those of Kubernetes' remote commands and port-forwards.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::server::{Answer, text};

/// Protocols in which each message names its channel, those with the most features first.
const CHANNELS: [&str; 5] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
/// The number of a message of v5 that closes the channel named after it.
const CLOSE: u8 = 255;
/// Bytes of a tunnel that may wait.
const TUNNEL: usize = 32 << 10;

/// What was agreed with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: &'static str,
}

impl Protocol {
    fn base64(self) -> bool {
        self.name.contains("base64")
    }

    /// Whether the end of a command is told as a Status.
    pub(super) fn tells_status(self) -> bool {
        self.name.starts_with('v')
    }
}

/// Whether a request wants a WebSocket.
pub(super) fn wanted(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// The protocols that a client offers, in its order.
pub(super) fn offered(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|part| part.trim().to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

/// Agrees on a protocol with channels. A client that offers none speaks the oldest.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<Protocol> {
    let offered = offered(headers);
    if offered.is_empty() {
        return Some(Protocol { name: "" });
    }
    let known = |name: &String| CHANNELS.iter().find(|known| *known == name);
    offered.iter().find_map(known).map(|name| Protocol { name })
}

/// The answer that accepts a WebSocket.
pub(super) fn accept(headers: &HeaderMap, protocol: &str) -> Answer {
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::BAD_REQUEST, "missing Sec-WebSocket-Key");
    };
    let mut builder = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
    if !protocol.is_empty() {
        builder = builder.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    match builder.body(Empty::<Bytes>::new().boxed()) {
        Ok(answer) => answer,
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// An accepted connection.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The connection of an accepted request.
pub(super) async fn open(request: Request<Incoming>) -> Option<Socket> {
    match hyper::upgrade::on(request).await {
        Ok(upgraded) => {
            Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await)
        }
        Err(error) => {
            tracing::debug!(%error, "connection not upgraded");
            None
        }
    }
}

/// A connection whose messages are but pieces of a stream of bytes.
pub(super) fn tunnel(socket: Socket) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(TUNNEL);
    tokio::spawn(async move {
        let (mut to_client, mut from_client) = socket.split();
        let (mut reader, mut writer) = tokio::io::split(theirs);
        let incoming = async {
            while let Some(Ok(message)) = from_client.next().await {
                let written = match message {
                    Message::Binary(bytes) => writer.write_all(&bytes).await,
                    Message::Close(_) => break,
                    _ => Ok(()),
                };
                if written.is_err() {
                    break;
                }
            }
            let _ = writer.shutdown().await;
        };
        let outgoing = async {
            let mut buffer = vec![0; TUNNEL];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                let message = Message::binary(buffer[..count].to_vec());
                if to_client.send(message).await.is_err() {
                    return;
                }
            }
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            let _ = to_client.send(Message::Close(Some(frame))).await;
        };
        tokio::join!(incoming, outgoing);
    });
    ours
}

/// What a client sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Data(u8, Bytes),
    /// No more data will come on a channel.
    Closed(u8),
}

/// The reading half.
pub(super) struct Reader {
    socket: SplitStream<Socket>,
    protocol: Protocol,
}

/// The writing half.
pub(super) struct Writer {
    socket: SplitSink<Socket, Message>,
    protocol: Protocol,
}

/// Splits a connection.
pub(super) fn split(socket: Socket, protocol: Protocol) -> (Reader, Writer) {
    let (writer, reader) = socket.split();
    (Reader { socket: reader, protocol }, Writer { socket: writer, protocol })
}

impl Reader {
    /// The next message with a channel; `None` when the client is gone.
    pub(super) async fn next(&mut self) -> Option<Received> {
        loop {
            let bytes = match self.socket.next().await?.ok()? {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text.as_bytes().to_vec()),
                Message::Close(_) => return None,
                _ => continue,
            };
            if let Some(received) = decode(self.protocol, bytes) {
                return Some(received);
            }
        }
    }
}

fn decode(protocol: Protocol, mut bytes: Bytes) -> Option<Received> {
    if bytes.is_empty() {
        return None;
    }
    let channel = bytes.split_to(1)[0];
    if protocol.base64() {
        let data = STANDARD.decode(&bytes).ok()?;
        return Some(Received::Data(channel.checked_sub(b'0')?, Bytes::from(data)));
    }
    if channel == CLOSE && protocol.name.starts_with("v5") {
        return Some(Received::Closed(*bytes.first()?));
    }
    Some(Received::Data(channel, bytes))
}

fn encode(protocol: Protocol, channel: u8, data: &[u8]) -> Message {
    if protocol.base64() {
        let mut text = String::with_capacity(data.len() * 4 / 3 + 8);
        text.push(char::from(b'0' + channel));
        STANDARD.encode_string(data, &mut text);
        return Message::text(text);
    }
    let mut message = Vec::with_capacity(data.len() + 1);
    message.push(channel);
    message.extend_from_slice(data);
    Message::binary(message)
}

impl Writer {
    /// Sends data on a channel.
    pub(super) async fn send(&mut self, channel: u8, data: &[u8]) -> Result<(), Error> {
        self.socket.send(encode(self.protocol, channel, data)).await
    }

    /// Ends the connection in order.
    pub(super) async fn close(mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        // The client may have gone first.
        let _ = self.socket.send(Message::Close(Some(frame))).await;
        let _ = self.socket.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for protocol in protocols {
            let value = protocol.parse().unwrap();
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        headers
    }

    #[test]
    fn protocols_are_agreed_on() {
        let agreed = |protocols: &[&str]| negotiate(&headers(protocols)).map(|p| p.name);
        assert_eq!(agreed(&["v5.channel.k8s.io"]), Some("v5.channel.k8s.io"));
        assert_eq!(agreed(&["new, v4.channel.k8s.io"]), Some("v4.channel.k8s.io"));
        assert_eq!(agreed(&["new", "channel.k8s.io"]), Some("channel.k8s.io"));
        assert_eq!(agreed(&[]), Some(""));
        assert_eq!(agreed(&["new"]), None);
    }

    #[test]
    fn messages_name_their_channel() {
        let plain = Protocol { name: "v5.channel.k8s.io" };
        let base64 = Protocol { name: "base64.channel.k8s.io" };
        assert_eq!(encode(plain, 1, b"ab"), Message::binary(vec![1, b'a', b'b']));
        assert_eq!(encode(base64, 1, b"ab"), Message::text("1YWI="));
        let data = Received::Data(0, Bytes::from_static(b"ab"));
        assert_eq!(decode(base64, Bytes::from_static(b"0YWI=")), Some(data));
        assert_eq!(decode(plain, Bytes::from_static(&[255, 0])), Some(Received::Closed(0)));
    }
}
