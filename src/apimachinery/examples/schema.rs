//! The schema engine by hand, and beside Kubernetes' own packages.
//!
//!     schema show apps/v1 Deployment < deployment.json   what becomes of an object
//!     schema time apps/v1 Deployment < deployment.json   how long that takes
//!     schema cases 1000 > cases.jsonl                    objects of all kinds, odd ones among them
//!     schema answer < cases.jsonl                        what becomes of each, a line each
//!     schema messages cases.jsonl theirs.jsonl           whether upstream's protobuf is read alike
//!
//! `embedded/schema/generate/oracle` answers the same lines with upstream's code, and
//! `embedded/schema/compare` compares the two.

use std::{
    env, fs,
    io::{self, BufRead, Read, Write},
    process::ExitCode,
    time::Duration,
};

use apimachinery::{
    proto,
    resource::split_api_version,
    schema::{self, Kind, Schema},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["show", api_version, kind] => show(api_version, kind, false),
        ["time", api_version, kind] => show(api_version, kind, true),
        ["cases", count] => count.parse().map_err(io::Error::other).and_then(cases),
        ["answer"] => answer(),
        ["messages", cases, theirs] => messages(cases, theirs),
        _ => Err(io::Error::other("see the comment at the top of this example")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn kind(api_version: &str, kind: &str) -> io::Result<Schema> {
    let (group, version) = split_api_version(api_version);
    schema::builtin(group, version, kind).ok_or_else(|| io::Error::other("no such kind"))
}

fn show(api_version: &str, name: &str, measure: bool) -> io::Result<()> {
    let schema = kind(api_version, name)?;
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let mut decoded = schema.decode_json(&text).map_err(io::Error::other)?;
    if let Some(error) = decoded.strict_error() {
        eprintln!("{error}");
    }
    schema.default_values(&mut decoded.value);
    println!("{:#}", decoded.value);
    if measure {
        time(&schema, &text, &decoded.value);
    }
    Ok(())
}

fn time(schema: &Schema, text: &[u8], value: &Value) {
    const ROUNDS: u32 = 20_000;
    let measure = |name: &str, run: &dyn Fn() -> usize| {
        let start = processor_time();
        let mut sum = 0;
        for _ in 0..ROUNDS {
            sum += run();
        }
        let each = (processor_time() - start) / ROUNDS;
        eprintln!("{name}: {each:?} of the processor ({} bytes, {sum})", text.len());
    };
    let message = proto::encode(schema, value).unwrap_or_default();
    measure("serde_json", &|| serde_json::from_slice::<Value>(text).map_or(0, |_| 1));
    measure("decode", &|| schema.decode_json(text).map_or(0, |_| 1));
    measure("decode and default", &|| match schema.decode_json(text) {
        Ok(mut decoded) => {
            schema.default_values(&mut decoded.value);
            1
        }
        Err(_) => 0,
    });
    measure("copy", &|| value.clone().as_object().map_or(0, |map| map.len()));
    measure("copy and conform", &|| {
        schema.conform(&mut value.clone()).map_or(0, |unknown| unknown.len())
    });
    measure("write JSON", &|| value.to_string().len());
    measure("write protobuf", &|| proto::encode(schema, value).map_or(0, |bytes| bytes.len()));
    measure("read protobuf", &|| proto::decode(schema, &message).map_or(0, |_| 1));
}

/// The time that this thread has run, which what else runs on the machine does not change.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn answer() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let meta: Value = serde_json::from_str(&line).unwrap_or_default();
        let text = |key: &str| meta[key].as_str().unwrap_or_default().to_owned();
        let schema = kind(&text("apiVersion"), &text("kind"))?;
        let answer = match schema.decode_json(line.as_bytes()) {
            Err(error) => json!({"error": error.to_string()}),
            Ok(decoded) => {
                let mut defaulted = decoded.value.clone();
                schema.default_values(&mut defaulted);
                let message = proto::encode(&schema, &decoded.value).map_err(io::Error::other)?;
                json!({
                    "strict": decoded.strict,
                    "value": decoded.value,
                    "defaulted": defaulted,
                    "proto": BASE64_STANDARD.encode(message),
                })
            }
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}

fn messages(cases: &str, theirs: &str) -> io::Result<()> {
    let lines = |path: &str| Ok::<_, io::Error>(io::BufReader::new(fs::File::open(path)?).lines());
    let (mut alike, mut other) = (0, 0);
    for (case, answer) in lines(cases)?.zip(lines(theirs)?) {
        let parse = |line: io::Result<String>| -> io::Result<Value> {
            serde_json::from_str(&line?).map_err(io::Error::other)
        };
        let (case, answer) = (parse(case)?, parse(answer)?);
        let Some(message) = answer["proto"].as_str() else { continue };
        let text = |key: &str| case[key].as_str().unwrap_or_default();
        let schema = kind(text("apiVersion"), text("kind"))?;
        let message = BASE64_STANDARD.decode(message).map_err(io::Error::other)?;
        let mut read = proto::decode(&schema, &message).map_err(io::Error::other)?;
        read["apiVersion"] = case["apiVersion"].clone();
        read["kind"] = case["kind"].clone();
        // Protobuf does not tell an empty list from none.
        let mut value = answer["value"].clone();
        drop_empty(&mut value);
        drop_empty(&mut read);
        if read == value {
            alike += 1;
        } else {
            other += 1;
            eprintln!("{}:\n  read   {read}\n  theirs {value}", text("kind"));
        }
    }
    println!("{alike} alike, {other} not");
    Ok(())
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            let empty = |value: &Value| match value {
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                value => value.is_null(),
            };
            map.retain(|_, value| !empty(value));
        }
        Value::Array(list) => list.iter_mut().for_each(drop_empty),
        _ => {}
    }
}

fn cases(count: usize) -> io::Result<()> {
    let kinds: Vec<_> = schema::builtin_kinds()
        .filter(|(api_version, name, _)| {
            // What only ever is a reply, and options, which are read from the URL.
            let served = *api_version != "*"
                && !api_version.starts_with("admission.")
                && !api_version.starts_with("apidiscovery.")
                && !api_version.starts_with("meta.");
            let read = !name.ends_with("Options")
                && !name.ends_with("List")
                && !name.starts_with("API")
                && !matches!(*name, "Status" | "RangeAllocation");
            served && read || *name == "APIService"
        })
        .collect();
    let mut cases = Cases { state: 0x9e37_79b9_7f4a_7c15, flaws: 0 };
    let mut out = io::stdout().lock();
    for i in 0..count {
        let (api_version, name, schema) = &kinds[i % kinds.len()];
        cases.flaws = if i % 3 == 0 { 0 } else { i as u64 % 60 };
        let mut object = String::new();
        cases.value(schema, 0, &mut object);
        let rest = object.strip_prefix('{').unwrap_or("}");
        let comma = if rest == "}" { "" } else { "," };
        writeln!(out, "{{\"apiVersion\":\"{api_version}\",\"kind\":\"{name}\"{comma}{rest}")?;
    }
    Ok(())
}

/// Writes objects as JSON text, because values cannot have duplicate fields.
struct Cases {
    state: u64,
    /// One value in so many is of the wrong type; none where this is 0.
    flaws: u64,
}

impl Cases {
    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }

    fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.below(texts.len() as u64) as usize]
    }

    fn value(&mut self, schema: &Schema, depth: u64, out: &mut String) {
        if depth > 0 && self.below(25) == 0 {
            out.push_str("null");
            return;
        }
        if depth > 0 && self.flaws > 10 && self.below(8 * self.flaws) == 0 {
            let wrong =
                ["\"text\"", "5", "1.5", "true", "[]", "{}", "[1]", "{\"a\":1}", "99999999999"];
            out.push_str(self.pick(&wrong));
            return;
        }
        match schema.kind() {
            Kind::Object => self.object(schema, depth, out),
            Kind::Map => {
                let values = schema.values();
                let count = self.below(3);
                self.list('{', '}', count, out, |cases, i, out| {
                    out.push_str(&format!("\"key-{i}\":"));
                    match &values {
                        Some(values) => cases.value(values, depth + 1, out),
                        None => out.push('0'),
                    }
                });
            }
            Kind::Array => {
                let items = schema.items();
                let count = self.below(3);
                self.list('[', ']', count, out, |cases, _, out| match &items {
                    Some(items) => cases.value(items, depth + 1, out),
                    None => out.push('0'),
                });
            }
            Kind::String => {
                let text = self.pick(&[
                    "\"\"",
                    "\"a\"",
                    "\"k\\u00e4se\"",
                    "\"a\\nb\"",
                    "\"\\ud83d\\ude00\"",
                ]);
                out.push_str(text);
            }
            Kind::Integer => {
                let n = self.pick(&["0", "1", "-1", "80", "2147483647", "-2147483648"]);
                out.push_str(n);
            }
            Kind::Number => out.push_str(self.pick(&["0", "1", "1.5", "-0.25"])),
            Kind::Boolean => out.push_str(self.pick(&["true", "false"])),
            Kind::IntOrString => {
                out.push_str(self.pick(&["0", "80", "\"http\"", "\"25%\"", "\"\""]))
            }
            Kind::Quantity => {
                let texts = [
                    "\"0\"",
                    "1",
                    "0.5",
                    "\"100m\"",
                    "\"1024Ki\"",
                    "\"1.5Gi\"",
                    "\"1e3\"",
                    "\"0.0001\"",
                    "\"5n\"",
                ];
                out.push_str(self.pick(&texts));
            }
            Kind::Time => {
                let texts = ["\"2024-02-29T12:34:56Z\"", "\"2024-02-29T12:34:56.789+02:00\""];
                out.push_str(self.pick(&texts));
            }
            Kind::MicroTime => out.push_str("\"2024-02-29T12:34:56.123456Z\""),
            Kind::Duration => out.push_str(self.pick(&["\"1h\"", "\"90s\""])),
            Kind::Bytes => out.push_str(self.pick(&["\"\"", "\"AA==\"", "\"aGVsbG8=\""])),
            Kind::RawExtension | Kind::FieldsV1 => out.push_str("{\"b\":[1,null],\"a\":{}}"),
            Kind::Any => out.push_str("{\"type\":\"object\"}"),
        }
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        count: u64,
        out: &mut String,
        mut item: impl FnMut(&mut Self, u64, &mut String),
    ) {
        out.push(open);
        for i in 0..count {
            if i > 0 {
                out.push(',');
            }
            item(self, i, out);
        }
        out.push(close);
    }

    fn object(&mut self, schema: &Schema, depth: u64, out: &mut String) {
        let mut fields: Vec<_> = schema.fields().collect();
        if depth == 0 {
            fields.retain(|(name, _)| !matches!(*name, "apiVersion" | "kind"));
        }
        // Any order of fields, so that the order of messages is compared as well.
        for i in (1..fields.len()).rev() {
            fields.swap(i, self.below(i as u64 + 1) as usize);
        }
        out.push('{');
        let mut first = true;
        let mut member =
            |cases: &mut Self, name: &str, schema: Option<&Schema>, out: &mut String| {
                if !first {
                    out.push(',');
                }
                first = false;
                out.push_str(&format!("\"{name}\":"));
                match schema {
                    Some(schema) => cases.value(schema, depth + 1, out),
                    None => out.push_str("{\"x\":[1]}"),
                }
            };
        for (name, schema) in &fields {
            let chance = if depth < 2 { 4 } else { 3 + 3 * depth };
            if depth < 8 && self.below(chance) < 3 {
                member(self, name, Some(schema), out);
                let scalar = !matches!(schema.kind(), Kind::Object | Kind::Map | Kind::Array);
                if self.flaws > 0 && scalar && self.below(40) == 0 {
                    member(self, name, Some(schema), out);
                }
            }
            if self.flaws > 0 && self.below(80) == 0 {
                member(self, "unknown", None, out);
            }
        }
        out.push('}');
    }
}
