//! Compressed answers: large ones, for clients that ask. Compression is worth its time only on slow
//! links, so the fastest level is taken, and watches go out as they are.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::stream;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;

use crate::http::body::{Body, BoxError, Response};

/// Smaller answers are not compressed; upstream's limit.
const THRESHOLD: u64 = 128 << 10;

/// Whether the client takes gzip.
pub fn wanted(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter();
    accepted.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
        |part| {
            let mut words = part.split(';').map(str::trim);
            words.next() == Some("gzip") && !words.any(|word| word == "q=0")
        },
    )
}

/// Compresses the body of `response` where that is worth it.
pub fn compress(response: Response) -> Response {
    let large = match response.body() {
        // Only large bodies are of unknown length.
        Body::Full(_) | Body::Pieces(_) => {
            http_body::Body::size_hint(response.body()).exact().is_none_or(|n| n >= THRESHOLD)
        }
        Body::Stream(_) | Body::Proxied(_) => false,
    };
    if !large || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let state = Some((body, GzEncoder::new(Vec::new(), Compression::fast())));
    let compressed = stream::unfold(state, |state| async move {
        let (mut body, mut encoder) = state?;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    if let Err(error) = encoder.write_all(&data) {
                        return Some((Err(BoxError::from(error)), None));
                    }
                    let ready = std::mem::take(encoder.get_mut());
                    if !ready.is_empty() {
                        return Some((Ok(Bytes::from(ready)), Some((body, encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => {
                    let end = encoder.finish().map(Bytes::from).map_err(BoxError::from);
                    return Some((end, None));
                }
            }
        }
    });
    Response::from_parts(parts, Body::stream(compressed))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn large_answers_are_compressed_and_come_back_whole() {
        let text = "x,y".repeat(THRESHOLD as usize);
        let response = compress(Response::new(Body::from(text.clone())));
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.len() < text.len() / 10);
        let mut back = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
    }

    #[test]
    fn small_answers_and_other_clients_get_them_plain() {
        let response = compress(Response::new(Body::from("small")));
        assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
        let mut headers = HeaderMap::new();
        assert!(!wanted(&headers));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0"));
        assert!(!wanted(&headers));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("deflate, gzip"));
        assert!(wanted(&headers));
    }
}
