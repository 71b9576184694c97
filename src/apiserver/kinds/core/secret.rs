//! Secrets.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::Value;

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, immutable},
    value::{Fields as _, object_at},
};

pub(crate) struct Secret;

/// The largest sum of the values, in bytes before base64.
const LARGEST: usize = 1 << 20;

impl Hooks for Secret {
    fn default(&self, secret: &mut Value) {
        if secret.text("type").is_empty() {
            secret["type"] = "Opaque".into();
        }
        // Only ever written: its entries go over those of the data.
        let Some(Value::Object(texts)) =
            secret.as_object_mut().and_then(|secret| secret.remove("stringData"))
        else {
            return;
        };
        if !secret["data"].is_object() {
            secret["data"] = Value::Object(serde_json::Map::new());
        }
        if let Some(data) = object_at(secret, "data") {
            for (key, text) in texts {
                data.insert(key, encode(text.as_str().unwrap_or_default()).into());
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, secret: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let data = Path::root("data");
        let mut size = 0;
        for (key, value) in secret.strings("data") {
            errors.messages(&data.key(key), key, names::config_map_key(key));
            size += value.len() / 4 * 3;
        }
        if size > LARGEST {
            errors.push(FieldError::too_long(&data, LARGEST));
        }
        let required: &[&str] = match secret.text("type") {
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            _ => &[],
        };
        for key in required.iter().filter(|key| !secret["data"].has(key)) {
            errors.required(&data.key(key), "");
        }
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        immutable(old, new, "type", &Path::root("type"), &mut errors);
        if old.on("immutable") {
            let detail = "field is immutable when `immutable` is set";
            if !new.on("immutable") {
                errors.forbidden(&Path::root("immutable"), detail);
            }
            if old["data"] != new["data"] {
                errors.forbidden(&Path::root("data"), detail);
            }
        }
        errors.extend(self.validate_create(context, new));
        errors
    }

    fn counts_generations(&self) -> bool {
        false
    }

    fn fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("/secrets")
    }

    fn cells(&self, secret: &Value) -> Vec<Value> {
        let count = secret.entries("data").count();
        vec![name(secret), secret.text("type").into(), count.into(), age(secret)]
    }
}

fn encode(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}
