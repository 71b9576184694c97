//! Shows what the schema engine makes of an object: reads JSON from standard input.
//!
//!     cargo run -p apimachinery --example schema -- apps/v1 Deployment < deployment.json

use std::{env, io::Read, process::ExitCode, time::Instant};

use apimachinery::{resource::split_api_version, schema};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [api_version, kind, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: schema APIVERSION KIND [time] < object.json");
        return ExitCode::FAILURE;
    };
    let (group, version) = split_api_version(api_version);
    let Some(schema) = schema::builtin(group, version, kind) else {
        eprintln!("no such kind");
        return ExitCode::FAILURE;
    };
    let mut text = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut text) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    match schema.decode_json(&text) {
        Ok(mut decoded) => {
            if let Some(error) = decoded.strict_error() {
                eprintln!("{error}");
            }
            schema.default_values(&mut decoded.value);
            println!("{:#}", decoded.value);
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    if rest.first().is_some_and(|word| word == "time") {
        time(&schema, &text);
    }
    ExitCode::SUCCESS
}

fn time(schema: &schema::Schema, text: &[u8]) {
    const ROUNDS: u32 = 20_000;
    let measure = |name: &str, run: &dyn Fn() -> usize| {
        let start = Instant::now();
        let mut sum = 0;
        for _ in 0..ROUNDS {
            sum += run();
        }
        let each = start.elapsed() / ROUNDS;
        eprintln!("{name}: {each:?} ({} bytes, {sum})", text.len());
    };
    measure("serde_json", &|| serde_json::from_slice::<serde_json::Value>(text).map_or(0, |_| 1));
    measure("decode", &|| schema.decode_json(text).map_or(0, |_| 1));
    measure("decode and default", &|| match schema.decode_json(text) {
        Ok(mut decoded) => {
            schema.default_values(&mut decoded.value);
            1
        }
        Err(_) => 0,
    });
}
