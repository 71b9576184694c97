//! Kubernetes' protobuf form of objects (`application/vnd.kubernetes.protobuf`), driven by the
//! schema table: kubectl and helm send built-in kinds in it, controllers read them in it.
//!
//! An object is `k8s\0` and a `runtime.Unknown` message, which names the kind and holds the
//! object's own message. A watch is a stream of length-prefixed `WatchEvent` messages.

mod decode;
mod encode;
#[cfg(test)]
mod tests;
mod transcode;
pub(crate) mod wire;

use serde_json::Value;

use crate::{
    resource::split_api_version,
    schema::{Schema, builtin},
};

/// What every object in protobuf starts with.
pub const MAGIC: &[u8; 4] = b"k8s\0";

/// Why bytes are not an object, or a value cannot be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// The bytes do not start with `k8s\0`.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Prefix,
    /// The message ends before the value that it announces.
    #[error("unexpected EOF")]
    Truncated,
    /// A varint of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A wire type that does not fit the field, or does not exist.
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WireType {
        /// The field's JSON name, or its number where it has none.
        field: String,
        /// The wire type found.
        wire_type: u8,
    },
    /// Messages are nested too deep.
    #[error("proto: exceeded max depth")]
    Depth,
    /// A value that its type cannot hold, such as a quantity that is none.
    #[error("{field}: {message}")]
    Value {
        /// The field's JSON name.
        field: String,
        /// Why, in the words of the type.
        message: String,
    },
    /// The kind is not built in, and only built-in kinds have a protobuf form.
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind {
        /// The apiVersion named.
        api_version: String,
        /// The kind named.
        kind: String,
    },
}

/// A `runtime.Unknown` message: an object of a named kind, still encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Envelope<'a> {
    /// Such as `apps/v1`; empty where the sender leaves it to the URL.
    pub api_version: &'a str,
    /// Such as `Deployment`; empty where the sender leaves it to the URL.
    pub kind: &'a str,
    /// The object's own message.
    pub raw: &'a [u8],
    /// The encoding of `raw`; empty for none.
    pub content_encoding: &'a str,
    /// The media type of `raw`; empty for protobuf.
    pub content_type: &'a str,
}

impl<'a> Envelope<'a> {
    /// Reads `k8s\0` and the message behind it.
    pub fn open(bytes: &'a [u8]) -> Result<Envelope<'a>, ProtoError> {
        let message = bytes.strip_prefix(MAGIC).ok_or(ProtoError::Prefix)?;
        let mut envelope = Envelope::default();
        let mut reader = wire::Reader::new(message);
        while let Some((number, value)) = reader.next()? {
            match number {
                1 => {
                    let mut meta = wire::Reader::new(value.bytes("typeMeta")?);
                    while let Some((number, value)) = meta.next()? {
                        match number {
                            1 => envelope.api_version = value.text("apiVersion")?,
                            2 => envelope.kind = value.text("kind")?,
                            _ => {}
                        }
                    }
                }
                2 => envelope.raw = value.bytes("raw")?,
                3 => envelope.content_encoding = value.text("contentEncoding")?,
                4 => envelope.content_type = value.text("contentType")?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// Writes `k8s\0` and the message.
    pub fn seal(&self) -> Vec<u8> {
        let mut out = Self::head(self.api_version, self.kind);
        out.reserve(self.raw.len() + 64);
        wire::bytes(&mut out, 2, self.raw);
        wire::bytes(&mut out, 3, self.content_encoding.as_bytes());
        wire::bytes(&mut out, 4, self.content_type.as_bytes());
        out
    }

    fn head(api_version: &str, kind: &str) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        wire::message(&mut out, 1, |out| {
            wire::bytes(out, 1, api_version.as_bytes());
            wire::bytes(out, 2, kind.as_bytes());
        });
        out
    }
}

/// Reads the message of a built-in type, in the canonical form that reading the same object from
/// JSON gives. `apiVersion` and `kind` are not part of a message.
pub fn decode(schema: &Schema, message: &[u8]) -> Result<Value, ProtoError> {
    decode::message(schema.graph(), schema.id(), message)
}

/// Writes the message of a built-in type. Fields that the schema does not know, nulls and values
/// of another type than their field are left out: the value is one that the schema let pass.
pub fn encode(schema: &Schema, value: &Value) -> Result<Vec<u8>, ProtoError> {
    let mut out = Vec::new();
    encode::message(schema.graph(), schema.id(), value, &mut out)?;
    Ok(out)
}

/// Reads an object of any built-in kind with its envelope. `apiVersion` and `kind` are set from
/// the envelope; `default` names them where the envelope does not.
pub fn decode_object(bytes: &[u8], default: Option<(&str, &str)>) -> Result<Value, ProtoError> {
    let envelope = Envelope::open(bytes)?;
    let (default_version, default_kind) = default.unwrap_or_default();
    let or = |given: &'_ str, default: &str| match given {
        "" => default.to_owned(),
        given => given.to_owned(),
    };
    let api_version = or(envelope.api_version, default_version);
    let kind = or(envelope.kind, default_kind);
    let schema = kind_of(&api_version, &kind)?;
    let mut value = decode(&schema, envelope.raw)?;
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

/// Writes an object of any built-in kind with its envelope, by its `apiVersion` and `kind`.
pub fn encode_object(value: &Value) -> Result<Vec<u8>, ProtoError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let raw = encode(&kind_of(api_version, kind)?, value)?;
    Ok(Envelope { api_version, kind, raw: &raw, ..Envelope::default() }.seal())
}

/// Writes an object of a built-in kind with its envelope from its JSON text.
pub fn encode_json(api_version: &str, kind: &str, text: &[u8]) -> Result<Vec<u8>, ProtoError> {
    let mut raw = Vec::with_capacity(text.len());
    transcode(&kind_of(api_version, kind)?, text, &mut raw)?;
    Ok(Envelope { api_version, kind, raw: &raw, ..Envelope::default() }.seal())
}

/// What is around the items of a list of a built-in kind, such as `PodList`, so that the items need
/// not all be in memory as values.
pub struct ListFrame {
    /// The envelope and the metadata, which the items follow.
    pub head: Vec<u8>,
    /// What follows the items.
    pub tail: Vec<u8>,
}

impl ListFrame {
    /// The frame of items that [`encode_item`] wrote, `length` bytes in all.
    pub fn new(
        api_version: &str,
        kind: &str,
        metadata: &Value,
        length: usize,
    ) -> Result<Self, ProtoError> {
        let mut raw = Vec::new();
        wire::bytes(&mut raw, 1, &encode(&list_meta(), metadata)?);
        let mut head = Envelope::head(api_version, kind);
        wire::length(&mut head, 2, raw.len() + length);
        head.extend_from_slice(&raw);
        let mut tail = Vec::new();
        wire::bytes(&mut tail, 3, b"");
        wire::bytes(&mut tail, 4, b"");
        Ok(Self { head, tail })
    }
}

/// Writes one item of a list from its JSON text.
pub fn encode_item(schema: &Schema, item: &[u8], out: &mut Vec<u8>) -> Result<(), ProtoError> {
    wire::message(out, 2, |out| transcode(schema, item, out))
}

fn transcode(schema: &Schema, text: &[u8], out: &mut Vec<u8>) -> Result<(), ProtoError> {
    transcode::message(schema.graph(), schema.id(), text, out).map_err(|error| ProtoError::Value {
        field: "object".to_owned(),
        message: error.to_string(),
    })
}

/// One frame of a watch: the length in four bytes, the most significant first, and a `WatchEvent`
/// that holds the object as [`encode_object`] writes it.
pub fn watch_frame(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    wire::bytes(&mut out, 1, event_type.as_bytes());
    wire::message(&mut out, 2, |out| wire::bytes(out, 1, object));
    let len = u32::try_from(out.len() - 4).expect("an object is smaller than 4 GiB");
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

/// Reads one frame of a watch: the type of the event, its object's bytes, and what is behind the
/// frame. None where the frame is not all there yet.
#[allow(clippy::type_complexity)]
pub fn read_watch_frame(bytes: &[u8]) -> Result<Option<(&str, &[u8], &[u8])>, ProtoError> {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let Some((message, rest)) = rest.split_at_checked(u32::from_be_bytes(*len) as usize) else {
        return Ok(None);
    };
    let (mut event_type, mut object) = ("", &[][..]);
    let mut reader = wire::Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => event_type = value.text("type")?,
            2 => {
                let mut raw = wire::Reader::new(value.bytes("object")?);
                while let Some((number, value)) = raw.next()? {
                    if number == 1 {
                        object = value.bytes("raw")?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Some((event_type, object, rest)))
}

fn kind_of(api_version: &str, kind: &str) -> Result<Schema, ProtoError> {
    let (group, version) = split_api_version(api_version);
    builtin(group, version, kind).ok_or_else(|| ProtoError::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })
}

fn list_meta() -> Schema {
    crate::schema::builtin_type("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")
        .expect("every list has it")
}
