//! Secrets.

use apimachinery::{
    field::{FieldError, Path},
    names,
    schema::decode_json,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::config_map::{LARGEST, decoded_len, sealed};
use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    validation::{Errors, Report as _, immutable},
    value::{Fields as _, object_at},
};

pub(crate) struct Secret;

const REDACTED: &str = "<secret contents redacted>";
const ACCOUNT: &str = "kubernetes.io/service-account.name";

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
        if texts.is_empty() {
            return;
        }
        if let Some(data) = object_at(secret, "data") {
            for (key, text) in texts {
                data.insert(key, STANDARD.encode(text.as_str().unwrap_or_default()).into());
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, secret: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let data = Path::root("data");
        let mut size = 0;
        for (key, value) in secret.strings("data") {
            errors.messages(&data.key(key), key, names::config_map_key(key));
            size += decoded_len(value);
        }
        if size > LARGEST {
            errors.push(FieldError::too_long(&data, LARGEST));
        }
        of_type(secret, &data, &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        immutable(old, new, "type", &Path::empty(), &mut errors);
        errors.extend(sealed(old, new, &["data"]));
        errors.extend(self.validate_create(context, new));
        errors
    }

    fn warnings(&self, _old: Option<&Value>, secret: &Value) -> Vec<String> {
        if secret.text("type") == "kubernetes.io/tls" {
            return unusable_pair(&secret["data"]).into_iter().collect();
        }
        Vec::new()
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

/// What secrets of well-known types must hold.
fn of_type(secret: &Value, path: &Path, errors: &mut Errors) {
    let data = &secret["data"];
    let mut require = |key: &str| errors.required(&path.key(key), "");
    match secret.text("type") {
        "kubernetes.io/service-account-token"
            if secret["metadata"]["annotations"].text(ACCOUNT).is_empty() =>
        {
            let path = Path::root("metadata").child("annotations").key(ACCOUNT);
            errors.required(&path, "");
        }
        "kubernetes.io/dockercfg" => json_file(data, ".dockercfg", path, errors),
        "kubernetes.io/dockerconfigjson" => json_file(data, ".dockerconfigjson", path, errors),
        "kubernetes.io/basic-auth" if !data.has("username") && !data.has("password") => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" if data.text("ssh-privatekey").is_empty() => {
            require("ssh-privatekey");
        }
        "kubernetes.io/tls" => {
            ["tls.crt", "tls.key"].into_iter().filter(|key| !data.has(key)).for_each(require);
        }
        _ => {}
    }
}

fn json_file(data: &Value, key: &str, path: &Path, errors: &mut Errors) {
    let Some(text) = data.opt_text(key) else {
        return errors.required(&path.key(key), "");
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let found = match decode_json(&bytes).map(|decoded| decoded.value) {
        Ok(Value::Object(_) | Value::Null) => return,
        Err(error) => {
            let detail = error.to_string();
            return errors.invalid(&path.key(key), REDACTED, &detail);
        }
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
    };
    let detail =
        format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
    errors.invalid(&path.key(key), REDACTED, &detail);
}

/// What is wrong with the certificate and key of a TLS secret at first sight, in Go's words.
fn unusable_pair(data: &Value) -> Option<String> {
    let blocks = |field: &str| -> Vec<String> {
        let bytes = STANDARD.decode(data.text(field)).unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
        let label = |line: &str| {
            Some(line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----")?.to_owned())
        };
        lines.filter_map(|line| label(&line)).collect()
    };
    let (certificate, key) = (blocks("tls.crt"), blocks("tls.key"));
    let is_key = |label: &String| label.ends_with("PRIVATE KEY");
    let why = match (certificate.as_slice(), key.as_slice()) {
        ([], _) => "failed to find any PEM data in certificate input".to_owned(),
        ([one], _) if is_key(one) => {
            "failed to find certificate PEM data in certificate input, but did find a private key; \
             PEM inputs may have been switched"
                .to_owned()
        }
        (some, _) if !some.iter().any(|label| label == "CERTIFICATE") => format!(
            "failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM \
             blocks of the following types: [{}]",
            some.join(" ")
        ),
        (_, []) => "failed to find any PEM data in key input".to_owned(),
        (_, [one]) if one == "CERTIFICATE" => {
            "found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        (_, some) if !some.iter().any(is_key) => format!(
            "failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after \
             skipping PEM blocks of the following types: [{}]",
            some.join(" ")
        ),
        _ => return None,
    };
    Some(format!("tls: {why}"))
}
