//! One RBAC rule: what it matches, what it covers, how messages show it.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::request::RequestInfo;

/// A `PolicyRule` of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// Verbs, `*` for all.
    pub verbs: Box<[Box<str>]>,
    /// API groups, `*` for all.
    pub api_groups: Box<[Box<str>]>,
    /// `resource`, `resource/subresource`, `*/subresource` or `*`.
    pub resources: Box<[Box<str>]>,
    /// Names; none means every name.
    #[serde(rename = "resourceNames")]
    pub names: Box<[Box<str>]>,
    /// Paths; a trailing `*` matches any rest.
    #[serde(rename = "nonResourceURLs")]
    pub urls: Box<[Box<str>]>,
}

fn has(set: &[Box<str>], wanted: &str) -> bool {
    set.iter().any(|entry| &**entry == wanted)
}

fn has_or_all(set: &[Box<str>], wanted: &str) -> bool {
    set.iter().any(|entry| &**entry == "*" || &**entry == wanted)
}

fn has_all(set: &[Box<str>], wanted: &[Box<str>]) -> bool {
    wanted.iter().all(|entry| has(set, entry))
}

fn url_covers(owned: &str, wanted: &str) -> bool {
    owned == wanted || (owned.ends_with('*') && wanted.starts_with(owned.trim_end_matches('*')))
}

impl PolicyRule {
    /// Whether the rule allows the request.
    pub fn allows(&self, info: &RequestInfo) -> bool {
        if !has_or_all(&self.verbs, &info.verb) {
            return false;
        }
        if !info.is_resource {
            return self.urls.iter().any(|url| url_covers(url, &info.path));
        }
        has_or_all(&self.api_groups, &info.group)
            && self.matches_resource(&info.resource, &info.subresource)
            && (self.names.is_empty() || has(&self.names, &info.name))
    }

    fn matches_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|entry| {
            if &**entry == "*" {
                return true;
            }
            if subresource.is_empty() {
                return &**entry == resource;
            }
            let Some((left, right)) = entry.split_once('/') else { return false };
            right == subresource && (left == resource || left == "*")
        })
    }

    /// Whether this rule grants all that `wanted` does, which must be a single permission as
    /// [`Self::singles`] makes them.
    fn covers(&self, wanted: &Self) -> bool {
        (has(&self.verbs, "*") || has_all(&self.verbs, &wanted.verbs))
            && (has(&self.api_groups, "*") || has_all(&self.api_groups, &wanted.api_groups))
            && self.covers_resources(&wanted.resources)
            && (self.names.is_empty()
                || (!wanted.names.is_empty() && has_all(&self.names, &wanted.names)))
            && wanted.urls.iter().all(|url| self.urls.iter().any(|own| url_covers(own, url)))
    }

    fn covers_resources(&self, wanted: &[Box<str>]) -> bool {
        has(&self.resources, "*")
            || wanted.iter().all(|path| {
                has(&self.resources, path)
                    || path
                        .split_once('/')
                        .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
            })
    }

    /// The rule as permissions of one verb, group, resource and name each.
    fn singles(&self) -> Vec<Self> {
        let one = |entry: &str| Box::from([Box::from(entry)]);
        let mut singles = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let rule = Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.names.is_empty() {
                        singles.push(rule);
                    } else {
                        singles.extend(
                            self.names.iter().map(|name| Self { names: one(name), ..rule.clone() }),
                        );
                    }
                }
            }
            singles.extend(self.urls.iter().map(|url| Self {
                verbs: one(verb),
                urls: one(url),
                ..Self::default()
            }));
        }
        singles
    }

    /// The rule as upstream's messages show it: `{APIGroups:["apps"], Verbs:["get"]}`.
    pub fn describe(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        let mut out = String::from("{");
        for (name, list) in parts.into_iter().filter(|(_, list)| !list.is_empty()) {
            if out.len() > 1 {
                out.push_str(", ");
            }
            let list: Vec<String> = list.iter().map(|entry| format!("{entry:?}")).collect();
            let _ = write!(out, "{name}:[{}]", list.join(" "));
        }
        out.push('}');
        out
    }
}

/// What of `wanted` the rules in `owned` do not grant, with verbs of the same thing joined.
pub fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let lacking = wanted
        .iter()
        .flat_map(PolicyRule::singles)
        .filter(|single| !owned.iter().any(|rule| rule.covers(single)));
    let mut compact: Vec<PolicyRule> = Vec::new();
    for single in lacking {
        let same = |rule: &&mut PolicyRule| {
            rule.api_groups == single.api_groups
                && rule.resources == single.resources
                && rule.names == single.names
                && rule.urls == single.urls
        };
        match compact.iter_mut().find(same) {
            Some(rule) => {
                let verbs = rule.verbs.iter().chain(&single.verbs).cloned();
                rule.verbs = verbs.collect();
            }
            None => compact.push(single),
        }
    }
    compact
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: serde_json::Value) -> PolicyRule {
        serde_json::from_value(value).unwrap()
    }

    fn resource(verb: &str, group: &str, resource: &str, sub: &str, name: &str) -> RequestInfo {
        RequestInfo {
            verb: verb.into(),
            is_resource: true,
            group: group.into(),
            resource: resource.into(),
            subresource: sub.into(),
            name: name.into(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn rules_match_as_upstream_does() {
        let pods = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(pods.allows(&resource("get", "", "pods", "", "a")));
        assert!(!pods.allows(&resource("get", "", "pods", "log", "a")), "subresources are apart");
        assert!(!pods.allows(&resource("list", "", "pods", "", "")));
        assert!(!pods.allows(&resource("get", "apps", "pods", "", "a")));

        let subs =
            rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale", "pods/log"]}));
        assert!(subs.allows(&resource("patch", "apps", "deployments", "scale", "a")));
        assert!(subs.allows(&resource("get", "", "pods", "log", "a")));
        assert!(!subs.allows(&resource("get", "apps", "deployments", "status", "a")));
        assert!(!subs.allows(&resource("get", "apps", "deployments", "", "a")));

        let all = rule(
            json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]}),
        );
        assert!(all.allows(&resource("get", "x", "y", "z", "a")));
        assert!(!all.allows(&resource("get", "x", "y", "z", "b")));

        let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/metrics/*"]}));
        let path = |path: &str| RequestInfo {
            verb: "get".into(),
            path: path.into(),
            ..RequestInfo::default()
        };
        assert!(paths.allows(&path("/healthz")) && paths.allows(&path("/metrics/slis")));
        assert!(!paths.allows(&path("/healthz/etcd")) && !paths.allows(&path("/metrics")));
    }

    #[test]
    fn what_is_missing_is_named_compactly() {
        let owned =
            [rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/status"]}))];
        let wanted = [rule(json!({
            "verbs": ["get", "create", "delete"], "apiGroups": [""], "resources": ["pods", "nodes/status"],
        }))];
        let texts: Vec<_> = missing(&owned, &wanted).iter().map(PolicyRule::describe).collect();
        assert_eq!(
            texts,
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["create" "delete"]}"#,
                r#"{APIGroups:[""], Resources:["nodes/status"], Verbs:["create" "delete"]}"#,
            ]
        );
        let star = [rule(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}))];
        assert!(missing(&star, &wanted).is_empty());
        let named = [rule(
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]}),
        )];
        assert!(!missing(&named, &wanted).is_empty(), "a named grant covers no nameless one");
    }
}
