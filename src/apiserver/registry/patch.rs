//! Patch: JSON patch, merge patch, strategic merge patch, and server-side apply.

use apimachinery::{
    GroupVersionKind, Status,
    field::{FieldError, Path},
    go_value, patch,
    schema::Schema,
};
use bytes::Bytes;
use http::header;
use serde_json::Value;

use crate::{
    http::{accept::Media, decode::Payload},
    registry::{
        Call,
        answer::Answer,
        apply::apply,
        metadata,
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
        // Upstream's router answers before its handler could name what is supported.
        Status::generic(415, "UnsupportedMediaType", "415: Unsupported Media Type")
    })
}

/// Answers a PATCH of an object or of one of its parts.
///
/// # Errors
/// The Status that refuses it.
pub async fn patch(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    if form(call)? == Form::Apply {
        let (body, options) = read(call, body, true).await?;
        return apply(call, &body, &options).await;
    }
    let (patcher, options) = Patcher::read(call, body).await?;
    let change = Change {
        kind: Kind::Patch,
        options: &options,
        create_if_missing: false,
        uid: None,
        manager: Some(call.manager(&options)),
    };
    let version = call.endpoint.version();
    modify::modify(call, &call.info.name, &change, |old| {
        let Some(old) = old else {
            return Err(Status::not_found(call.group_resource(), &call.info.name));
        };
        let mut object = patcher.apply(call, old, &version.schema, &version.gvk, &options)?;
        check_identity(call, &mut object)?;
        Ok(object)
    })
    .await
}

async fn read(
    call: &Call<'_>,
    body: Payload,
    apply: bool,
) -> Result<(Bytes, WriteOptions), Status> {
    let body = body.read().await?;
    let options = WriteOptions::parse(call.query, "PatchOptions")?;
    options.check_patch(apply)?;
    Ok((body, options))
}

/// A patch that has been read.
pub struct Patcher {
    form: Form,
    document: Value,
    strict: Vec<String>,
}

impl Patcher {
    /// Reads the patch and its options. An applied configuration counts as a merge patch here, for
    /// parts of objects that have no managed fields of their own.
    ///
    /// # Errors
    /// 400, 413 or 415 for what cannot be read, 422 for bad options.
    pub async fn read(call: &Call<'_>, body: Payload) -> Result<(Self, WriteOptions), Status> {
        let form = form(call)?;
        let (body, options) = read(call, body, form == Form::Apply).await?;
        let media = if form == Form::Apply { Media::Yaml } else { Media::Json };
        let decoded =
            normalize::free(media, &body).map_err(|_| Status::bad_request("invalid JSON patch"))?;
        Ok((Self { form, document: decoded.value, strict: decoded.strict }, options))
    }

    /// `object`, which is of this kind and schema, with the patch.
    ///
    /// # Errors
    /// 400 or 422 for a patch that does not fit.
    pub fn apply(
        &self,
        call: &Call<'_>,
        object: &Value,
        schema: &Schema,
        kind: &GroupVersionKind,
        options: &WriteOptions,
    ) -> Result<Value, Status> {
        let mut strict = self.strict.clone();
        let mut patched = self.patch(object, schema, &mut strict)?;
        normalize::check_kind(&mut patched, kind)?;
        let invalid = |why: &str| {
            // As it was before the schema was held against it.
            let shown = match self.form {
                Form::Strategic => go_value(&self.document),
                _ => self.patch(object, schema, &mut Vec::new()).unwrap_or_default().to_string(),
            };
            let error = FieldError::invalid(&Path::root("patch"), shown, why);
            Status::invalid(&GroupVersionKind::new("", "", ""), "", &[error])
        };
        match schema.conform(&mut patched) {
            Ok(found) => strict.extend(found),
            Err(error) => return Err(invalid(&error.to_string())),
        }
        call.report(strict, options.field_validation, |why| {
            invalid(&format!("strict decoding error: {why}"))
        })?;
        Ok(patched)
    }

    fn patch(
        &self,
        object: &Value,
        schema: &Schema,
        strict: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let (mut object, document) = (object.clone(), self.document.clone());
        match self.form {
            Form::Json => {
                let mut patch = patch::json::JsonPatch::parse(document)?;
                strict.append(&mut patch.strict_errors);
                patch.apply(&mut object)?;
            }
            Form::Strategic => patch::strategic::apply(schema, &mut object, document)?,
            Form::Merge | Form::Apply => patch::merge::apply(&mut object, document)?,
        }
        Ok(object)
    }
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
