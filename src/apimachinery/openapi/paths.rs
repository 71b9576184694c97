//! What can be asked of a resource, as the paths and operations of an OpenAPI document. kubectl
//! reads from them which kinds know the parameters `fieldValidation` and `dryRun`.

use serde_json::{Map, Value, json};

use super::{Dialect, Kind, components::Components, definition_name};
use crate::schema::{Kind as ValueKind, Resource, Subresource, builtin_type, graph::Field};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PRETTY: &str = "If 'true', then the output is pretty printed. Defaults to 'false' unless the \
    user-agent indicates a browser or command-line HTTP tool (curl and wget).";

/// One operation on a path.
struct Operation {
    /// HTTP method in lower case.
    method: &'static str,
    id: String,
    description: String,
    action: &'static str,
    /// Group, version and kind of what is sent.
    kind: [String; 3],
    query: Vec<Value>,
    body: Option<Body>,
    /// Status codes and the type replied; None for free text.
    replies: Vec<u16>,
    reply: Option<String>,
    watchable: bool,
}

struct Body {
    definition: String,
    required: bool,
    patch: bool,
}

/// Writes the paths of a kind; what they refer to is wanted afterwards.
pub(super) struct Paths<'a> {
    pub(super) components: &'a mut Components,
    pub(super) dialect: Dialect,
}

impl Paths<'_> {
    /// All paths of a kind: path and path item.
    pub(super) fn of(&mut self, kind: &Kind<'_>) -> Vec<(String, Value)> {
        let r = kind.resource;
        let root = match r.group.as_str() {
            "" => format!("/api/{}", r.version),
            group => format!("/apis/{group}/{}", r.version),
        };
        let collection = match r.namespaced {
            true => format!("{root}/namespaces/{{namespace}}/{}", r.plural),
            false => format!("{root}/{}", r.plural),
        };
        let verbs = |known: &[&'static str]| -> Vec<&'static str> {
            known.iter().copied().filter(|verb| r.verbs.iter().any(|own| own == verb)).collect()
        };
        let mut plan = Vec::new();
        if r.namespaced && !verbs(&["list"]).is_empty() {
            let list = self.operation(kind, "list", true);
            plan.push((format!("{root}/{}", r.plural), None, vec![list]));
        }
        for (path, name, verbs) in [
            (collection.clone(), None, verbs(&["list", "create", "deletecollection"])),
            (
                format!("{collection}/{{name}}"),
                Some(&r.kind),
                verbs(&["get", "update", "delete", "patch"]),
            ),
        ] {
            let operations = verbs.into_iter().map(|verb| self.operation(kind, verb, false));
            plan.push((path, name, operations.collect()));
        }
        for sub in &r.subresources {
            let path = format!("{collection}/{{name}}/{}", sub.name);
            let name = if kind.custom.is_none() { &sub.kind } else { &r.kind };
            plan.push((path.clone(), Some(name), self.subresource(kind, sub, "")));
            if sub.name == "proxy" {
                let operations = self.subresource(kind, sub, "WithPath");
                plan.push((format!("{path}/{{path}}"), Some(&sub.kind), operations));
            }
        }
        let mut paths = Vec::new();
        for (path, name, operations) in plan.into_iter().filter(|(.., all)| !all.is_empty()) {
            let item = self.item(kind, &path, name.map(String::as_str), operations);
            paths.push((path, item));
        }
        paths
    }

    /// The operation of a verb on a resource. `everywhere`: in all namespaces.
    fn operation(&mut self, kind: &Kind<'_>, verb: &str, everywhere: bool) -> Operation {
        let r = kind.resource;
        let own = definition_name(kind, &r.kind);
        let status = format!("{META}.Status");
        let a = article(&r.kind);
        let own_kind = kind.custom.is_none();
        let watched = own_kind && r.verbs.iter().any(|verb| verb == "watch");
        let list = if watched { "list or watch" } else { "list" };
        let list = format!("{list} objects of kind ");
        let object = || Body { definition: own.clone(), required: true, patch: false };
        let options =
            || Body { definition: format!("{META}.DeleteOptions"), required: false, patch: false };
        let patch = || Body { definition: format!("{META}.Patch"), required: true, patch: true };
        let (method, action, word, description, options_of, body, replies): (
            _,
            _,
            _,
            _,
            &[&str],
            _,
            &[u16],
        ) = match verb {
            "list" => ("get", "list", "list", list, &["ListOptions"], None, &[200]),
            "create" => {
                let text = format!("create{a}");
                (
                    "post",
                    "post",
                    "create",
                    text,
                    &["CreateOptions"],
                    Some(object()),
                    &[200, 201, 202],
                )
            }
            "deletecollection" => {
                let text = "delete collection of ".to_owned();
                let of: &[&str] =
                    if own_kind { &["ListOptions", "DeleteOptions"] } else { &["ListOptions"] };
                let body = own_kind.then(options);
                ("delete", "deletecollection", "delete", text, of, body, &[200])
            }
            "get" => {
                let of: &[&str] = if own_kind { &[] } else { &["GetOptions"] };
                ("get", "get", "read", "read the specified ".to_owned(), of, None, &[200])
            }
            "update" => {
                let text = "replace the specified ".to_owned();
                ("put", "put", "replace", text, &["UpdateOptions"], Some(object()), &[200, 201])
            }
            "delete" => {
                let text = format!("delete{a}");
                (
                    "delete",
                    "delete",
                    "delete",
                    text,
                    &["DeleteOptions"],
                    Some(options()),
                    &[200, 202],
                )
            }
            _ => {
                let text = "partially update the specified ".to_owned();
                let replies: &[u16] = if own_kind { &[200, 201] } else { &[200] };
                ("patch", "patch", "patch", text, &["PatchOptions"], Some(patch()), replies)
            }
        };
        let mut query = self.query(options_of);
        if verb == "deletecollection" && own_kind {
            query.retain(|p| p["name"] != "watch" && p["name"] != "allowWatchBookmarks");
        }
        let mut id = format!("{word}{}", camel(r));
        if verb == "deletecollection" {
            id.push_str("Collection");
        }
        if r.namespaced && !everywhere {
            id.push_str("Namespaced");
        }
        id.push_str(&r.kind);
        if everywhere {
            id.push_str("ForAllNamespaces");
        }
        let reply = match verb {
            "list" => definition_name(kind, &r.list_kind),
            "delete" if r.returns_deleted => own.clone(),
            "delete" | "deletecollection" => status,
            _ => own.clone(),
        };
        Operation {
            method,
            id,
            description: format!("{description}{}", r.kind),
            action,
            kind: [r.group.clone(), r.version.clone(), r.kind.clone()],
            query,
            body,
            replies: replies.to_vec(),
            reply: Some(reply),
            watchable: own_kind && verb == "list",
        }
    }

    fn subresource(&mut self, kind: &Kind<'_>, sub: &Subresource, suffix: &str) -> Vec<Operation> {
        let r = kind.resource;
        // A subresource whose kind is of options is a connection, which is opened by any method.
        if sub.kind.ends_with("Options") {
            let schema = crate::schema::builtin(&sub.group, &sub.version, &sub.kind);
            let name = schema.as_ref().and_then(|schema| schema.type_name()).unwrap_or_default();
            let query = self.query(&[name]);
            return sub
                .verbs
                .iter()
                .filter_map(|verb| connection(r, sub, verb, suffix, &query))
                .collect();
        }
        let own = match crate::schema::builtin(&sub.group, &sub.version, &sub.kind) {
            Some(schema) => schema.type_name().unwrap_or_default().to_owned(),
            None => definition_name(kind, &sub.kind),
        };
        let operation = |verb: &String| {
            let mut operation = self.operation(kind, verb, false);
            let text = match verb.as_str() {
                "create" => format!("create {} of{}", sub.name, article(&r.kind)),
                "get" => format!("read {} of the specified ", sub.name),
                "update" => format!("replace {} of the specified ", sub.name),
                _ => format!("partially update {} of the specified ", sub.name),
            };
            operation.description = format!("{text}{}", r.kind);
            operation.id.push_str(&capital(&sub.name));
            if kind.custom.is_none() {
                operation.kind = [sub.group.clone(), sub.version.clone(), sub.kind.clone()];
            }
            operation.reply = (sub.name != "log").then(|| own.clone());
            if sub.name == "log" {
                operation.query = self.query(&["io.k8s.api.core.v1.PodLogOptions"]);
            }
            if let Some(body) = operation.body.as_mut().filter(|body| !body.patch) {
                body.definition = own.clone();
            }
            operation
        };
        sub.verbs.iter().map(operation).collect()
    }

    /// The parameters that options types make, by name.
    fn query(&mut self, types: &[&str]) -> Vec<Value> {
        let mut query = Vec::new();
        for name in types {
            let full =
                if name.contains('.') { (*name).to_owned() } else { format!("{META}.{name}") };
            let Some(schema) = builtin_type(&full) else { continue };
            let graph = schema.graph();
            for field in graph.fields(schema.node()) {
                let name = graph.name(field);
                if let Some(kind) = parameter_type(graph, field)
                    && !matches!(name, "apiVersion" | "kind")
                {
                    let description = self.components.description(field);
                    query.push(self.parameter(name, "query", kind, description));
                }
            }
        }
        query.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        query.dedup_by(|a, b| a["name"] == b["name"]);
        query
    }

    fn parameter(&self, name: &str, place: &str, kind: &str, description: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place});
        match self.dialect {
            Dialect::V3 => {
                parameter["description"] = description.into();
                parameter["schema"] = json!({"type": kind, "uniqueItems": true});
            }
            // Without descriptions, which no client reads here and which would be most of it.
            Dialect::V2 => {
                parameter["type"] = kind.into();
                parameter["uniqueItems"] = true.into();
            }
        }
        if place == "path" {
            parameter["required"] = true.into();
        }
        parameter
    }

    /// A path with its operations. Parameters that all of them have are those of the path.
    fn item(
        &mut self,
        kind: &Kind<'_>,
        path: &str,
        name: Option<&str>,
        mut operations: Vec<Operation>,
    ) -> Value {
        let mut shared = operations.first().map_or_else(Vec::new, |first| first.query.clone());
        shared.retain(|p| operations.iter().all(|operation| operation.query.contains(p)));
        for operation in &mut operations {
            operation.query.retain(|p| !shared.contains(p));
        }
        if let Some(name) = name {
            shared.push(self.parameter("name", "path", "string", &format!("name of the {name}")));
        }
        if path.contains("{namespace}") {
            let text = "object name and auth scope, such as for teams and projects";
            shared.push(self.parameter("namespace", "path", "string", text));
        }
        if path.ends_with("{path}") {
            shared.push(self.parameter("path", "path", "string", "path to the resource"));
        }
        if operations.iter().any(|operation| operation.action != "connect") {
            shared.push(self.parameter("pretty", "query", "string", PRETTY));
        }
        let order = |p: &Value| (p["name"].to_string(), p["in"].to_string());
        shared.sort_by_key(order);
        let mut item = Map::new();
        for operation in operations {
            item.insert(operation.method.to_owned(), self.render(kind, operation));
        }
        if !shared.is_empty() {
            item.insert("parameters".to_owned(), Value::Array(shared));
        }
        Value::Object(item)
    }

    fn render(&mut self, kind: &Kind<'_>, operation: Operation) -> Value {
        let r = kind.resource;
        let types: &[&str] = match (&operation.reply, kind.custom, operation.watchable) {
            (None, _, _) if operation.action == "connect" => &["*/*"],
            (None, _, _) => &["text/plain", JSON, YAML, PROTOBUF],
            (_, Some(_), _) => &[JSON, YAML],
            (_, None, false) => &[JSON, PROTOBUF, YAML],
            (_, None, true) => &[
                JSON,
                "application/json;stream=watch",
                PROTOBUF,
                "application/vnd.kubernetes.protobuf;stream=watch",
                YAML,
            ],
        };
        let reply = match &operation.reply {
            Some(name) => {
                self.components.want(name);
                self.dialect.reference(name)
            }
            None => json!({"type": "string"}),
        };
        let mut replies = Map::new();
        for code in &operation.replies {
            let text = match code {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            let mut response = json!({"description": text});
            match self.dialect {
                Dialect::V3 => response["content"] = content(types, &reply),
                Dialect::V2 => response["schema"] = reply.clone(),
            }
            replies.insert(code.to_string(), response);
        }
        replies.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        let [group, version, name] = &operation.kind;
        let mut out = json!({
            "tags": [tag(r)],
            "description": operation.description,
            "operationId": operation.id,
            "responses": replies,
            "x-kubernetes-action": operation.action,
            "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": name},
        });
        let mut parameters = operation.query;
        if let Some(body) = &operation.body {
            self.components.want(&body.definition);
            let schema = self.dialect.reference(&body.definition);
            let types: &[&str] = match (body.patch, kind.custom) {
                (true, None) => &[
                    "application/apply-patch+yaml",
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ],
                (true, Some(_)) => &[
                    "application/apply-patch+yaml",
                    "application/json-patch+json",
                    "application/merge-patch+json",
                ],
                (false, None) => &["*/*"],
                (false, Some(_)) => &[JSON, YAML],
            };
            match self.dialect {
                Dialect::V3 => {
                    out["requestBody"] = json!({"content": content(types, &schema)});
                    if body.required {
                        out["requestBody"]["required"] = true.into();
                    }
                }
                Dialect::V2 => {
                    let mut body_parameter =
                        json!({"name": "body", "in": "body", "schema": schema});
                    if body.required {
                        body_parameter["required"] = true.into();
                    }
                    parameters.insert(0, body_parameter);
                    out["consumes"] = json!(types);
                }
            }
        }
        if self.dialect == Dialect::V2 {
            out["produces"] = json!(types);
            out["schemes"] = json!(["https"]);
        }
        if !parameters.is_empty() {
            out["parameters"] = Value::Array(parameters);
        }
        out
    }
}

/// The list of a group version's resources, which every group version has.
pub(super) fn discovery(r: &Resource, dialect: Dialect) -> Value {
    let list = dialect.reference(&format!("{META}.APIResourceList"));
    let mut ok = json!({"description": "OK"});
    match dialect {
        Dialect::V3 => ok["content"] = content(&[JSON, PROTOBUF, YAML], &list),
        Dialect::V2 => ok["schema"] = list,
    }
    json!({"get": {
        "tags": [tag(r)],
        "description": "get available resources",
        "operationId": format!("get{}APIResources", camel(r)),
        "responses": {"200": ok, "401": {"description": "Unauthorized"}},
    }})
}

fn connection(
    r: &Resource,
    sub: &Subresource,
    verb: &str,
    suffix: &str,
    query: &[Value],
) -> Option<Operation> {
    let method = match verb {
        "get" => "get",
        "create" => "post",
        "update" => "put",
        "delete" => "delete",
        "patch" => "patch",
        _ => return None,
    };
    let namespaced = if r.namespaced { "Namespaced" } else { "" };
    let (word, name) = (capital(method), capital(&sub.name));
    Some(Operation {
        method,
        id: format!("connect{}{word}{namespaced}{}{name}{suffix}", camel(r), r.kind),
        description: format!(
            "connect {} requests to {} of {}",
            method.to_ascii_uppercase(),
            sub.name,
            r.kind
        ),
        action: "connect",
        kind: [sub.group.clone(), sub.version.clone(), sub.kind.clone()],
        query: query.to_vec(),
        body: None,
        replies: vec![200],
        reply: None,
        watchable: false,
    })
}

fn content(types: &[&str], schema: &Value) -> Value {
    let content = types.iter().map(|name| ((*name).to_owned(), json!({"schema": schema})));
    Value::Object(content.collect())
}

/// The type of the parameter that a field of options makes; None for objects.
fn parameter_type(graph: &crate::schema::graph::Graph, field: &Field) -> Option<&'static str> {
    let mut node = graph.node(field.node);
    if node.kind == ValueKind::Array {
        node = graph.node(node.child);
    }
    Some(match node.kind {
        ValueKind::String => "string",
        ValueKind::Integer => "integer",
        ValueKind::Boolean => "boolean",
        _ => return None,
    })
}

/// ` a ` or ` an `; nothing before a plural.
fn article(noun: &str) -> &'static str {
    if noun.ends_with('s') && !noun.ends_with("ss") {
        " "
    } else if noun.starts_with(['A', 'E', 'I', 'O', 'U']) {
        " an "
    } else {
        " a "
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// The labels of a group without the one that all of Kubernetes' own share.
fn labels(r: &Resource) -> impl Iterator<Item = &str> {
    let group = if r.group.is_empty() { "core" } else { &r.group };
    group.strip_suffix(".k8s.io").unwrap_or(group).split('.')
}

/// `AppsV1`, `RbacAuthorizationV1`.
fn camel(r: &Resource) -> String {
    labels(r).chain([r.version.as_str()]).map(capital).collect()
}

/// `apps_v1`, `rbacAuthorization_v1`.
fn tag(r: &Resource) -> String {
    let mut labels = labels(r);
    let first = labels.next().unwrap_or_default().to_owned();
    format!("{}_{}", labels.fold(first, |tag, label| tag + &capital(label)), r.version)
}
