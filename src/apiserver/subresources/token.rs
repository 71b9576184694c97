//! `serviceaccounts/token`: a token for a service account.

use apimachinery::{GroupVersionKind, Status, schema};
use serde_json::{Value, json};

use crate::{
    admission::{self, Operation},
    authentication::token_request,
    http::decode::Payload,
    registry::{
        Call,
        answer::{Answer, Content},
        metadata,
        options::WriteOptions,
    },
};

/// Answers a TokenRequest.
///
/// # Errors
/// 404 for an unknown account, 422 for a malformed request.
pub(super) async fn request(call: &Call<'_>, body: Payload) -> Result<Answer, Status> {
    let options = WriteOptions::parse(call.query, "CreateOptions")?;
    let kind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let schema = schema::builtin("authentication.k8s.io", "v1", "TokenRequest")
        .ok_or_else(|| Status::internal("no TokenRequest schema"))?;
    let mut request = call.read_object(body, options.field_validation, &kind, &schema).await?;
    schema.default_values(&mut request);
    let name = &call.info.name;
    let account = call
        .collection()?
        .get(&call.key(name))
        .ok_or_else(|| Status::not_found(call.group_resource(), name))?;
    token_request::prepare(&call.server.authenticator.tokens, &account, &mut request)?;
    let raw = options.to_value("CreateOptions");
    let attributes = call.admission(Operation::Create, &kind, None, options.dry_run, &raw);
    let mut warnings = admission::mutate(call.server, &attributes, &mut request).await?;
    warnings.extend(admission::validate(call.server, &attributes, &request).await?);
    warnings.into_iter().for_each(|warning| call.warnings.add(warning));
    let fields = metadata::of(&mut request);
    fields.insert("name".into(), (*account.key.name).into());
    fields.insert("namespace".into(), (*account.key.namespace).into());
    fields.insert("creationTimestamp".into(), apimachinery::time::now().into());
    if options.dry_run {
        request["status"] = json!({ "token": "", "expirationTimestamp": Value::Null });
        return Ok(Answer::created(Content::Other(request)));
    }
    let issued = token_request::issue(call.server, &account, request)?;
    Ok(Answer::created(Content::Other(issued)))
}
