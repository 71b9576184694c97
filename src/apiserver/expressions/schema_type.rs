//! The types of a kind's schema, as expressions know them: made as they are looked at, since a
//! built-in kind has thousands of fields.

use apimachinery::schema::{Kind, Schema};
use cel::{ObjectType, Type};

/// An object of a schema.
#[derive(Debug)]
struct Object {
    name: String,
    schema: Schema,
}

impl ObjectType for Object {
    fn name(&self) -> &str {
        &self.name
    }

    fn field(&self, name: &str) -> Option<Type> {
        let plain = cel::unescape(name);
        let field = self.schema.field(plain.as_deref().unwrap_or(name))?;
        of(&field, &format!("{}.{name}", self.name))
    }
}

/// The type of a schema, under a name; none for what expressions know nothing of.
pub(super) fn of(schema: &Schema, name: &str) -> Option<Type> {
    Some(match schema.kind() {
        Kind::Object => Type::Object(std::sync::Arc::new(Object {
            name: schema.type_name().unwrap_or(name).to_owned(),
            schema: schema.clone(),
        })),
        Kind::Map => Type::map(Type::String, of(&schema.values()?, &format!("{name}.@values"))?),
        Kind::Array => Type::list(of(&schema.items()?, &format!("{name}.@items"))?),
        Kind::String => match schema.format() {
            Some("byte") => Type::Bytes,
            Some("date" | "date-time") => Type::Timestamp,
            Some("duration") => Type::Duration,
            _ => Type::String,
        },
        Kind::Quantity | Kind::Duration => Type::String,
        Kind::Integer => Type::Int,
        Kind::Number => Type::Double,
        Kind::Boolean => Type::Bool,
        Kind::IntOrString | Kind::RawExtension => Type::Dyn,
        Kind::Time | Kind::MicroTime => Type::Timestamp,
        Kind::Bytes => Type::Bytes,
        Kind::FieldsV1 | Kind::Any => return None,
    })
}
