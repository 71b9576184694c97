//! What a function takes and gives, read from the tables' `receiver | arguments -> result`.

use crate::types::Type;

/// One way to call a function. Its unknown types are numbered from 0.
pub(crate) struct Overload {
    pub(crate) method: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// How many unknown types it has.
    pub(crate) params: usize,
}

/// Reads a signature.
pub(crate) fn read(text: &str) -> Option<Overload> {
    let mut params = Vec::new();
    let (args, result) = text.split_once("->")?;
    let (receiver, args) = match args.split_once('|') {
        Some((receiver, args)) => (Some(receiver), args),
        None => (None, args),
    };
    let mut types = Vec::new();
    for arg in receiver.into_iter().chain(split(args)) {
        types.push(type_of(arg, &mut params)?);
    }
    let result = type_of(result, &mut params)?;
    Some(Overload { method: receiver.is_some(), args: types, result, params: params.len() })
}

/// Splits at the commas outside of brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

fn type_of(text: &str, params: &mut Vec<String>) -> Option<Type> {
    let text = text.trim();
    if let Some((outer, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let mut inner = split(inner).into_iter().map(|part| type_of(part, params));
        let mut next = || inner.next().flatten();
        return Some(match outer {
            "list" => Type::list(next()?),
            "map" => Type::map(next()?, next()?),
            "optional" => Type::optional(next()?),
            "type" => Type::Type(Some(next()?.into())),
            _ => return None,
        });
    }
    if text.len() == 1 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let known = params.iter().position(|param| param == text);
        let at = known.unwrap_or_else(|| {
            params.push(text.to_owned());
            params.len() - 1
        });
        return Some(Type::Param(u32::try_from(at).ok()?));
    }
    Some(match text {
        "dyn" => Type::Dyn,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "Authorizer" => Type::Opaque("kubernetes.authorization.Authorizer"),
        "PathCheck" => Type::Opaque("kubernetes.authorization.PathCheck"),
        "GroupCheck" => Type::Opaque("kubernetes.authorization.GroupCheck"),
        "ResourceCheck" => Type::Opaque("kubernetes.authorization.ResourceCheck"),
        "Decision" => Type::Opaque("kubernetes.authorization.Decision"),
        _ => return Type::named(text),
    })
}

impl Type {
    /// The type with its numbered unknowns replaced.
    pub(crate) fn instantiate(&self, with: &[Type]) -> Type {
        match self {
            Type::Param(number) => with.get(*number as usize).cloned().unwrap_or(Type::Dyn),
            Type::List(of) => Type::list(of.instantiate(with)),
            Type::Optional(of) => Type::optional(of.instantiate(with)),
            Type::Map(of) => Type::map(of.0.instantiate(with), of.1.instantiate(with)),
            Type::Type(Some(of)) => Type::Type(Some(of.instantiate(with).into())),
            other => other.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_read() {
        let overload = read("map(K, list(V)) | K, int -> optional(V)").unwrap();
        assert!(overload.method);
        assert_eq!(overload.args.len(), 3);
        assert_eq!(overload.params, 2);
        assert_eq!(
            overload.result.instantiate(&[Type::Int, Type::Bool]).to_string(),
            "optional_type(bool)"
        );
        assert!(read("nonsense -> bool").is_none());
        assert!(!read("-> int").unwrap().method);
    }
}
