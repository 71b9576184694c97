//! Lifecycle hooks: what a container wants done after its start and before its end.

use std::{net::IpAddr, time::Duration};

use client::events::Recorder;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use runtime::Sandbox;

use crate::{
    podspec::{PodExt, pod_reference},
    probes::{HttpGet, http_get, named_ports, resolve_port},
};

/// How long an HTTP hook may take to connect; the answer may take as long as the hook itself.
const CONNECT: Duration = Duration::from_secs(30);

/// What a hook runs in.
pub(crate) struct Target<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) id: &'a str,
    pub(crate) ips: &'a [IpAddr],
    pub(crate) recorder: &'a Recorder,
}

/// Runs a hook to its end. The error is what a failed start reports.
pub(crate) async fn run(target: &Target<'_>, hook: &LifecycleHandler) -> Result<(), String> {
    let place = || {
        format!(
            "for Container {:?} in Pod {:?} failed - error",
            target.container.name,
            target.pod.full_name()
        )
    };
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = format!("[{}]", command.join(" "));
        let failed = |error: String, output: &[u8]| {
            let output = String::from_utf8_lossy(output);
            Err(format!("Exec lifecycle hook ({shown}) {}: {error}, message: {output:?}", place()))
        };
        return match target.sandbox.exec_sync(target.id, command, Duration::ZERO).await {
            Ok(output) if output.code == 0 => Ok(()),
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                let code = output.code;
                failed(format!("command '{}' exited with {code}: ", shown_words(&shown)), &text)
            }
            Err(error) => failed(error.to_string(), &[]),
        };
    }
    if let Some(get) = &hook.http_get {
        let path = get.path.clone().unwrap_or_default();
        let failed = |error: String| format!("HTTP lifecycle hook ({path}) {}: {error}", place());
        let host = match get.host.clone().filter(|host| !host.is_empty()) {
            Some(host) => host,
            None => match target.ips.first() {
                Some(ip) => ip.to_string(),
                None => return Err(failed("failed to find networking container".to_owned())),
            },
        };
        let port = resolve_port(&get.port, &named_ports(target.container)).map_err(failed)?;
        let mut request = HttpGet {
            tls: get.scheme.as_deref() == Some("HTTPS"),
            host,
            port,
            path: path.clone(),
            headers: get
                .http_headers
                .iter()
                .flatten()
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
            agent: "lifecycle",
        };
        let answer = http_get(&request, CONNECT).await;
        // Whoever named HTTPS for a server without TLS is served nevertheless, as upstream does.
        if let (Err(why), true) = (&answer, request.tls)
            && why.contains("corrupt message")
        {
            request.tls = false;
            request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
            if http_get(&request, CONNECT).await.is_ok() {
                let message = format!(
                    "request to HTTPS lifecycle hook {}:{port} got HTTP response, retry with HTTP \
                     succeeded",
                    request.host
                );
                let pod = pod_reference(target.pod);
                target.recorder.warning(&pod, "LifecycleHTTPFallback", message);
                return Ok(());
            }
        }
        return answer.map(drop).map_err(failed);
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err(format!("Cannot run handler: invalid handler: {hook:?}"))
}

fn shown_words(shown: &str) -> &str {
    shown.trim_start_matches('[').trim_end_matches(']')
}
