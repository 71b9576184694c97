//! Every expression of testdata/expressions.txt has the result, the type and the cost that
//! upstream's environment gave.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::{Env, ObjectType, Type, Value, Variable, show};

/// An object with a few fields.
#[derive(Debug)]
struct Thing;

impl ObjectType for Thing {
    fn name(&self) -> &str {
        "Thing"
    }

    fn field(&self, name: &str) -> Option<Type> {
        Some(match name {
            "name" => Type::String,
            "count" => Type::Int,
            "tags" => Type::list(Type::String),
            _ => return None,
        })
    }
}

fn env() -> Env {
    Env::new()
        .with("i", Type::Int)
        .with("s", Type::String)
        .with("d", Type::Dyn)
        .with("li", Type::list(Type::Int))
        .with("m", Type::map(Type::String, Type::Int))
        .with("t", Type::Object(Arc::new(Thing)))
        .with_structs(Arc::new(|name| {
            (name == "Thing").then(|| Arc::new(Thing) as Arc<dyn ObjectType>)
        }))
}

fn input() -> Json {
    json!({
        "d": {"a": {"b": [1, 2, {"c": "x"}], "n": null}, "s": "str", "f": 1.5, "i": 7, "t": true,
            "e": {}, "l": []},
        "i": 3,
        "s": "héllo",
        "li": [5, 3, 4],
        "m": {"one": 1, "two": 2},
        "t": {"name": "nm", "tags": ["x", "y"]},
    })
}

/// What an expression gives, in the form of the table.
fn answer(source: &str) -> String {
    let program = match env().compile(source) {
        Ok(program) => program,
        Err(issues) => {
            let text = issues.to_string();
            return text.lines().map(|line| format!("! {line}\n")).collect();
        }
    };
    let input = input();
    let thing = Type::Object(Arc::new(Thing));
    let typed = |name: &'static str, of: &Type| -> Variable<'_> {
        (name, Value::of_json(&input[name], of).unwrap())
    };
    let variables = [
        typed("d", &Type::Dyn),
        typed("i", &Type::Int),
        typed("s", &Type::String),
        typed("li", &Type::list(Type::Int)),
        typed("m", &Type::map(Type::String, Type::Int)),
        typed("t", &thing),
    ];
    let evaluated = program.eval(&variables);
    match evaluated.outcome {
        Ok(value) => format!("= {} | {} | {}\n", show(&value), program.result(), evaluated.cost),
        Err(error) => format!("= error {}\n", error.to_string().replace('\n', "\\n")),
    }
}

#[test]
fn expressions_give_what_they_give_upstream() {
    let table = include_str!("testdata/expressions.txt");
    let mut wrong = String::new();
    let mut count = 0;
    for block in table.split("\n> ").skip(1) {
        let (source, wanted) = block.split_once('\n').unwrap();
        let expression = match source.strip_suffix(" json") {
            Some(quoted) => serde_json::from_str(quoted).unwrap(),
            None => source.to_owned(),
        };
        let found = answer(&expression);
        count += 1;
        if found.trim_end() != wanted.trim_end() {
            wrong.push_str(&format!("> {source}\nwanted {wanted}\nfound  {found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{count} expressions, different:\n{wrong}");
    assert!(count > 300, "{count}");
}

#[test]
fn the_deepest_expressions_need_little_stack() {
    let run = || {
        let chain = format!("{} == 240", vec!["1"; 240].join(" + "));
        assert!(answer(&chain).starts_with("= true"), "{}", answer(&chain));
        let choices = format!("{}false", "i == 9 ? true : ".repeat(90));
        assert!(answer(&choices).starts_with("= false"), "{}", answer(&choices));
        let brackets = format!("{}i{}", "(1 + ".repeat(90), ")".repeat(90));
        assert!(answer(&brackets).starts_with("= 93"), "{}", answer(&brackets));
        let loops = format!("{}true{}", "[i].all(x, ".repeat(90), ")".repeat(90));
        assert!(answer(&loops).starts_with("= true"), "{}", answer(&loops));
        let lists = format!("{}{}", "[".repeat(60), "]".repeat(60));
        let same = format!("dyn({lists}) == dyn({lists})");
        assert!(answer(&same).starts_with("= true"), "{}", answer(&same));
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn hostile_expressions_end_soon() {
    let started = std::time::Instant::now();
    for source in [
        "lists.range(1000000).map(x, [x, x]).size()",
        "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, true)))",
        "lists.range(1000).map(x, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').join('b').size()",
        "lists.range(5000).map(x, s).join('').replace('', s).replace('', s).size()",
        "lists.range(3000).distinct().size()",
        "lists.range(30).map(x, '(a?){20}a{20}' + string(x)).map(p, s.matches(p))",
        "'%.999f'.format([0.1]).size()",
        "'%.9999999999f'.format(d.l)",
        &format!("[1]{}.size()", ".map(x, {x: x})".repeat(100)),
        &format!("[1]{}.size()", ".map(x, [[x, x], [x, x]])".repeat(50)),
        &format!("[[]{}]", ", []".repeat(20_000)),
        "sets.contains(lists.range(2000), lists.range(2000))",
    ] {
        let _ = answer(source);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn nonsense_is_no_panic() {
    let words = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ".",
        ",",
        "?",
        ":",
        "!",
        "-",
        "+",
        "in",
        "==",
        "&&",
        "i",
        "s",
        "d",
        "li",
        "map",
        "all",
        "x",
        "1",
        "1u",
        "'a'",
        "b'\\xff'",
        "0x",
        "has",
        "Thing",
        "null",
        "`a`",
        "é",
        "日",
        "'",
        "\"",
        "@",
        "optional.none()",
        "1.5",
    ];
    let mut seed = 7u64;
    for _ in 0..20_000 {
        let mut source = String::new();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            source.push_str(words[(seed >> 33) as usize % words.len()]);
        }
        let _ = answer(&source);
    }
}
