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
/// Encoded items are collected to pieces of this many bytes.
const PIECE: usize = 128 << 10;

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
            (Media::Json, Target::Object) if !pretty => Ok(self.json(&list)),
            (Media::Json, Target::MetadataList) if !pretty => self.json_metadata(&list),
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
    fn json(&self, list: &List) -> Body {
        let version = self.endpoint.version();
        let head = list_head(&version.facts.list_kind, &version.api_version(), list);
        let strip = !self.endpoint.resource.is_custom();
        let mut pieces: Vec<Bytes> = Vec::with_capacity(list.objects.len() * 2 + 2);
        pieces.push(head);
        for (at, object) in list.objects.iter().enumerate() {
            if at > 0 {
                pieces.push(Bytes::from_static(b","));
            }
            if strip {
                strip_type(&object.body, &version.prefix, &mut pieces);
            } else {
                pieces.push(object.body.clone());
            }
        }
        joined(pieces)
    }

    fn json_metadata(&self, list: &List) -> Result<Body, Status> {
        let meta_version = self.format.meta_version();
        let mut pieces = Vec::with_capacity(list.objects.len() * 2 + 2);
        pieces.push(list_head("PartialObjectMetadataList", meta_version, list));
        for (at, object) in list.objects.iter().enumerate() {
            if at > 0 {
                pieces.push(Bytes::from_static(b","));
            }
            pieces.push(self.partial(object)?);
        }
        Ok(joined(pieces))
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
        let whole = list.objects.len() <= WHOLE;
        let mut objects = list.objects.into_iter();
        let wanted = match (self.include, self.endpoint.resource.is_custom()) {
            (table::Include::Object, _) | (_, true) => Wanted::default(),
            _ => Wanted::of(self.endpoint.resource.hooks.cell_paths()),
        };
        let mut separator = "";
        let rows = std::iter::from_fn(move || {
            let mut piece = BytesMut::new();
            while piece.len() < PIECE
                && let Some(object) = objects.next()
            {
                piece.put_slice(separator.as_bytes());
                separator = ",";
                if let Err(status) = self.row(&object, &wanted, &mut piece) {
                    return Some(Err(BoxError::from(status.message)));
                }
            }
            (!piece.is_empty()).then(|| Ok(piece.freeze()))
        });
        let end = |bytes: Vec<u8>| std::iter::once(Ok(Bytes::from(bytes)));
        let pieces = end(head).chain(rows).chain(end(b"]}".to_vec()));
        if whole {
            let pieces = pieces.collect::<Result<Vec<Bytes>, _>>().map_err(Status::internal)?;
            return Ok(Body::from(pieces.concat()));
        }
        Ok(Body::Pieces(Pieces::of_unknown_length(pieces)))
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

fn list_head(kind: &str, api_version: &str, list: &List) -> Bytes {
    let metadata = list.metadata();
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\"items\":["
    )
    .into()
}

fn joined(mut pieces: Vec<Bytes>) -> Body {
    pieces.push(Bytes::from_static(b"]}"));
    Body::Pieces(Pieces::of(pieces))
}

/// Pushes the bytes of a list item: those of the object without `apiVersion` and `kind`, which the
/// list says for all. `prefix` is how most objects begin.
fn strip_type(body: &Bytes, prefix: &str, pieces: &mut Vec<Bytes>) {
    if body.starts_with(prefix.as_bytes()) {
        pieces.push(Bytes::from_static(b"{"));
        // The prefix ends with the quote that opens the next field's name.
        pieces.push(body.slice(prefix.len() - 1..));
        return;
    }
    let start = pieces.len();
    let mut first = true;
    pieces.push(Bytes::from_static(b"{"));
    for field in scan::fields(body) {
        if matches!(&body[field.name.clone()], b"apiVersion" | b"kind") {
            continue;
        }
        if !first {
            pieces.push(Bytes::from_static(b","));
        }
        first = false;
        pieces.push(body.slice(field.whole));
    }
    if first {
        // Not an object of the form that is stored: sent as it is.
        pieces.truncate(start);
        pieces.push(body.clone());
    } else {
        pieces.push(Bytes::from_static(b"}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(body: &'static str) -> String {
        let prefix = r#"{"apiVersion":"v1","kind":"ConfigMap",""#;
        let mut pieces = Vec::new();
        strip_type(&Bytes::from_static(body.as_bytes()), prefix, &mut pieces);
        String::from_utf8(pieces.concat()).unwrap()
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
