//! Where a walk over an object is, and what it has found there.

use std::fmt::Write;

use super::{
    builtin,
    graph::{Graph, NodeId, field},
};

/// The way from the root of an object to one of its values: a list on the stack of the walk.
#[derive(Clone, Copy)]
pub(crate) struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    Root,
    /// A field of an object with a schema: the object's node in the built-in graph.
    Field(NodeId, &'a str),
    Key(&'a str),
    Index(usize),
}

impl<'a> Trail<'a> {
    pub(crate) const ROOT: Trail<'static> = Trail { parent: None, step: Step::Root };

    pub(crate) fn then(&'a self, step: Step<'a>) -> Trail<'a> {
        Trail { parent: Some(self), step }
    }

    /// The path of the value, with `key` appended: `spec.containers[0].image`.
    pub(crate) fn path(&self, key: &str) -> String {
        let mut path = String::new();
        self.write(&mut path);
        append(&mut path, key);
        path
    }

    fn write(&self, path: &mut String) {
        if let Some(parent) = self.parent {
            parent.write(path);
        }
        match self.step {
            Step::Root => {}
            Step::Field(_, name) | Step::Key(name) => append(path, name),
            Step::Index(at) => {
                let _ = write!(path, "[{at}]");
            }
        }
    }

    /// `Go struct field Container.spec.containers.image`, as Go's decoder says where it is: the
    /// innermost struct, then the names of fields on the way, without indices and keys.
    fn go_field(&self, graph: &Graph) -> Option<String> {
        let mut fields = Vec::new();
        let mut at = Some(self);
        while let Some(trail) = at {
            if let Step::Field(owner, name) = trail.step {
                fields.push((owner, name));
            }
            at = trail.parent;
        }
        let (innermost, _) = *fields.first()?;
        let go_type = graph.go_type(graph.node(innermost));
        let mut text = go_type.rsplit('.').next().unwrap_or_default().to_owned();
        for (owner, name) in fields.into_iter().rev() {
            let owner = graph.node(owner);
            if graph.field(owner, name).is_some_and(|f| f.has(field::INLINED)) {
                let go_type = graph.go_types.get(owner.go_type as usize).map_or("", |name| name);
                for inlined in builtin::inlined_path(go_type, name) {
                    append(&mut text, &inlined);
                }
            }
            append(&mut text, name);
        }
        Some(text)
    }
}

fn append(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Why a value does not fit its schema.
pub(crate) enum Mismatch {
    /// A JSON value of another type, as Go names it: `string`, `number 1.5`, `object`.
    Kind(String),
    /// The same inside a type that reads itself by way of another Go type. Go stops there.
    Inner(String, &'static str),
    /// What a type that reads itself says. Go stops there.
    Message(String),
    /// What is wrong with a text that Go reads on behind.
    Text(String),
}

/// What a walk found: strict errors and the first error.
#[derive(Default)]
pub(crate) struct Findings {
    /// `unknown field "spec.a"`, `duplicate field "spec.b"`, in the order found.
    pub(crate) strict: Vec<String>,
    pub(crate) error: Option<String>,
    fatal: bool,
    /// Above zero inside values that Go would not look into.
    pub(crate) muted: u32,
}

impl Findings {
    /// Go's decoder reports no more than so many strict errors.
    const LIMIT: usize = 100;

    pub(crate) fn unknown(&mut self, trail: &Trail<'_>, key: &str) {
        self.strict("unknown", trail, key);
    }

    pub(crate) fn duplicate(&mut self, trail: &Trail<'_>, key: &str) {
        self.strict("duplicate", trail, key);
    }

    fn strict(&mut self, what: &str, trail: &Trail<'_>, key: &str) {
        if self.muted > 0 || self.strict.len() >= Findings::LIMIT {
            return;
        }
        let text = format!("{what} field {}", crate::quote::go_quote(&trail.path(key)));
        if !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }

    /// Keeps the first mismatch, or the first that Go stops at.
    pub(crate) fn mismatch(&mut self, graph: &Graph, node: NodeId, at: &Trail<'_>, why: Mismatch) {
        let stops = matches!(why, Mismatch::Inner(..) | Mismatch::Message(_));
        if self.fatal || self.error.is_some() && !stops {
            return;
        }
        let unfit = |value: &str, go_type: &str| match at.go_field(graph) {
            Some(field) => format!(
                "json: cannot unmarshal {value} into Go struct field {field} of type {go_type}"
            ),
            None => format!("json: cannot unmarshal {value} into Go value of type {go_type}"),
        };
        self.error = Some(match why {
            Mismatch::Kind(value) => unfit(&value, &graph.go_type(graph.node(node))),
            Mismatch::Inner(value, go_type) => unfit(&value, go_type),
            Mismatch::Message(text) | Mismatch::Text(text) => text,
        });
        self.fatal = stops;
    }
}
