//! Content negotiation: in which form a client wants its answer.
//!
//! The rules are upstream's `negotiation` package, with one liberty: where a client takes JSON as
//! well as protobuf it gets JSON, because stored objects are JSON already and go out as they are.

use apimachinery::Status;
use http::{HeaderMap, header};

use crate::http::query::Query;

/// An encoding of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Media {
    /// `application/json`.
    #[default]
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

impl Media {
    /// The media type's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Json, Self::Yaml, Self::Protobuf].into_iter().find(|media| media.as_str() == name)
    }
}

/// What an object is turned into before it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nothing: the object itself.
    #[default]
    Object,
    /// A `Table` with the columns that `kubectl get` shows.
    Table,
    /// The metadata alone.
    Metadata,
    /// The metadata of a list's items.
    MetadataList,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// The encoding.
    pub media: Media,
    /// Whether it is laid out for people.
    pub pretty: bool,
    /// What is sent.
    pub target: Target,
    /// Whether the target's group version is `meta.k8s.io/v1beta1` and not `v1`.
    pub beta: bool,
}

impl Format {
    /// The group version of the target types.
    pub fn meta_version(self) -> &'static str {
        if self.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
    }
}

/// The media types that clients are told about.
pub const SUPPORTED: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// The same where there is no protobuf: custom resources.
pub const SUPPORTED_CUSTOM: [&str; 2] = ["application/json", "application/yaml"];
/// The media types of watches.
pub const SUPPORTED_STREAMS: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// One clause of an Accept header.
struct Clause<'a> {
    media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

/// The forms that a resource can be had in.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Whether it has a protobuf encoding.
    pub protobuf: bool,
    /// Whether it can be turned into another [`Target`]: what is not stored cannot.
    pub targets: bool,
    /// Whether it can be followed: it is named then what streams can be had.
    pub streams: bool,
}

impl Offer {
    /// Objects that are no resource: Status, discovery documents.
    pub const PLAIN: Self = Self { protobuf: false, targets: true, streams: false };
}

/// Reads the request's `Accept` header.
///
/// # Errors
/// 406 when none of the wanted forms can be had.
pub fn negotiate(headers: &HeaderMap, query: &Query<'_>, offer: Offer) -> Result<Format, Status> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut format = choose(accept, offer).ok_or_else(|| {
        let supported = if offer.protobuf { &SUPPORTED[..] } else { &SUPPORTED_CUSTOM[..] };
        let known = |clause: &Clause<'_>| {
            matches!(clause.media, "*/*" | "application/*") || supported.contains(&clause.media)
        };
        if parse(accept).iter().any(known) {
            return Status::not_acceptable(supported);
        }
        // Upstream's router refuses what no handler could make, in words of its own.
        let streams = if offer.streams { &SUPPORTED_STREAMS[..] } else { &[] };
        let list = [supported, streams].concat().join(", ");
        let message = format!("406: Not Acceptable\n\nAvailable representations: {list}");
        Status::generic(406, "NotAcceptable", message)
    })?;
    format.pretty |= wants_pretty(headers, query);
    Ok(format)
}

fn wants_pretty(headers: &HeaderMap, query: &Query<'_>) -> bool {
    if let Some(pretty) = query.text("pretty") {
        return matches!(pretty, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| {
        ["curl", "Wget", "Mozilla/5.0"].iter().any(|human| agent.starts_with(human))
    })
}

fn choose(accept: &str, offer: Offer) -> Option<Format> {
    if accept.is_empty() || accept == "application/json" {
        return Some(Format::default());
    }
    let clauses = parse(accept);
    let formats = || {
        let formats = clauses.iter().filter_map(|clause| clause.format(offer.protobuf));
        formats.filter(|format| offer.targets || format.target == Target::Object)
    };
    let best = formats().next()?;
    if best.media == Media::Protobuf {
        let json = Format { media: Media::Json, ..best };
        return formats().find(|other| *other == json).or(Some(best));
    }
    Some(best)
}

/// Splits an Accept header into its clauses, the most wanted first.
fn parse(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept
        .split(',')
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let mut quality = 1.0;
            let mut parameters = Vec::new();
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                let (name, value) = (name.trim(), value.trim().trim_matches('"'));
                match name {
                    "q" => quality = value.parse().unwrap_or(1.0),
                    _ => parameters.push((name, value)),
                }
            }
            Clause { media, parameters, quality }
        })
        .collect();
    // A stable sort: equal qualities stay in the order in which the client wrote them, but exact
    // types come before wildcards.
    clauses.sort_by(|a, b| {
        let wild = |clause: &Clause<'_>| clause.media.matches('*').count();
        b.quality.total_cmp(&a.quality).then(wild(a).cmp(&wild(b)))
    });
    clauses
}

impl Clause<'_> {
    fn format(&self, protobuf: bool) -> Option<Format> {
        let media = match self.media {
            "*/*" | "application/*" => Media::Json,
            exact => Media::of(exact).filter(|media| protobuf || *media != Media::Protobuf)?,
        };
        let mut format = Format { media, ..Format::default() };
        let (mut kind, mut group, mut version) = ("", "", "");
        for (name, value) in &self.parameters {
            match *name {
                "as" => kind = value,
                "g" => group = value,
                "v" => version = value,
                "stream" if !matches!(*value, "" | "watch") => return None,
                "sv" if !value.is_empty() => return None,
                "pretty" => format.pretty = *value == "1",
                _ => {}
            }
        }
        if (kind, group, version) == ("", "", "") {
            return Some(format);
        }
        format.beta = match (group, version) {
            ("meta.k8s.io", "v1") => false,
            ("meta.k8s.io", "v1beta1") => true,
            _ => return None,
        };
        format.target = match kind {
            "Table" if media != Media::Protobuf => Target::Table,
            "PartialObjectMetadata" => Target::Metadata,
            "PartialObjectMetadataList" => Target::MetadataList,
            _ => return None,
        };
        Some(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offer = Offer { protobuf: true, targets: true, streams: false };

    fn check(accept: &str, media: Media, target: Target) {
        let format = choose(accept, ALL).unwrap();
        assert_eq!((format.media, format.target), (media, target), "{accept}");
    }

    #[test]
    fn takes_what_clients_send() {
        check("", Media::Json, Target::Object);
        check("*/*", Media::Json, Target::Object);
        check("application/yaml", Media::Yaml, Target::Object);
        check("application/vnd.kubernetes.protobuf", Media::Protobuf, Target::Object);
        check("application/vnd.kubernetes.protobuf,application/json", Media::Json, Target::Object);
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Media::Json,
            Target::Table,
        );
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
             application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
            Media::Json,
            Target::Metadata,
        );
        check("application/vnd.kubernetes.protobuf, */*;q=0.1", Media::Json, Target::Object);
        check(
            "text/html, application/yaml;q=0.5, application/json;q=0.4",
            Media::Yaml,
            Target::Object,
        );
        check(
            "application/json;as=Nonsense;v=v1;g=meta.k8s.io,application/json",
            Media::Json,
            Target::Object,
        );
        check("application/json;stream=watch", Media::Json, Target::Object);
    }

    #[test]
    fn refuses_what_it_cannot_make() {
        for accept in [
            "text/html",
            "application/json;as=Table;v=v2;g=meta.k8s.io",
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
            "application/json;sv=v9",
            ",;=",
        ] {
            assert_eq!(choose(accept, ALL), None, "{accept}");
        }
        assert_eq!(choose("application/vnd.kubernetes.protobuf", Offer::PLAIN), None);
    }
}
