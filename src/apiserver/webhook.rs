//! Calls of webhooks: who is asked for admission or conversion is named by a URL or a Service.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    Shared,
    http::client::{Target, Trust, post_json, tls},
    proxy::service::endpoint,
};

/// Sends `body` to the webhook that a `clientConfig` names and reads the answer.
///
/// # Errors
/// Why there is no answer, in words.
pub async fn call(
    server: &Shared,
    config: &Value,
    body: &Value,
    patience: Duration,
) -> Result<Value, String> {
    let target = target(server, config)?;
    let url = match &target.name {
        Some(name) => format!("https://{name}:{}{}", target.port, target.path),
        None => format!("https://{}{}", target.authority(), target.path),
    };
    post_json(&target, body, patience).await.map_err(|why| format!("Post {url:?}: {why}"))
}

fn target(server: &Shared, config: &Value) -> Result<Target, String> {
    let bundle = STANDARD
        .decode(config["caBundle"].as_str().unwrap_or_default())
        .map_err(|error| format!("unable to load root certificates: {error}"))?;
    let tls = tls(&Trust::Authorities(&bundle), None)
        .map_err(|why| format!("unable to load root certificates: {why}"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(url) = config["url"].as_str() {
        let uri: http::Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("{url}: only https is supported"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let port = uri.port_u16().unwrap_or(443);
        return Ok(Target { host, port, name: None, tls: Some(tls), path });
    }
    let service = &config["service"];
    let (namespace, name) = (text(&service["namespace"]), text(&service["name"]));
    let port = service["port"].as_u64().unwrap_or(443).to_string();
    let (host, port) = endpoint(server, &namespace, &name, &port, false).map_err(|s| s.message)?;
    let mut path = text(&service["path"]);
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    Ok(Target { host, port, name: Some(format!("{name}.{namespace}.svc")), tls: Some(tls), path })
}
