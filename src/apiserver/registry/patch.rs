//! Patch: JSON patch, merge patch, strategic merge patch, and server-side apply.

use apimachinery::{
    GroupVersionKind, Status,
    field::{FieldError, Path},
    patch,
};
use http::header;
use serde_json::Value;

use crate::{
    http::{accept::Media, decode::Payload},
    registry::{
        Call,
        answer::Answer,
        apply::apply,
        convert,
        create::dedup_owners,
        managed, metadata,
        modify::{self, Change, Kind},
        normalize,
        options::WriteOptions,
    },
};

/// A kind of patch, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Merge,
    Strategic,
    Apply,
}

const FORMS: [(&str, Form); 4] = [
    ("application/json-patch+json", Form::Json),
    ("application/merge-patch+json", Form::Merge),
    ("application/strategic-merge-patch+json", Form::Strategic),
    ("application/apply-patch+yaml", Form::Apply),
];

fn form(call: &Call<'_>) -> Result<Form, Status> {
    let custom = call.resource().is_custom();
    let known = FORMS.iter().filter(|(_, form)| !(custom && *form == Form::Strategic));
    let text = call.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let name = text.unwrap_or("").split(';').next().unwrap_or("").trim();
    known.clone().find(|(media, _)| *media == name).map(|(_, form)| *form).ok_or_else(|| {
        Status::unsupported_media_type(&known.map(|(media, _)| *media).collect::<Vec<_>>())
    })
}

/// Answers a PATCH of an object or of one of its parts.
///
/// # Errors
/// The Status that refuses it.
pub async fn patch(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let form = form(call)?;
    let body = body.read().await?;
    let options = WriteOptions::parse(call.query, "PatchOptions")?;
    options.check_patch(form == Form::Apply)?;
    if form == Form::Apply {
        return apply(call, &body, &options).await;
    }
    let decoded = normalize::free(Media::Json, &body)
        .map_err(|why| Status::bad_request(format!("error decoding patch: {why}")))?;
    let strict = decoded.strict;
    let change =
        Change { kind: Kind::Patch, options: &options, create_if_missing: false, uid: None };
    let patcher = Patcher { form, document: decoded.value, manager: call.manager(&options) };
    modify::modify(call, &call.info.name, &change, |old| {
        let Some(old) = old else {
            return Err(Status::not_found(call.group_resource(), &call.info.name));
        };
        patcher.transform(call, old, strict.clone(), &options)
    })
    .await
}

struct Patcher {
    form: Form,
    document: Value,
    manager: String,
}

impl Patcher {
    /// The patched object in the storage version, defaulted, with managed fields.
    fn transform(
        &self,
        call: &Call<'_>,
        old: &Value,
        mut strict: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let version = call.endpoint.version();
        let mut object = convert::from_storage(&call.endpoint, old.clone())?;
        let document = self.document.clone();
        match self.form {
            Form::Json => {
                let mut patch = patch::json::JsonPatch::parse(document)?;
                strict.append(&mut patch.strict_errors);
                patch.apply(&mut object)?;
            }
            Form::Merge => patch::merge::apply(&mut object, document)?,
            _ => patch::strategic::apply(&version.schema, &mut object, document)?,
        }
        normalize::check_kind(&mut object, &version.gvk)?;
        strict.extend(version.schema.conform(&mut object).map_err(|error| {
            let path = Path::root("patch");
            let error = FieldError::invalid(&path, object.to_string(), &error.to_string());
            Status::invalid(&GroupVersionKind::new("", "", ""), "", &[error])
        })?);
        call.report(strict, options.field_validation, |why| {
            let path = Path::root("patch");
            let detail = format!("strict decoding error: {why}");
            let error = FieldError::invalid(&path, object.to_string(), &detail);
            Status::invalid(&GroupVersionKind::new("", "", ""), "", &[error])
        })?;
        finish(call, object, Some(old), &self.manager)
    }
}

/// The last steps of a patched object of the request's version.
fn finish(
    call: &Call<'_>,
    object: Value,
    old: Option<&Value>,
    manager: &str,
) -> Result<Value, Status> {
    let mut object = convert::to_storage(&call.endpoint, object)?;
    check_identity(call, &mut object)?;
    normalize::default(&call.endpoint, &mut object);
    dedup_owners(call, &mut object);
    managed::update(call, old, &mut object, manager)?;
    Ok(object)
}

/// A patch cannot move an object.
///
/// # Errors
/// 400 when name or namespace are others than those of the path.
pub fn check_identity(call: &Call<'_>, object: &mut Value) -> Result<(), Status> {
    metadata::match_namespace(object, call.namespace())?;
    let (given, name) = (metadata::name(object), &call.info.name);
    if given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}
