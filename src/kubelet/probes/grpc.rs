//! Probes that call grpc.health.v1.Health/Check.
//!
//! The two messages are small enough to be written by hand: a request is one string field, an
//! answer one enum.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Outcome, net};

const SERVING: u64 = 1;
const UNIMPLEMENTED: &str = "12";

pub(super) async fn probe(host: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    let address = net::authority(host, port);
    let limit = timeout.as_secs();
    let stream = match net::connect(host, port, timeout).await {
        Ok(stream) => stream,
        Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {limit}s: context deadline \
                 exceeded"
            ));
        }
    };
    match tokio::time::timeout(timeout, call(stream, &address, service)).await {
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {limit}s")),
        Ok(Err(text)) => Outcome::Failure(text),
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!(
            "service unhealthy (responded with {:?})",
            match status {
                0 => "UNKNOWN",
                2 => "NOT_SERVING",
                3 => "SERVICE_UNKNOWN",
                _ => "?",
            }
        )),
    }
}

async fn call(
    stream: tokio::net::TcpStream,
    authority: &str,
    service: &str,
) -> Result<u64, String> {
    let failed = |text: String| format!("error: health rpc probe failed: {text}");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| failed(error.to_string()))?;
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .header(http::header::USER_AGENT, "kube-probe/1.37")
        .body(Full::new(encode(service)))
        .map_err(|error| failed(error.to_string()))?;
    let work = async {
        let response =
            sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let headers = response.headers().clone();
        let body = Limited::new(response.into_body(), 4 << 10)
            .collect()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let field = |name: &str| {
            trailers
                .get(name)
                .or_else(|| headers.get(name))
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        let message = field("grpc-message");
        match field("grpc-status").as_str() {
            "0" => Ok(decode(&body.to_bytes())),
            UNIMPLEMENTED => Err(format!(
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): {message}"
            )),
            code => Err(failed(format!("rpc error: code = {code} desc = {message}"))),
        }
    };
    tokio::pin!(work);
    let mut connection = std::pin::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut work => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

/// A HealthCheckRequest with its gRPC frame header.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(0));
    frame.put(message);
    frame.freeze()
}

/// The `status` field of a HealthCheckResponse; zero, its default, when absent.
fn decode(frame: &[u8]) -> u64 {
    match frame.get(5..) {
        Some([0x08, status, ..]) => u64::from(*status),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(&encode("")[..], &[0, 0, 0, 0, 0]);
        assert_eq!(&encode("ab")[..], &[0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(encode(&"x".repeat(200))[5..8], [0x0a, 0xc8, 0x01]);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), 1);
        assert_eq!(decode(&[0, 0, 0, 0, 0]), 0);
    }
}
