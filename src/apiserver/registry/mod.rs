//! The registry: every verb of the API, once for all resources.
//!
//! A resource is a row of the [`builtin`] table or a custom definition; its schema says what its
//! objects hold, its hooks what a schema cannot say. Each verb is a file here.

pub mod answer;
pub mod apply;
pub mod builtin;
pub mod catalog;
pub mod convert;
pub mod create;
pub mod delete;
pub mod delete_collection;
pub mod direct;
pub mod get;
pub mod list;
pub mod managed;
pub mod metadata;
pub mod modify;
pub mod normalize;
pub mod options;
pub mod page;
pub mod parts;
pub mod patch;
pub mod resource;
pub mod resources;
pub mod scan;
pub mod selection;
pub mod sparse;
pub mod update;
pub mod watch;

use std::sync::{Mutex, PoisonError};

use apimachinery::{
    GroupResource, GroupVersionKind, Key, Status,
    field::FieldError,
    schema::{Schema, internal},
};
use http::{HeaderMap, header};
use serde_json::Value;
use storage::Collection;

use crate::{
    Shared,
    admission::{AdmissionRequest, Operation},
    http::{
        accept::Format,
        decode::{self, Payload},
        info::Rest,
        query::Query,
    },
    kinds::Context,
    registry::{
        options::{FieldValidation, WriteOptions},
        resource::{Endpoint, Resource},
    },
    request::{RequestInfo, UserInfo},
};

/// One request on a resource.
pub struct Call<'a> {
    /// The server.
    pub server: &'a Shared,
    /// The resource and version that the path names.
    pub endpoint: Endpoint,
    /// Who asks.
    pub user: &'a UserInfo,
    /// What is asked.
    pub info: &'a RequestInfo,
    /// What the path holds beyond that.
    pub rest: &'a Rest,
    /// The query.
    pub query: &'a Query<'a>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// In which form the answer goes out.
    pub format: Format,
    /// What the client is warned of.
    pub warnings: Warnings,
}

/// Warnings for the client, each once, in the order they came up.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds a warning.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() && !all.contains(&text) {
            all.push(text);
        }
    }

    /// Takes all of them.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<'a> Call<'a> {
    /// The resource.
    pub fn resource(&self) -> &Resource {
        &self.endpoint.resource
    }

    /// Its name for messages.
    pub fn group_resource(&self) -> &GroupResource {
        &self.endpoint.resource.group_resource
    }

    /// The stored objects.
    ///
    /// # Errors
    /// 405 where nothing is stored.
    pub fn collection(&self) -> Result<&Collection, Status> {
        let collection = self.endpoint.resource.collection.as_ref();
        collection.ok_or_else(|| Status::method_not_allowed(self.group_resource(), &self.info.verb))
    }

    /// The namespace that objects of this request live in; empty for cluster-scoped resources, also
    /// for namespaces themselves, whose path names one.
    pub fn namespace(&self) -> &'a str {
        if self.endpoint.resource.namespaced { &self.info.namespace } else { "" }
    }

    /// The key of the object called `name`.
    pub fn key(&self, name: &str) -> Key {
        Key::new(self.namespace(), name)
    }

    /// Who stands for the fields that this request writes.
    pub fn manager(&self, options: &WriteOptions) -> String {
        let agent = self.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        options.manager(agent.unwrap_or_default())
    }

    /// The kind that an invalid object is said to be of: an Event is one of the core group
    /// wherever it comes from.
    pub fn blamed_kind(&self) -> GroupVersionKind {
        let mut kind = self.endpoint.version().gvk.clone();
        if &*kind.group == "events.k8s.io" {
            kind.group = "".into();
        }
        kind
    }

    /// What a client is told of an object that is not valid.
    pub fn refuse(&self, name: &str, mut errors: Vec<FieldError>) -> Status {
        let resource = self.resource();
        if !resource.is_custom() {
            internal::show_errors(&resource.storage, &mut errors);
        }
        // Declarative validation, which all kinds but these have, says everything once.
        let declarative =
            !matches!(&*resource.storage.group, "apiextensions.k8s.io" | "apiregistration.k8s.io");
        if declarative && !resource.is_custom() {
            let mut seen: Vec<FieldError> = Vec::with_capacity(errors.len());
            for error in errors {
                if !seen.contains(&error) {
                    seen.push(error);
                }
            }
            errors = seen;
        }
        Status::invalid(&self.blamed_kind(), name, &errors)
    }

    /// What hooks are told.
    pub fn context(&self, dry_run: bool) -> Context<'_> {
        Context {
            user: self.user,
            group: &self.info.group,
            subresource: &self.info.subresource,
            dry_run,
            server: self.server,
        }
    }

    /// What admission is told.
    pub fn admission<'b>(
        &'b self,
        operation: Operation,
        kind: &'b GroupVersionKind,
        old: Option<&'b Value>,
        dry_run: bool,
        options: &'b Value,
    ) -> AdmissionRequest<'b> {
        AdmissionRequest {
            user: self.user,
            info: self.info,
            operation,
            kind,
            old,
            dry_run,
            options,
        }
    }

    /// Reads the object that a create or update sends, in the version of the request.
    ///
    /// # Errors
    /// 400 for what is not such an object, 413, 415.
    pub async fn read_object(
        &self,
        body: Payload,
        validation: FieldValidation,
        kind: &GroupVersionKind,
        schema: &Schema,
    ) -> Result<Value, Status> {
        let media = decode::media_type(self.headers, !self.resource().is_custom())?;
        let body = body.read().await?;
        let decoded = normalize::object(media, &body, kind, schema)?;
        self.report(decoded.strict, validation, |why| {
            Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {why}",
                kind.kind, &*kind.version, kind.kind
            ))
        })?;
        Ok(decoded.value)
    }

    /// Does with strict decoding errors what the client asked for.
    ///
    /// # Errors
    /// What `error` makes of them, where they are to be errors.
    pub fn report(
        &self,
        strict: Vec<String>,
        validation: FieldValidation,
        error: impl FnOnce(&str) -> Status,
    ) -> Result<(), Status> {
        match validation {
            _ if strict.is_empty() => Ok(()),
            FieldValidation::Ignore => Ok(()),
            FieldValidation::Warn => {
                strict.into_iter().for_each(|warning| self.warnings.add(warning));
                Ok(())
            }
            FieldValidation::Strict => Err(error(&strict.join(", "))),
        }
    }
}
