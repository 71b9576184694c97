//! What a request does, read off its method, path and query. The rules are those of upstream's
//! `RequestInfoFactory`; authorization and routing both work on the result.

use http::Method;

use crate::{http::query::Query, request::RequestInfo};

/// The last parts of a path that [`RequestInfo`] does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// What follows the subresource, without a leading slash: the path of a proxied request.
    pub path: String,
    /// Whether the path started with the deprecated `/watch/` prefix.
    pub watch_prefix: bool,
}

/// Reads `path` (already percent-decoded).
pub fn request_info(method: &Method, path: &str, query: &Query<'_>) -> (RequestInfo, Rest) {
    let mut info = RequestInfo {
        verb: method.as_str().to_ascii_lowercase(),
        path: path.to_owned(),
        ..RequestInfo::default()
    };
    let mut rest = Rest::default();
    let trimmed = path.trim_matches('/');
    let mut parts = trimmed.split('/');
    let grouped = match parts.next() {
        Some("api") => false,
        Some("apis") => true,
        _ => return (info, rest),
    };
    let group = if grouped { parts.next() } else { Some("") };
    let (Some(group), Some(version), Some(mut part)) = (group, parts.next(), parts.next()) else {
        return (info, rest);
    };
    info.is_resource = true;
    group.clone_into(&mut info.group);
    version.clone_into(&mut info.version);

    let verb = match (part, method) {
        ("watch" | "proxy", _) => {
            let verb = part;
            let Some(next) = parts.next() else {
                verb.clone_into(&mut info.verb);
                return (info, rest);
            };
            part = next;
            rest.watch_prefix = verb == "watch";
            verb
        }
        (_, &Method::POST) => "create",
        (_, &Method::GET | &Method::HEAD) => "get",
        (_, &Method::PUT) => "update",
        (_, &Method::PATCH) => "patch",
        (_, &Method::DELETE) => "delete",
        _ => "",
    };

    part.clone_into(&mut info.resource);
    if part == "namespaces"
        && let Some(namespace) = parts.next()
    {
        namespace.clone_into(&mut info.namespace);
        // `/namespaces/NS/status` is a subresource of the namespace, `/namespaces/NS/pods` is not.
        match parts.next() {
            None => namespace.clone_into(&mut info.name),
            Some(sub @ ("status" | "finalize")) => {
                namespace.clone_into(&mut info.name);
                sub.clone_into(&mut info.subresource);
            }
            Some(resource) => {
                resource.clone_into(&mut info.resource);
                parts.next().unwrap_or_default().clone_into(&mut info.name);
                parts.next().unwrap_or_default().clone_into(&mut info.subresource);
            }
        }
    } else if part != "namespaces" {
        parts.next().unwrap_or_default().clone_into(&mut info.name);
        parts.next().unwrap_or_default().clone_into(&mut info.subresource);
    }
    rest.path = parts.collect::<Vec<_>>().join("/");
    if !rest.path.is_empty() && path.ends_with('/') {
        rest.path.push('/');
    }

    verb.clone_into(&mut info.verb);
    if info.name.is_empty() {
        match verb {
            "get" => {
                let watch = query.get("watch").is_some_and(|value| !matches!(value, "false" | "0"));
                info.verb = if watch { "watch" } else { "list" }.to_owned();
                if let Some(name) = query.get("fieldSelector").and_then(exact_name) {
                    info.name = name;
                }
            }
            "delete" => "deletecollection".clone_into(&mut info.verb),
            _ => {}
        }
    }
    if !rest.watch_prefix && matches!(&*info.verb, "list" | "watch" | "deletecollection") {
        let owned = |key| query.get(key).map(ToOwned::to_owned);
        info.selectors = (owned("labelSelector"), owned("fieldSelector"));
    }
    (info, rest)
}

/// The name that a field selector pins with `metadata.name=NAME`: a list of it is authorized like a
/// get of it.
pub(crate) fn exact_name(selector: &str) -> Option<String> {
    let mut found = None;
    for term in selector.split(',') {
        let (key, value) = term.split_once("==").or_else(|| term.split_once('='))?;
        if key == "metadata.name" {
            found = Some(value);
        }
    }
    let name = found?;
    let segment = !name.is_empty() && !matches!(name, "." | "..") && !name.contains(['/', '%']);
    segment.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: Method, uri: &str) -> (RequestInfo, Rest) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        request_info(&method, path, &Query::parse(query))
    }

    #[test]
    fn reads_resource_paths_as_upstream_does() {
        // (method, path, verb, group, version, namespace, resource, subresource, name)
        let cases = [
            ("GET", "/api/v1/pods", "list", "", "v1", "", "pods", "", ""),
            ("GET", "/api/v1/namespaces", "list", "", "v1", "", "namespaces", "", ""),
            ("GET", "/api/v1/namespaces/a", "get", "", "v1", "a", "namespaces", "", "a"),
            (
                "PUT",
                "/api/v1/namespaces/a/status",
                "update",
                "",
                "v1",
                "a",
                "namespaces",
                "status",
                "a",
            ),
            (
                "PUT",
                "/api/v1/namespaces/a/finalize",
                "update",
                "",
                "v1",
                "a",
                "namespaces",
                "finalize",
                "a",
            ),
            ("GET", "/api/v1/namespaces/a/pods", "list", "", "v1", "a", "pods", "", ""),
            ("HEAD", "/api/v1/namespaces/a/pods/p", "get", "", "v1", "a", "pods", "", "p"),
            (
                "POST",
                "/api/v1/namespaces/a/pods/p/exec",
                "create",
                "",
                "v1",
                "a",
                "pods",
                "exec",
                "p",
            ),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection",
                "apps",
                "v1",
                "a",
                "deployments",
                "",
                "",
            ),
            (
                "PATCH",
                "/apis/apps/v1/namespaces/a/deployments/d",
                "patch",
                "apps",
                "v1",
                "a",
                "deployments",
                "",
                "d",
            ),
            (
                "GET",
                "/apis/apps/v1/deployments?watch=1",
                "watch",
                "apps",
                "v1",
                "",
                "deployments",
                "",
                "",
            ),
            (
                "GET",
                "/apis/apps/v1/deployments?watch=false",
                "list",
                "apps",
                "v1",
                "",
                "deployments",
                "",
                "",
            ),
            ("GET", "/api/v1/watch/namespaces/a/pods", "watch", "", "v1", "a", "pods", "", ""),
            (
                "GET",
                "/api/v1/nodes?fieldSelector=metadata.name%3Dn",
                "list",
                "",
                "v1",
                "",
                "nodes",
                "",
                "n",
            ),
        ];
        for (method, uri, verb, group, version, namespace, resource, subresource, name) in cases {
            let (info, _) = info(method.parse().unwrap(), uri);
            assert!(info.is_resource, "{uri}");
            let got = [
                &info.verb,
                &info.group,
                &info.version,
                &info.namespace,
                &info.resource,
                &info.subresource,
                &info.name,
            ];
            let want = [verb, group, version, namespace, resource, subresource, name];
            assert_eq!(got.map(String::as_str), want, "{method} {uri}");
        }
    }

    #[test]
    fn other_paths_are_not_resources() {
        for path in ["/", "", "/healthz", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "//"] {
            let (info, _) = info(Method::GET, path);
            assert!(!info.is_resource && info.verb == "get", "{path}");
        }
    }

    #[test]
    fn keeps_the_path_behind_a_proxy() {
        let (info, rest) = info(Method::GET, "/api/v1/nodes/n/proxy/logs/a/");
        assert_eq!((info.subresource.as_str(), rest.path.as_str()), ("proxy", "logs/a/"));
    }
}
