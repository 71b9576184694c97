//! Named formats of text, and what is wrong with one.

use apimachinery::names;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Function, cost, function, operators::arg, time, url};
use crate::{
    eval::Run,
    value::{EvalError, Outcome, Value},
};

/// A format.
pub struct NamedFormat {
    pub(crate) name: &'static str,
    check: fn(&str) -> Vec<String>,
    /// How long its pattern is, or would be; a check costs by it.
    pattern: u64,
}

const FORMAT: &[&str] = &["-> kubernetes.NamedFormat"];

macro_rules! formats {
    ($($constant:ident $name:literal $pattern:literal $check:expr;)*) => {
        $(static $constant: NamedFormat =
            NamedFormat { name: $name, check: $check, pattern: $pattern };)*

        fn find(name: &str) -> Option<&'static NamedFormat> {
            match name {
                $($name => Some(&$constant),)*
                _ => None,
            }
        }

        pub(super) const FUNCTIONS: &[Function] = &[
            function("format.named", named, cost::one, &["string -> optional(kubernetes.NamedFormat)"]),
            function("validate", validate, cost::one, &[
                "kubernetes.NamedFormat | string -> optional(list(string))",
            ]),
            $(function(
                concat!("format.", $name),
                |_, _| Ok(Value::Format(&$constant)),
                cost::one,
                FORMAT,
            ),)*
        ];
    };
}

formats! {
    LABEL "dns1123Label" 30 |text| names::name_is_dns_label(text, false);
    SUBDOMAIN "dns1123Subdomain" 60 |text| names::name_is_dns_subdomain(text, false);
    OLD_LABEL "dns1035Label" 30 |text| names::name_is_dns1035_label(text, false);
    QUALIFIED "qualifiedName" 60 names::qualified_name;
    LABEL_PREFIX "dns1123LabelPrefix" 30 |text| names::name_is_dns_label(text, true);
    SUBDOMAIN_PREFIX "dns1123SubdomainPrefix" 60 |text| names::name_is_dns_subdomain(text, true);
    OLD_LABEL_PREFIX "dns1035LabelPrefix" 30 |text| names::name_is_dns1035_label(text, true);
    LABEL_VALUE "labelValue" 40 names::label_value;
    URI "uri" 1103 |text| url::error(text).into_iter().collect();
    UUID "uuid" 72 |text| unless(is_uuid(text), "does not match the UUID format");
    BYTE "byte" 84 |text| {
        unless(!text.is_empty() && STANDARD.decode(text).is_ok(), "invalid base64")
    };
    DATE "date" 72 |text| unless(is_date(text), "invalid date");
    DATETIME "datetime" 72 |text| unless(time::timestamp(text).is_some(), "invalid datetime");
}

fn unless(fits: bool, message: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![message.to_owned()] }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && !text.contains(':') && time::timestamp_or_date(text).is_some()
}

fn is_uuid(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let dashes = text.len() == 32 || (text.len() == 36 && dashes_fit(text));
    dashes && digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit)
}

fn dashes_fit(text: &str) -> bool {
    text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23))
}

fn named<'a>(_: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let Value::String(name) = arg(args, 0) else { return EvalError::no_overload() };
    Ok(find(name).map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
}

fn validate<'a>(run: &Run<'a>, args: &[Value<'a>]) -> Outcome<'a> {
    let (Value::Format(format), Value::String(text)) = (arg(args, 0), arg(args, 1)) else {
        return EvalError::no_overload();
    };
    let characters = text.chars().count() as u64 + 1;
    run.charge((characters.div_ceil(10) * format.pattern.div_ceil(4)).saturating_sub(1))?;
    let wrong = (format.check)(text);
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(wrong.into_iter().map(Value::text).collect())))
}
