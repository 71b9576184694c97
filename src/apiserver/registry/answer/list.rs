//! The bodies of lists: made item by item, so that no list is ever in memory as values.

use apimachinery::{
    Object, Status,
    proto::{ListFrame, encode_item},
    schema::{Schema, builtin},
};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::json;

use super::{List, Representation, not_acceptable, partial_value};
use crate::{
    http::{
        accept::{Format, Media, Target},
        body::{Body, BoxError, Pieces},
    },
    registry::{modify::stored_value, scan, sparse::Wanted},
    table,
};

/// Lists of more objects are made while they are sent, without a length in front.
const WHOLE: usize = 100;
/// Encoded items are collected to pieces of this many bytes: less than what the allocator takes from
/// the kernel each time, and gives back.
const PIECE: usize = 64 << 10;

impl Representation {
    /// The body of a list of presented objects.
    ///
    /// # Errors
    /// 406 when lists have no such form.
    pub(super) async fn list(self, list: List) -> Result<Body, Status> {
        let Format { media, pretty, target, .. } = self.format;
        match (media, target) {
            (Media::Json, Target::Metadata) if !pretty => Err(not_acceptable(&format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{})",
                self.go_type(&self.endpoint.version().facts.list_kind)
            ))),
            (Media::Json, Target::Object) if !pretty => self.json(list),
            (Media::Json, Target::MetadataList) if !pretty => self.json_metadata(list),
            (Media::Json, Target::Table) if !pretty => self.json_table(list),
            (Media::Protobuf, Target::Object) => {
                let version = self.endpoint.version();
                let (api_version, kind) = (version.api_version(), &version.facts.list_kind);
                self.protobuf(&list, &api_version, kind, &version.gvk.kind).await
            }
            (Media::Protobuf, Target::Metadata | Target::MetadataList) => {
                let kind = "PartialObjectMetadata";
                let meta_version = self.format.meta_version();
                self.protobuf(&list, meta_version, "PartialObjectMetadataList", kind).await
            }
            _ => self.values(&list),
        }
    }

    /// `{"kind":…,"apiVersion":…,"metadata":…,"items":[` in front of the stored bytes.
    fn json(self, list: List) -> Result<Body, Status> {
        let version = self.endpoint.version();
        let head = list_head(&version.facts.list_kind, &version.api_version(), &list);
        let prefix = (!self.endpoint.resource.is_custom()).then(|| version.prefix.clone());
        written(head, list, move |object, out| {
            match &prefix {
                Some(prefix) => strip_type(&object.body, prefix, out),
                None => out.extend_from_slice(&object.body),
            }
            Ok(())
        })
    }

    fn json_metadata(self, list: List) -> Result<Body, Status> {
        let head = list_head("PartialObjectMetadataList", self.format.meta_version(), &list);
        written(head, list, move |object, out| {
            out.extend_from_slice(&self.partial(object)?);
            Ok(())
        })
    }

    /// A table, row by row.
    fn json_table(self, list: List) -> Result<Body, Status> {
        let mut table = self.table(Vec::new(), list.metadata());
        if let Some(fields) = table.as_object_mut() {
            fields.remove("rows");
        }
        let mut head = serde_json::to_vec(&table).map_err(Status::internal)?;
        head.pop();
        head.extend_from_slice(b",\"rows\":[");
        let wanted = match (self.include, self.endpoint.resource.is_custom()) {
            (table::Include::Object, _) | (_, true) => Wanted::default(),
            _ => Wanted::of(self.endpoint.resource.hooks.cell_paths()),
        };
        written(head, list, move |object, out| self.row(object, &wanted, out))
    }

    /// Writes the row of `object`; `wanted` are the parts that are looked at.
    fn row(&self, object: &Object, wanted: &Wanted, out: &mut BytesMut) -> Result<(), Status> {
        let value = wanted
            .read(&object.body)
            .map_err(|error| Status::internal(format!("stored object is damaged: {error}")))?;
        let cells = table::cells(&self.endpoint, &value);
        out.put_slice(b"{\"cells\":");
        serde_json::to_writer(out.writer(), &cells).map_err(Status::internal)?;
        out.put_slice(b",\"object\":");
        match self.include {
            table::Include::Metadata => out.put_slice(&self.partial(object)?),
            include => {
                let shown =
                    table::shown(&self.endpoint, value, include, self.format.meta_version());
                serde_json::to_writer(out.writer(), &shown).map_err(Status::internal)?;
            }
        }
        out.put_u8(b'}');
        Ok(())
    }

    /// A protobuf list. Its messages are in front of one another, so all items are encoded before
    /// the first byte is sent.
    async fn protobuf(
        &self,
        list: &List,
        api_version: &str,
        list_kind: &str,
        kind: &str,
    ) -> Result<Body, Status> {
        let (group, version) = apimachinery::resource::split_api_version(api_version);
        let schema: Schema = builtin(group, version, kind)
            .ok_or_else(|| Status::not_acceptable(&crate::http::accept::SUPPORTED_CUSTOM))?;
        let metadata_only = self.format.target != Target::Object;
        let mut pieces = Vec::new();
        let mut piece = Vec::with_capacity(if list.objects.len() > WHOLE { PIECE } else { 0 });
        for object in &list.objects {
            let text = if metadata_only { self.partial(object)? } else { object.body.clone() };
            encode_item(&schema, &text, &mut piece).map_err(Status::internal)?;
            if piece.len() >= PIECE {
                let next = Vec::with_capacity(PIECE + PIECE / 8);
                pieces.push(Bytes::from(std::mem::replace(&mut piece, next)));
                // Others wait for this thread.
                tokio::task::yield_now().await;
            }
        }
        pieces.push(piece.into());
        let length = pieces.iter().map(Bytes::len).sum();
        let frame = ListFrame::new(api_version, list_kind, &list.metadata(), length);
        let frame = frame.map_err(Status::internal)?;
        pieces.insert(0, frame.head.into());
        pieces.push(frame.tail.into());
        Ok(Body::Pieces(Pieces::of(pieces)))
    }

    /// The forms that people read: YAML, indented JSON.
    fn values(&self, list: &List) -> Result<Body, Status> {
        let values = list.objects.iter().map(|object| stored_value(object));
        let value = match self.format.target {
            Target::Table => {
                let values = values.collect::<Result<Vec<_>, _>>()?;
                self.table(values, list.metadata())
            }
            Target::Object => {
                let mut items = Vec::with_capacity(list.objects.len());
                for value in values {
                    let mut item = value?;
                    if !self.endpoint.resource.is_custom()
                        && let Some(fields) = item.as_object_mut()
                    {
                        fields.remove("apiVersion");
                        fields.remove("kind");
                    }
                    items.push(item);
                }
                let version = self.endpoint.version();
                json!({
                    "kind": version.facts.list_kind, "apiVersion": version.api_version(),
                    "metadata": list.metadata(), "items": items,
                })
            }
            Target::Metadata | Target::MetadataList => {
                let meta_version = self.format.meta_version();
                let mut items = Vec::with_capacity(list.objects.len());
                for value in values {
                    items.push(partial_value(&value?, meta_version));
                }
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": meta_version,
                    "metadata": list.metadata(), "items": items,
                })
            }
        };
        Ok(Body::from(self.encode(value)?))
    }
}

fn list_head(kind: &str, api_version: &str, list: &List) -> Vec<u8> {
    let metadata = list.metadata();
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":["
    )
    .into()
}

/// `head`, what `write` makes of each object, with commas between, and the end. A long list is
/// written while it is sent, so that no object is touched before its turn.
fn written(
    head: Vec<u8>,
    list: List,
    mut write: impl FnMut(&Object, &mut BytesMut) -> Result<(), Status> + Send + Sync + 'static,
) -> Result<Body, Status> {
    let whole = list.objects.len() <= WHOLE;
    let mut objects = list.objects.into_iter();
    let mut out = BytesMut::from(&*head);
    let mut ended = false;
    let mut first = true;
    let mut piece = move || -> Result<Option<Bytes>, Status> {
        while out.len() < PIECE && !ended {
            match objects.next() {
                Some(object) => {
                    if !std::mem::take(&mut first) {
                        out.put_u8(b',');
                    }
                    write(&object, &mut out)?;
                }
                None => {
                    out.put_slice(b"]}");
                    ended = true;
                }
            }
        }
        let piece = out.split().freeze();
        // What was sent meanwhile is written over.
        out.reserve(if ended { 0 } else { PIECE + PIECE / 8 });
        Ok((!piece.is_empty()).then_some(piece))
    };
    if whole {
        let mut all = BytesMut::new();
        while let Some(piece) = piece()? {
            all.extend_from_slice(&piece);
        }
        return Ok(Body::from(all.freeze()));
    }
    let pieces = std::iter::from_fn(move || piece().transpose());
    let pieces = pieces.map(|piece| piece.map_err(|status| BoxError::from(status.message)));
    Ok(Body::Pieces(Pieces::of_unknown_length(pieces)))
}

/// Writes a list item: the object without `apiVersion` and `kind`, which the list says for all.
/// `prefix` is how most objects begin.
fn strip_type(body: &[u8], prefix: &str, out: &mut BytesMut) {
    if let Some(rest) = body.strip_prefix(prefix.as_bytes()) {
        // The prefix ends with the quote that opens the next field's name.
        out.put_slice(b"{\"");
        out.put_slice(rest);
        return;
    }
    let start = out.len();
    let mut separator = b'{';
    for field in scan::fields(body) {
        if matches!(&body[field.name.clone()], b"apiVersion" | b"kind") {
            continue;
        }
        out.put_u8(separator);
        separator = b',';
        out.put_slice(&body[field.whole]);
    }
    if out.len() == start {
        // Not an object of the form that is stored: sent as it is.
        out.put_slice(body);
    } else {
        out.put_u8(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(body: &'static str) -> String {
        let prefix = r#"{"apiVersion":"v1","kind":"ConfigMap",""#;
        let mut out = BytesMut::new();
        strip_type(body.as_bytes(), prefix, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn items_are_listed_without_their_type() {
        let cases = [
            (
                r#"{"apiVersion":"v1","kind":"ConfigMap","data":{"kind":"a"}}"#,
                r#"{"data":{"kind":"a"}}"#,
            ),
            (r#"{"kind":"ConfigMap","apiVersion":"v1","data":{}}"#, r#"{"data":{}}"#),
            (
                r#"{"data":{},"kind":"ConfigMap","x":[1],"apiVersion":"v1"}"#,
                r#"{"data":{},"x":[1]}"#,
            ),
            (
                r#"{"apiVersion":"v1","kind":"ConfigMap"}"#,
                r#"{"apiVersion":"v1","kind":"ConfigMap"}"#,
            ),
            ("[]", "[]"),
        ];
        for (body, wanted) in cases {
            assert_eq!(stripped(body), wanted);
        }
    }
}
