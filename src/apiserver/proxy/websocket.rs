//! Logs over a WebSocket (RFC 6455): each piece of the log is a message. Nothing is read back but
//! the end of the connection.

use apimachinery::Status;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::debug;

use crate::{
    http::{
        body::{Body, Response},
        client::{self, Target},
    },
    registry::Call,
};

const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

const OP_TEXT: u8 = 1;
const OP_BINARY: u8 = 2;
const OP_CLOSE: u8 = 8;

/// Opens the WebSocket and streams what `target` answers.
pub(super) async fn stream(
    call: &Call<'_>,
    parts: &mut Parts,
    target: Target,
) -> Result<Response, Status> {
    let key = call
        .headers
        .get(header::SEC_WEBSOCKET_KEY)
        .ok_or_else(|| Status::bad_request("only WebSocket upgrades can be had here"))?;
    let protocol = protocol(call.headers);
    let response = client::get(&target, "*/*", HeaderMap::new()).await?;
    if !response.status().is_success() {
        let (head, body) = response.into_parts();
        return Ok(Response::from_parts(head, Body::Proxied(body)));
    }
    let accept = accept(key.as_bytes());
    let upgrade = parts
        .extensions
        .remove::<OnUpgrade>()
        .ok_or_else(|| Status::bad_request("this connection cannot be upgraded"))?;
    let text = protocol == Some(BASE64);
    let stop = call.server.stop.clone();
    tokio::spawn(async move {
        let stream = match upgrade.await {
            Ok(stream) => stream,
            Err(error) => return debug!(%error, "upgrade failed"),
        };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(stream));
        let mut body = response.into_body();
        let write = async {
            while let Some(frame) = body.frame().await {
                let data = frame.map_err(std::io::Error::other)?.into_data().unwrap_or_default();
                let message = if text {
                    message(OP_TEXT, STANDARD.encode(&data).as_bytes())
                } else {
                    message(OP_BINARY, &data)
                };
                to.write_all(&message).await?;
            }
            // Normal closure.
            to.write_all(&message(OP_CLOSE, &1000_u16.to_be_bytes())).await?;
            to.flush().await
        };
        let mut sink = [0; 512];
        let gone = async { while from.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
        tokio::select! {
            result = write => if let Err(error) = result {
                debug!(%error, "log stream ended");
            },
            () = gone => {}
            () = stop.cancelled() => {}
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    Ok(response)
}

/// The first of the offered protocols that is known.
fn protocol(headers: &HeaderMap) -> Option<&'static str> {
    let offered = headers.get_all::<HeaderName>(header::SEC_WEBSOCKET_PROTOCOL).iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|name| [BINARY, BASE64].into_iter().find(|known| *known == name.trim()))
}

fn accept(key: &[u8]) -> String {
    const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(MAGIC);
    STANDARD.encode(context.finish())
}

/// One unmasked message of one frame.
fn message(opcode: u8, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 10);
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => out.push(length as u8),
        length @ 126..=65535 => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_as_the_rfc_says() {
        // The example of RFC 6455, section 1.3.
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&message(OP_BINARY, b"hi")[..], b"\x82\x02hi");
        assert_eq!(&message(OP_BINARY, &[0; 300])[..4], b"\x82\x7e\x01\x2c");
        assert_eq!(&message(OP_TEXT, &[0; 70_000])[..10], b"\x81\x7f\0\0\0\0\0\x01\x11\x70");
    }
}
