use super::*;
use crate::model::{Path, Rule};

fn backend(service: &str) -> Backend {
    Backend { service: service.into(), port: PortRef::Number(80) }
}

/// `Exact:/a` or a prefix, and the service behind it.
fn path((path, service): &(&str, &str)) -> Path {
    let (kind, path) = match path.strip_prefix("Exact:") {
        Some(path) => (PathKind::Exact, path),
        None => (PathKind::Prefix, *path),
    };
    Path { path: path.into(), kind, backend: backend(service) }
}

fn rule(host: &str, paths: &[(&str, &str)]) -> Rule {
    Rule { host: host.into(), paths: paths.iter().map(path).collect() }
}

fn ingress(name: &str, created: i64, rules: Vec<Rule>, default: Option<&str>) -> Ingress {
    Ingress {
        namespace: "ns".into(),
        name: name.into(),
        created,
        rules,
        default_backend: default.map(backend),
        tls: vec![],
    }
}

fn find<'a>(router: &'a Router, host: &str, path: &str) -> Option<&'a str> {
    router.find(host, path).map(|target| target.service.strip_prefix("ns/").unwrap())
}

#[test]
fn paths_as_in_the_documentation() {
    // https://kubernetes.io/docs/concepts/services-networking/ingress/#examples
    let cases: &[(&[&str], &str, Option<&str>)] = &[
        (&["/"], "/any/path", Some("/")),
        (&["Exact:/foo"], "/foo", Some("Exact:/foo")),
        (&["Exact:/foo"], "/bar", None),
        (&["Exact:/foo"], "/foo/", None),
        (&["Exact:/foo/"], "/foo", None),
        (&["/foo"], "/foo", Some("/foo")),
        (&["/foo"], "/foo/", Some("/foo")),
        (&["/foo/"], "/foo", Some("/foo/")),
        (&["/foo/"], "/foo/", Some("/foo/")),
        (&["/aaa/bb"], "/aaa/bbb", None),
        (&["/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
        (&["/aaa/bbb/"], "/aaa/bbb", Some("/aaa/bbb/")),
        (&["/aaa/bbb"], "/aaa/bbb/", Some("/aaa/bbb")),
        (&["/aaa/bbb"], "/aaa/bbb/ccc", Some("/aaa/bbb")),
        (&["/aaa/bbb"], "/aaa/bbbxyz", None),
        (&["/", "/aaa"], "/aaa/ccc", Some("/aaa")),
        (&["/", "/aaa", "/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
        (&["/", "/aaa", "/aaa/bbb"], "/ccc", Some("/")),
        (&["/aaa"], "/ccc", None),
        (&["/foo", "Exact:/foo"], "/foo", Some("Exact:/foo")),
        (&["/foo", "Exact:/foo"], "/foo/", Some("/foo")),
        (&["/foo"], "/FOO", None),
        (&["/foo"], "/foo//bar", Some("/foo")),
        (&["/foo"], "//foo", None),
        (&["/"], "/", Some("/")),
        (&["Exact:/"], "/", Some("Exact:/")),
        (&["Exact:/"], "/x", None),
        (&["/a"], "*", None),
    ];
    for (paths, request, expected) in cases {
        let mut router = Router::default();
        let paths: Vec<(&str, &str)> = paths.iter().map(|path| (*path, *path)).collect();
        router.upsert(ingress("i", 0, vec![rule("", &paths)], None));
        assert_eq!(find(&router, "x", request), *expected, "{paths:?} {request}");
    }
}

#[test]
fn hosts_as_in_the_documentation() {
    let cases = [
        ("*.foo.com", "bar.foo.com", true),
        ("*.foo.com", "baz.bar.foo.com", false),
        ("*.foo.com", "foo.com", false),
        ("foo.com", "foo.com", true),
        ("foo.com", "bar.foo.com", false),
        ("", "foo.com", true),
        ("", "", true),
        ("foo.com", "", false),
    ];
    for (host, request, expected) in cases {
        let mut router = Router::default();
        router.upsert(ingress("i", 0, vec![rule(host, &[("/", "s")])], None));
        assert_eq!(find(&router, request, "/").is_some(), expected, "{host} {request}");
    }
}

#[test]
fn the_more_exact_host_comes_first() {
    let mut router = Router::default();
    let rules = vec![
        rule("", &[("/a/b/c", "any"), ("/", "any")]),
        rule("*.foo.com", &[("/a/b", "wildcard"), ("/w", "wildcard")]),
        rule("bar.foo.com", &[("/a", "own")]),
    ];
    router.upsert(ingress("i", 0, rules, None));
    assert_eq!(find(&router, "bar.foo.com", "/a/b/c"), Some("own"));
    assert_eq!(find(&router, "bar.foo.com", "/w"), Some("wildcard"));
    assert_eq!(find(&router, "bar.foo.com", "/x"), Some("any"));
    assert_eq!(find(&router, "baz.foo.com", "/a/b/c"), Some("wildcard"));
    assert_eq!(find(&router, "baz.foo.com", "/a"), Some("any"));
}

#[test]
fn default_backends() {
    let mut router = Router::default();
    assert_eq!(find(&router, "a.com", "/"), None);
    router.upsert(ingress("a", 5, vec![rule("a.com", &[("/a", "a")])], Some("default-a")));
    router.upsert(ingress("b", 6, vec![rule("b.com", &[("/b", "b")])], None));
    assert_eq!(find(&router, "a.com", "/a"), Some("a"));
    assert_eq!(find(&router, "a.com", "/x"), Some("default-a"));
    assert_eq!(find(&router, "b.com", "/x"), Some("default-a"));
    // One without rules is meant for everything, however young it is.
    router.upsert(ingress("c", 7, vec![], Some("default-c")));
    assert_eq!(find(&router, "a.com", "/x"), Some("default-a"));
    assert_eq!(find(&router, "b.com", "/x"), Some("default-c"));
    // A host without paths is served by the default backend.
    router.upsert(ingress("d", 1, vec![rule("d.com", &[])], Some("default-d")));
    assert_eq!(find(&router, "d.com", "/"), Some("default-d"));
    for name in ["a", "b", "c", "d"] {
        router.remove(&format!("ns/{name}"));
    }
    assert!(router.hosts.is_empty() && router.defaults.0.is_empty());
}

#[test]
fn the_older_ingress_holds() {
    let mut router = Router::default();
    let same = |service: &'static str| vec![rule("a.com", &[("/", service)])];
    router.upsert(ingress("young", 2, same("young"), None));
    router.upsert(ingress("old", 1, same("old"), None));
    router.upsert(ingress("alike", 1, same("alike"), None));
    assert_eq!(find(&router, "a.com", "/"), Some("alike"));
    router.remove("ns/alike");
    assert_eq!(find(&router, "a.com", "/"), Some("old"));
    router.upsert(ingress("old", 1, same("changed"), None));
    assert_eq!(find(&router, "a.com", "/"), Some("changed"));
    router.upsert(ingress("old", 1, vec![], None));
    assert_eq!(find(&router, "a.com", "/"), Some("young"));
}

#[test]
fn a_new_generation_drops_what_is_not_repeated() {
    let mut router = Router::default();
    router.begin();
    router.upsert(ingress("kept", 0, vec![rule("kept.com", &[("/", "s")])], None));
    router.upsert(ingress("gone", 0, vec![rule("gone.com", &[("/", "s")])], None));
    router.synced();
    router.begin();
    router.upsert(ingress("kept", 0, vec![rule("kept.com", &[("/", "s")])], None));
    assert!(find(&router, "gone.com", "/").is_some());
    router.synced();
    assert!(find(&router, "gone.com", "/").is_none());
    assert!(find(&router, "kept.com", "/").is_some());
}
