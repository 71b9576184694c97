//! The options of requests: CreateOptions, UpdateOptions, PatchOptions, DeleteOptions, ListOptions,
//! read from the query (or, for deletions, the body) and validated as upstream does.

use apimachinery::{
    GroupVersionKind, Status,
    field::{FieldError, Path},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::query::Query;

/// What happens to fields that the schema does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped in silence.
    Ignore,
    /// They are dropped and the client is warned.
    #[default]
    Warn,
    /// They are an error.
    Strict,
}

/// The options of creates, updates and patches.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Nothing is to be stored.
    pub dry_run: bool,
    /// The field manager as given; empty when the user agent is to stand for it.
    pub field_manager: String,
    /// What happens to unknown fields.
    pub field_validation: FieldValidation,
    /// Whether an apply takes fields over from other managers.
    pub force: Option<bool>,
}

fn invalid_options(kind: &str, errors: &[FieldError]) -> Status {
    Status::invalid(&GroupVersionKind::new("meta.k8s.io", "v1", kind), "", errors)
}

impl WriteOptions {
    /// Reads and checks the options of a `kind`, such as `CreateOptions`.
    ///
    /// # Errors
    /// 422 when an option has a value that it cannot have.
    pub fn parse(query: &Query<'_>, kind: &str) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let field_manager = query.get("fieldManager").unwrap_or_default().to_owned();
        validate_manager(&field_manager, &Path::root("fieldManager"), &mut errors);
        let dry_run: Vec<&str> = query.all("dryRun").collect();
        validate_dry_run(&dry_run, &mut errors);
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let supported = ["", "Ignore", "Strict", "Warn"];
                let path = Path::root("fieldValidation");
                errors.push(FieldError::not_supported(&path, other, &supported));
                FieldValidation::Warn
            }
        };
        let options = Self {
            dry_run: !dry_run.is_empty(),
            field_manager,
            field_validation,
            force: query.flag("force"),
        };
        if errors.is_empty() { Ok(options) } else { Err(invalid_options(kind, &errors)) }
    }

    /// Checks what only patches have.
    ///
    /// # Errors
    /// 422 when `force` or `fieldManager` does not go with the kind of patch.
    pub fn check_patch(&self, apply: bool) -> Result<(), Status> {
        let error = if apply && self.field_manager.is_empty() {
            FieldError::required(&Path::root("fieldManager"), "is required for apply patch")
        } else if !apply && self.force.is_some() {
            FieldError::forbidden(&Path::root("force"), "may not be specified for non-apply patch")
        } else {
            return Ok(());
        };
        Err(invalid_options("PatchOptions", &[error]))
    }

    /// The options as admission webhooks see them.
    pub fn to_value(&self, kind: &str) -> Value {
        let mut options = Map::new();
        options.insert("kind".into(), kind.into());
        options.insert("apiVersion".into(), "meta.k8s.io/v1".into());
        if self.dry_run {
            options.insert("dryRun".into(), json!(["All"]));
        }
        if !self.field_manager.is_empty() {
            options.insert("fieldManager".into(), self.field_manager.as_str().into());
        }
        options.insert(
            "fieldValidation".into(),
            match self.field_validation {
                FieldValidation::Ignore => "Ignore",
                FieldValidation::Warn => "Warn",
                FieldValidation::Strict => "Strict",
            }
            .into(),
        );
        if let Some(force) = self.force {
            options.insert("force".into(), force.into());
        }
        Value::Object(options)
    }

    /// The manager of the fields that a write sets: the option, or the user agent up to its slash.
    pub fn manager(&self, user_agent: &str) -> String {
        if !self.field_manager.is_empty() {
            return self.field_manager.clone();
        }
        let mut manager = String::new();
        let name = user_agent.split('/').next().unwrap_or_default();
        for c in name.chars().filter(|c| !c.is_control()) {
            if manager.len() + c.len_utf8() > MANAGER_MAX {
                break;
            }
            manager.push(c);
        }
        manager
    }
}

const MANAGER_MAX: usize = 128;

/// The rules of `fieldManager`, also inside of managedFields.
pub fn validate_manager(manager: &str, path: &Path, errors: &mut Vec<FieldError>) {
    if manager.len() > MANAGER_MAX {
        errors.push(FieldError::too_long(path, MANAGER_MAX));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", c as u32);
        errors.push(FieldError::invalid(path, manager, &detail));
    }
}

fn validate_dry_run(values: &[&str], errors: &mut Vec<FieldError>) {
    if values.iter().any(|value| *value != "All") {
        let value = Value::from(values.to_vec());
        errors.push(FieldError::not_supported(&Path::root("dryRun"), value, &["All"]));
    }
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Propagation {
    /// They lose their owner and stay.
    Orphan,
    /// The garbage collector deletes them afterwards.
    Background,
    /// They are deleted before the object itself goes.
    Foreground,
}

/// What must be true of an object for it to be deleted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// Its UID.
    pub uid: Option<String>,
    /// Its resourceVersion.
    pub resource_version: Option<String>,
}

/// DeleteOptions.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Nothing is to be deleted.
    pub dry_run: bool,
    /// Seconds of grace, if given.
    pub grace_period: Option<i64>,
    /// What happens to dependents, if given.
    pub propagation: Option<Propagation>,
    /// The deprecated form of the same.
    pub orphan_dependents: Option<bool>,
    /// What must be true.
    pub preconditions: Preconditions,
    /// The options as sent, for webhooks.
    pub raw: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawDeleteOptions {
    dry_run: Option<Vec<String>>,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
}

impl DeleteOptions {
    /// Reads the options from the body where there is one, else from the query.
    ///
    /// # Errors
    /// 400 when they cannot be read, 422 when they contradict themselves.
    pub fn parse(query: &Query<'_>, body: Option<Value>) -> Result<Self, Status> {
        let raw = match &body {
            Some(body) => {
                let kind = body.get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
                if kind != "DeleteOptions" {
                    let version = body.get("apiVersion").and_then(Value::as_str);
                    return Err(Status::bad_request(format!(
                        "no kind {kind:?} is registered for version {:?} in scheme \
                         \"pkg/runtime/scheme.go:111\"",
                        version.unwrap_or("meta.k8s.io/v1")
                    )));
                }
                if !body.is_object() {
                    return Err(Status::bad_request("the body is not a DeleteOptions object"));
                }
                RawDeleteOptions::deserialize(body)
                    .map_err(|error| Status::bad_request(error.to_string()))?
            }
            None => RawDeleteOptions {
                dry_run: Some(query.all("dryRun").map(ToOwned::to_owned).collect()),
                grace_period_seconds: query.number("gracePeriodSeconds")?,
                propagation_policy: query.text("propagationPolicy").map(ToOwned::to_owned),
                orphan_dependents: query.flag("orphanDependents"),
                preconditions: None,
            },
        };
        let mut errors = Vec::new();
        let path = Path::root("propagationPolicy");
        if let (Some(policy), Some(_)) = (&raw.propagation_policy, raw.orphan_dependents) {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, policy.as_str(), why));
        }
        let propagation = match raw.propagation_policy.as_deref() {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&path, other, &supported));
                None
            }
        };
        let dry_run = raw.dry_run.unwrap_or_default();
        validate_dry_run(&dry_run.iter().map(String::as_str).collect::<Vec<_>>(), &mut errors);
        if !errors.is_empty() {
            return Err(invalid_options("DeleteOptions", &errors));
        }
        let mut options = body.unwrap_or_else(|| json!({}));
        options["kind"] = "DeleteOptions".into();
        options["apiVersion"] = "meta.k8s.io/v1".into();
        Ok(Self {
            dry_run: !dry_run.is_empty(),
            // Upstream: a negative period is one second.
            grace_period: raw.grace_period_seconds.map(|s| if s < 0 { 1 } else { s }),
            propagation,
            orphan_dependents: raw.orphan_dependents,
            preconditions: raw.preconditions.unwrap_or_default(),
            raw: options,
        })
    }
}

/// ListOptions.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Whether changes are to be followed.
    pub watch: bool,
    /// Label selector as sent.
    pub labels: String,
    /// Field selector as sent.
    pub fields: String,
    /// How many objects to return; 0 for all.
    pub limit: usize,
    /// Where the page before ended.
    pub continue_token: String,
    /// The revision asked for; `None` for the latest, 0 for any.
    pub revision: Option<u64>,
    /// Whether exactly that revision is wanted.
    pub exact: bool,
    /// Seconds after which a watch ends.
    pub timeout: Option<u64>,
    /// Whether the client understands bookmarks.
    pub bookmarks: bool,
    /// Whether a watch begins with the objects that exist.
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    /// Reads and checks the options. `watch` is set where the path itself says so.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what does not go together.
    pub fn parse(query: &Query<'_>, watch: bool) -> Result<Self, Status> {
        let watch = watch || query.flag("watch").unwrap_or(false);
        let text = |key| query.get(key).unwrap_or_default();
        let matching = text("resourceVersionMatch");
        let version = text("resourceVersion");
        let continue_token = text("continue").to_owned();
        let send_initial_events = query.flag("sendInitialEvents");
        let mut errors = Vec::new();
        let match_path = Path::root("resourceVersionMatch");
        let mut forbid = |path: &str, why: &str| {
            errors.push(FieldError::forbidden(&Path::root(path), why));
        };
        const CONTINUED: &str = "resourceVersionMatch is forbidden when continue is provided";
        if watch {
            if send_initial_events.is_some() && matching != "NotOlderThan" {
                let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                forbid("resourceVersionMatch", why);
            }
            if !matching.is_empty() {
                if send_initial_events.is_none() {
                    let why = "resourceVersionMatch is forbidden for watch unless \
                               sendInitialEvents is provided";
                    forbid("resourceVersionMatch", why);
                }
                if matching != "NotOlderThan" {
                    let supported = ["NotOlderThan"];
                    errors.push(FieldError::not_supported(&match_path, matching, &supported));
                } else if !continue_token.is_empty() {
                    forbid("resourceVersionMatch", CONTINUED);
                }
            } else if matches!(version, "" | "0") && !continue_token.is_empty() {
                // Such a watch begins with what exists, as if that had been asked for.
                forbid("resourceVersionMatch", CONTINUED);
            }
        } else {
            if !matching.is_empty() {
                if version.is_empty() {
                    let why =
                        "resourceVersionMatch is forbidden unless resourceVersion is provided";
                    forbid("resourceVersionMatch", why);
                }
                if !continue_token.is_empty() {
                    forbid("resourceVersionMatch", CONTINUED);
                }
                match matching {
                    "Exact" if version == "0" => {
                        let why = "resourceVersionMatch \"exact\" is forbidden for \
                                   resourceVersion \"0\"";
                        forbid("resourceVersionMatch", why);
                    }
                    "Exact" | "NotOlderThan" => {}
                    other => {
                        let supported = ["Exact", "NotOlderThan", ""];
                        errors.push(FieldError::not_supported(&match_path, other, &supported));
                    }
                }
            }
            if send_initial_events.is_some() {
                errors.push(FieldError::forbidden(
                    &Path::root("sendInitialEvents"),
                    "sendInitialEvents is forbidden for list",
                ));
            }
        }
        if !errors.is_empty() {
            return Err(invalid_options("ListOptions", &errors));
        }
        let revision = match version {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                let why = invalid_revision(text);
                // Of all reads only a list makes a bad request of it.
                if watch {
                    Status::failure(500, "", why)
                } else {
                    Status::bad_request(format!("invalid resource version: {why}"))
                }
            })?),
        };
        let limit = query.number("limit")?.unwrap_or(0);
        let timeout = query.number("timeoutSeconds")?;
        Ok(Self {
            watch,
            labels: text("labelSelector").to_owned(),
            fields: text("fieldSelector").to_owned(),
            limit: usize::try_from(limit).unwrap_or(0),
            continue_token,
            revision,
            exact: matching == "Exact",
            timeout: timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|s| *s > 0),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            send_initial_events,
        })
    }
}

/// What upstream's storage says of a resourceVersion that is no number.
pub fn invalid_revision(text: &str) -> String {
    format!(
        "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_options_are_validated() {
        let options = WriteOptions::parse(
            &Query::parse("dryRun=All&fieldManager=me&fieldValidation=Strict"),
            "CreateOptions",
        )
        .unwrap();
        assert!(options.dry_run && options.field_validation == FieldValidation::Strict);
        let refused = WriteOptions::parse(&Query::parse("dryRun=Some"), "CreateOptions");
        let status = refused.unwrap_err();
        assert_eq!(status.code, 422);
        assert_eq!(
            status.message,
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: \
             supported values: \"All\""
        );
    }

    #[test]
    fn the_user_agent_stands_for_a_missing_manager() {
        let options = WriteOptions::default();
        assert_eq!(options.manager("kubectl/v1.37 (linux)"), "kubectl");
        assert_eq!(options.manager(&"x".repeat(500)).len(), 128);
    }

    #[test]
    fn delete_options_come_from_body_or_query() {
        let query = Query::parse("gracePeriodSeconds=-3&propagationPolicy=Foreground");
        let options = DeleteOptions::parse(&query, None).unwrap();
        assert_eq!(options.grace_period, Some(1));
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        let body = json!({"kind": "DeleteOptions", "preconditions": {"uid": "u"}});
        let options = DeleteOptions::parse(&query, Some(body)).unwrap();
        assert_eq!((options.grace_period, options.preconditions.uid.as_deref()), (None, Some("u")));
        for body in [json!({"propagationPolicy": "No"}), json!({"dryRun": "All"}), json!([])] {
            assert!(DeleteOptions::parse(&query, Some(body)).is_err());
        }
    }

    #[test]
    fn list_options_must_go_together() {
        for (query, message) in [
            ("resourceVersionMatch=Exact", "forbidden unless resourceVersion is provided"),
            ("resourceVersion=0&resourceVersionMatch=Exact", "forbidden for resourceVersion \"0\""),
            ("sendInitialEvents=true", "sendInitialEvents is forbidden for list"),
            ("watch=1&sendInitialEvents=true", "requires setting resourceVersionMatch"),
            ("resourceVersion=abc", "invalid syntax"),
            ("limit=x", "invalid syntax"),
        ] {
            let status = ListOptions::parse(&Query::parse(query), false).unwrap_err();
            assert!(status.message.contains(message), "{query}: {}", status.message);
        }
        let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                     &allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=9";
        let options = ListOptions::parse(&Query::parse(query), false).unwrap();
        assert!(options.watch && options.bookmarks && options.send_initial_events == Some(true));
        assert_eq!((options.revision, options.timeout), (Some(5), Some(9)));
    }
}
