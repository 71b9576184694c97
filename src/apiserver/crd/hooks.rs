//! The rules of CustomResourceDefinitions themselves.

use apimachinery::{
    field::{FieldError, Path},
    names, schema,
};
use serde_json::{Value, json};

use super::{approval, conditions, conversion, rules};
use crate::{
    kinds::{Context, Hooks},
    table::jsonpath,
};

/// The hooks of `customresourcedefinitions`.
pub struct CustomResourceDefinition;

type Errors = Vec<FieldError>;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Hooks for CustomResourceDefinition {
    fn default(&self, object: &mut Value) {
        let spec = &mut object["spec"];
        if !spec.is_object() {
            return;
        }
        let kind = text(&spec["names"], "kind").to_owned();
        let names = &mut spec["names"];
        if names.is_object() && !kind.is_empty() {
            if text(names, "singular").is_empty() {
                names["singular"] = kind.to_lowercase().into();
            }
            if text(names, "listKind").is_empty() {
                names["listKind"] = format!("{kind}List").into();
            }
        }
        if spec["conversion"].is_null() {
            spec["conversion"] = json!({ "strategy": "None" });
        }
        if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service")
            && service.is_object()
            && service["port"].is_null()
        {
            service["port"] = 443.into();
        }
    }

    fn prepare_create(&self, _context: &Context<'_>, object: &mut Value) {
        let stored: Vec<Value> = list(&object["spec"], "versions")
            .iter()
            .filter(|version| version["storage"] == true)
            .map(|version| version["name"].clone())
            .take(1)
            .collect();
        object["status"] = json!({
            "conditions": null, "acceptedNames": { "plural": "", "kind": "" },
            "storedVersions": stored,
        });
    }

    fn prepare_update(&self, context: &Context<'_>, _old: &Value, new: &mut Value) {
        if !context.subresource.is_empty() {
            return;
        }
        let stored = list(&new["spec"], "versions").iter().find(|v| v["storage"] == true);
        let Some(stored) = stored.map(|version| version["name"].clone()) else { return };
        let status = &mut new["status"];
        if status.is_object() && !list(status, "storedVersions").contains(&stored) {
            match status["storedVersions"].as_array_mut() {
                Some(all) => all.push(stored),
                None => status["storedVersions"] = json!([stored]),
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, object: &Value) -> Errors {
        let mut errors = Errors::new();
        let (name, spec) = (text(&object["metadata"], "name"), &object["spec"]);
        let required = format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group"));
        if !name.is_empty() && name != required {
            let path = Path::root("metadata").child("name");
            let detail = r#"must be spec.names.plural+"."+spec.group"#;
            errors.push(FieldError::invalid(&path, name, detail));
        }
        validate_spec(spec, None, &mut errors);
        validate_stored(object, &mut errors);
        approval::validate(object, None, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Errors {
        let mut errors = Errors::new();
        if !context.subresource.is_empty() {
            return errors;
        }
        let (was, spec) = (&old["spec"], &new["spec"]);
        validate_spec(spec, Some(was), &mut errors);
        let path = Path::root("spec");
        let mut immutable = |path: Path, was: &Value, is: &Value| {
            if was != is {
                errors.push(FieldError::invalid(&path, is.clone(), "field is immutable"));
            }
        };
        if conditions::is_true(old, "Established") {
            immutable(path.child("scope"), &was["scope"], &spec["scope"]);
            let kind = path.child("names").child("kind");
            immutable(kind, &was["names"]["kind"], &spec["names"]["kind"]);
        }
        immutable(path.child("group"), &was["group"], &spec["group"]);
        let plural = path.child("names").child("plural");
        immutable(plural, &was["names"]["plural"], &spec["names"]["plural"]);
        validate_stored(new, &mut errors);
        approval::validate(new, Some(old), &mut errors);
        errors
    }
}

fn validate_spec(spec: &Value, old: Option<&Value>, errors: &mut Errors) {
    let path = Path::root("spec");
    let group = text(spec, "group");
    if group.is_empty() {
        errors.push(FieldError::required(&path.child("group"), ""));
    } else {
        let wrong = names::dns1123_subdomain(group);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&path.child("group"), group, &wrong.join(",")));
        } else if !group.contains('.') {
            let detail = "should be a domain with at least one dot";
            errors.push(FieldError::invalid(&path.child("group"), group, detail));
        }
    }
    match text(spec, "scope") {
        "Cluster" | "Namespaced" => {}
        "" => errors.push(FieldError::required(&path.child("scope"), "")),
        other => {
            let supported = ["Cluster", "Namespaced"];
            errors.push(FieldError::not_supported(&path.child("scope"), other, &supported));
        }
    }
    if spec["preserveUnknownFields"] == true {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&path.child("preserveUnknownFields"), true, detail));
    }
    let versions_path = path.child("versions");
    let versions = list(spec, "versions");
    let shared = Shared::of(versions);
    let mut seen: Vec<&str> = Vec::new();
    for (at, version) in versions.iter().enumerate() {
        validate_version(version, old, &shared, &versions_path.index(at), errors);
        seen.push(text(version, "name"));
    }
    let all = || spec["versions"].clone();
    seen.sort_unstable();
    if seen.windows(2).any(|pair| pair[0] == pair[1]) {
        let detail = "must contain unique version names";
        errors.push(FieldError::invalid(&versions_path, all(), detail));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&versions_path, all(), detail));
    }
    if let Some(first) = versions.first()
        && !text(first, "name").is_empty()
    {
        version_name(first, &path.child("version"), errors);
    }
    validate_names(&spec["names"], &path.child("names"), errors);
    if let Some(first) = versions.first() {
        validate_shared(first, versions, old, &shared, &path, errors);
    }
    conversion::validate(&spec["conversion"], &path.child("conversion"), errors);
}

/// What all versions say alike. Upstream's internal form has that once for all of them, and so
/// do its messages.
struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Shared {
    fn of(versions: &[Value]) -> Self {
        let alike = |field: &str| {
            let said = |version: &Value| match version.get(field) {
                Some(Value::Array(list)) if list.is_empty() => Value::Null,
                other => other.cloned().unwrap_or_default(),
            };
            versions.windows(2).all(|pair| said(&pair[0]) == said(&pair[1]))
        };
        Self {
            schema: alike("schema"),
            subresources: alike("subresources"),
            columns: alike("additionalPrinterColumns"),
            selectable: alike("selectableFields"),
        }
    }
}

fn version_name(version: &Value, path: &Path, errors: &mut Errors) {
    let name = text(version, "name");
    let wrong = names::dns1035_label(name);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, name, &wrong.join(",")));
    }
}

/// Whether the schema of a version is the one that it has had.
fn unchanged(version: &Value, old: Option<&Value>) -> bool {
    let mut before = old.into_iter().flat_map(|old| list(old, "versions"));
    before.any(|old| old["name"] == version["name"] && old["schema"] == version["schema"])
}

fn validate_shared(
    first: &Value,
    versions: &[Value],
    old: Option<&Value>,
    shared: &Shared,
    path: &Path,
    errors: &mut Errors,
) {
    let open_api = &first["schema"]["openAPIV3Schema"];
    if shared.schema && !open_api.is_null() {
        let path = path.child("validation").child("openAPIV3Schema");
        let status = versions.iter().any(|version| version["subresources"]["status"].is_object());
        validate_schema(open_api, &path, status, unchanged(first, old), errors);
    }
    if shared.subresources {
        validate_subresources(&first["subresources"], &path.child("subresources"), errors);
    }
    if shared.columns {
        validate_columns(first, path, errors);
    }
    if shared.selectable {
        selectable_fields(first, &path.child("selectableFields"), errors);
    }
}

fn validate_version(
    version: &Value,
    old: Option<&Value>,
    shared: &Shared,
    path: &Path,
    errors: &mut Errors,
) {
    version_name(version, &path.child("name"), errors);
    if let Some(warning) = version["deprecationWarning"].as_str() {
        let path = path.child("deprecationWarning");
        let mut wrong = |detail: &str| errors.push(FieldError::invalid(&path, warning, detail));
        if version["deprecated"] != true {
            wrong("can only be set for deprecated versions");
        } else if warning.is_empty() {
            wrong("must not be an empty string");
        } else if warning.len() > 256 {
            wrong("must be <= 256 characters long");
        } else if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            wrong(&format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    }
    let schema_path = path.child("schema").child("openAPIV3Schema");
    let open_api = &version["schema"]["openAPIV3Schema"];
    if open_api.is_null() {
        errors.push(FieldError::required(&schema_path, ""));
    } else if !shared.schema {
        let status = version["subresources"]["status"].is_object();
        validate_schema(open_api, &schema_path, status, unchanged(version, old), errors);
    }
    if !shared.subresources {
        validate_subresources(&version["subresources"], &path.child("subresources"), errors);
    }
    if !shared.columns {
        validate_columns(version, path, errors);
    }
    if !shared.selectable {
        selectable_fields(version, &path.child("selectableFields"), errors);
    }
}

fn validate_columns(version: &Value, path: &Path, errors: &mut Errors) {
    for (at, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
        validate_column(column, &path.child("additionalPrinterColumns").index(at), errors);
    }
}

/// Fields that objects can be selected by.
fn selectable_fields(version: &Value, path: &Path, errors: &mut Errors) {
    const MOST: usize = 8;
    let open_api = &version["schema"]["openAPIV3Schema"];
    let all = list(version, "selectableFields");
    if open_api.is_null() {
        if !all.is_empty() {
            let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(FieldError::invalid(path, "", detail));
        }
        return;
    }
    let mut seen = Vec::new();
    for (at, field) in all.iter().enumerate() {
        let (path, field) = (path.index(at).child("jsonPath"), text(field, "jsonPath"));
        if field.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let steps = match rules::selectable(field, open_api) {
            Ok((steps, kind)) => {
                if steps.first().is_some_and(|step| step == "metadata") {
                    let detail = "must not point to fields in metadata";
                    errors.push(FieldError::invalid(&path, field, detail));
                }
                if !matches!(kind, "string" | "boolean" | "integer") {
                    let detail = "must point to a field of type string, boolean or integer. Enum \
                                  string fields and strings with formats are allowed.";
                    errors.push(FieldError::invalid(&path, field, detail));
                }
                steps
            }
            Err(why) => {
                let detail = format!("is an invalid path: {why}");
                errors.push(FieldError::invalid(&path, field, &detail));
                continue;
            }
        };
        if seen.contains(&steps) {
            errors.push(FieldError::duplicate(&path, field));
        } else {
            seen.push(steps);
        }
    }
    if seen.len() > MOST {
        errors.push(FieldError::too_many(path, seen.len(), MOST));
    }
}

/// `status`: objects have a status of their own. `old`: the schema is that of before.
fn validate_schema(open_api: &Value, path: &Path, status: bool, old: bool, errors: &mut Errors) {
    let kind = text(open_api, "type");
    if status {
        if !kind.is_empty() && kind != "object" {
            let detail = "only \"object\" is allowed as the type at the root of the schema if the \
                          status subresource is enabled";
            errors.push(FieldError::invalid(&path.child("type"), kind, detail));
        }
        // With a status subresource only these may stand at the root.
        let allowed = |name: &str| {
            matches!(
                name,
                "description"
                    | "type"
                    | "format"
                    | "title"
                    | "maximum"
                    | "exclusiveMaximum"
                    | "minimum"
                    | "exclusiveMinimum"
                    | "maxLength"
                    | "minLength"
                    | "pattern"
                    | "maxItems"
                    | "minItems"
                    | "uniqueItems"
                    | "multipleOf"
                    | "required"
                    | "enum"
                    | "items"
                    | "properties"
                    | "externalDocs"
                    | "example"
            ) || name.starts_with("x-kubernetes-")
        };
        if let Some(wrong) = open_api.as_object().and_then(|map| map.keys().find(|k| !allowed(k))) {
            let detail = format!(
                "only [\"properties\" \"required\" \"description\" ...] fields are allowed at the \
                 root of the schema if the status subresource is enabled: {wrong}"
            );
            errors.push(FieldError::invalid(path, open_api.clone(), &detail));
        }
    }
    if open_api["nullable"] == true {
        let detail = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    let mut found = schema::crd_schema_errors(open_api, path);
    let of_rules = rules::errors(open_api, path, old);
    // Where a rule points to is a matter of the schema; what it says is looked at only where the
    // schema that it is of has nothing wrong in it.
    let (places, rules): (Errors, Errors) =
        of_rules.into_iter().partition(|error| error.path.as_str().ends_with(".fieldPath"));
    found.extend(places);
    if !schema::structural_errors(open_api, path).is_empty() {
        errors.extend(found);
        return;
    }
    let sound = |error: &FieldError| {
        let whole = error.path.as_str();
        let of = whole.rsplit_once(".x-kubernetes-validations").map_or(whole, |(of, _)| of);
        !found.iter().any(|wrong| wrong.path.as_str().starts_with(of))
    };
    let rules: Errors = rules.into_iter().filter(sound).collect();
    errors.extend(found);
    errors.extend(rules);
}

fn validate_subresources(given: &Value, path: &Path, errors: &mut Errors) {
    let scale = &given["scale"];
    if !scale.is_object() {
        return;
    }
    let path = path.child("scale");
    let mut check = |field: &str, roots: &[&str], required: bool, names: &str| {
        let path = path.child(field);
        match text(scale, field) {
            "" if required => errors.push(FieldError::required(&path, "")),
            "" => {}
            value => {
                let plain = value.starts_with('.') && !value.contains('[') && !value.ends_with('.');
                if !plain || value.contains("..") {
                    let detail = "must be a simple json path starting with .";
                    errors.push(FieldError::invalid(&path, value, detail));
                } else if !roots.iter().any(|root| value.starts_with(root)) {
                    let detail = format!("should be a json path under {names}");
                    errors.push(FieldError::invalid(&path, value, &detail));
                }
            }
        }
    };
    check("specReplicasPath", &[".spec."], true, ".spec");
    check("statusReplicasPath", &[".status."], true, ".status");
    check("labelSelectorPath", &[".status.", ".spec."], false, "either .status or .spec");
}

fn validate_column(column: &Value, path: &Path, errors: &mut Errors) {
    const TYPES: &str = "boolean,date,integer,number,string";
    const FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";
    if text(column, "name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let kind = text(column, "type");
    let detail = format!("must be one of {TYPES}");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), &detail));
    } else if !TYPES.split(',').any(|known| known == kind) {
        errors.push(FieldError::invalid(&path.child("type"), kind, &detail));
    }
    let format = text(column, "format");
    if !format.is_empty() && !FORMATS.split(',').any(|known| known == format) {
        let detail = format!("must be one of {FORMATS}");
        errors.push(FieldError::invalid(&path.child("format"), format, &detail));
    }
    let path = path.child("JSONPath");
    match text(column, "jsonPath") {
        "" => errors.push(FieldError::required(&path, "")),
        wrong if !wrong.starts_with('.') || !jsonpath::is_valid(wrong) => {
            let detail = "must be a simple json path starting with .";
            errors.push(FieldError::invalid(&path, wrong, detail));
        }
        _ => {}
    }
}

fn validate_names(given: &Value, path: &Path, errors: &mut Errors) {
    for (field, cased) in
        [("plural", false), ("singular", false), ("kind", true), ("listKind", true)]
    {
        let name = text(given, field);
        if name.is_empty() {
            errors.push(FieldError::required(&path.child(field), ""));
            continue;
        }
        let wrong = match cased {
            true => names::dns1035_label(&name.to_lowercase()),
            false => names::dns1035_label(name),
        };
        if !wrong.is_empty() {
            let detail = match cased {
                true => {
                    format!("may have mixed case, but should otherwise match: {}", wrong.join(","))
                }
                false => wrong.join(","),
            };
            errors.push(FieldError::invalid(&path.child(field), name, &detail));
        }
    }
    for field in ["shortNames", "categories"] {
        for (at, name) in list(given, field).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            let wrong = names::dns1035_label(name);
            if !wrong.is_empty() {
                let path = path.child(field).index(at);
                errors.push(FieldError::invalid(&path, name, &wrong.join(",")));
            }
        }
    }
    let kind = text(given, "kind");
    if !kind.is_empty() && kind == text(given, "listKind") {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), kind, detail));
    }
}

fn validate_stored(object: &Value, errors: &mut Errors) {
    let path = Path::root("status").child("storedVersions");
    let stored = list(&object["status"], "storedVersions");
    if stored.is_empty() {
        let detail = "must have at least one stored version";
        errors.push(FieldError::invalid(&path, Value::Null, detail));
        return;
    }
    let versions = list(&object["spec"], "versions");
    for (at, version) in versions.iter().enumerate() {
        // A version of that name that is before this one is the stored one.
        let again = versions[..at].iter().any(|before| before["name"] == version["name"]);
        if version["storage"] == true && (again || !stored.contains(&version["name"])) {
            let detail = format!("must have the storage version {}", text(version, "name"));
            errors.push(FieldError::invalid(&path, stored.to_vec(), &detail));
        }
    }
    for (at, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            let name = name.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {name} was previously a storage version, and must \
                 remain in spec.versions until a storage migration ensures no data remains \
                 persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(at), name, &detail));
        }
    }
}
