//! Comparison with upstream's package (testdata/quantity.json, made by testdata/generate) and the
//! laws of arithmetic.

use super::*;

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    canonical: String,
    value: i64,
    milli: i64,
    float: f64,
    #[serde(default)]
    sum: String,
    #[serde(default)]
    diff: String,
}

/// Where upstream's answer is a known accident: amounts beyond i64 read as 0 or wrap, negative
/// big decimals round the wrong way, and a suffix beyond E is dropped.
const ACCIDENTS: [&str; 7] =
    ["10E", "9223372036854775808", "1e21", "3e30", "-8Ei", "-0.1n", "-1e-10"];

#[test]
fn agrees_with_upstream() {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("../testdata/quantity.json")).expect("fixture is JSON");
    assert!(cases.len() > 100);
    for case in cases {
        let text = case.text.as_str();
        let quantity = match Quantity::parse(text) {
            Ok(quantity) => quantity,
            Err(error) => {
                assert_eq!(error.to_string(), case.error, "{text:?}");
                assert_eq!(canonical(text), Err(error), "{text:?}");
                continue;
            }
        };
        assert_eq!(case.error, "", "{text:?}");
        let error = (quantity.as_f64() - case.float).abs();
        assert!(
            error <= case.float.abs() * 1e-15,
            "{text:?}: {} {}",
            quantity.as_f64(),
            case.float
        );
        let wide = quantity.as_f64().abs() >= 9.2e18;
        if !ACCIDENTS.contains(&text) {
            assert_eq!(canonical(text).expect("parses"), case.canonical, "{text:?}");
            assert_eq!((quantity + Quantity::from_milli(1500)).to_string(), case.sum, "{text:?}");
            let gibi = Quantity::new(1 << 30, Format::BinarySi);
            assert_eq!((gibi - quantity).to_string(), case.diff, "{text:?}");
            if !wide {
                assert_eq!(quantity.value(), case.value, "{text:?}");
            }
            if quantity.as_f64().abs() < 9.2e15 {
                assert_eq!(quantity.milli_value(), case.milli, "{text:?}");
            }
        }
    }
}

#[test]
fn beyond_i64_is_held_at_the_end() {
    for text in ["10E", "1e30", "9223372036854775808", "1e2000000"] {
        let quantity = Quantity::parse(text).expect("parses");
        assert_eq!(quantity.value(), i64::MAX, "{text}");
        assert_eq!((-quantity).milli_value(), i64::MIN, "{text}");
        assert_eq!(quantity.as_i64(), None, "{text}");
    }
    assert_eq!(Quantity::parse("1e21").expect("parses").to_string(), "1e21");
    assert_eq!(Quantity::parse("1000E").expect("parses").to_string(), "1e21");
}

#[test]
fn hostile_numbers_take_linear_time() {
    let long = "9".repeat(1 << 20);
    for text in [format!("{long}Ei"), long.clone(), format!("0.{long}"), format!("0.{long}Gi")] {
        let quantity = Quantity::parse(&text).expect("parses");
        assert!(quantity > Quantity::ZERO);
        assert!(canonical(&text).expect("parses").len() < 60);
    }
    let (large, small) = (Quantity::parse("1e1000000000"), Quantity::parse("1e-1000000000"));
    let (large, small) = (large.expect("parses"), small.expect("parses"));
    assert_eq!(small.to_string(), "1e-9");
    assert_eq!(large + small, large + small);
    assert!(large > small && -large < small);
    assert!(Quantity::parse("1e99999999999").is_err());
}

/// Every pair from a spread of mantissas and scales, against exact integers in nano.
#[test]
fn order_and_arithmetic_are_exact() {
    let mut all = Vec::new();
    for mantissa in [0i64, 1, -1, 2, 9, 10, 11, 99, -100, 101, 999, 1024, 123_456_789] {
        for scale in -9..=9 {
            all.push((
                Quantity::from_scaled(mantissa, scale),
                i128::from(mantissa) * 10i128.pow((scale + 9) as u32),
            ));
        }
    }
    let nano = |q: Quantity| q.mantissa * 10i128.pow((q.scale + 9) as u32);
    for (a, exact_a) in &all {
        assert_eq!(nano(*a), *exact_a);
        assert_eq!(Quantity::parse(&a.to_string()).expect("round trip"), *a);
        assert_eq!(nano(a.times(1000)), exact_a * 1000);
        for (b, exact_b) in &all {
            assert_eq!(a.cmp(b), exact_a.cmp(exact_b), "{a} {b}");
            assert_eq!(nano(*a + *b), exact_a + exact_b, "{a} {b}");
            assert_eq!(nano(*a - *b), exact_a - exact_b, "{a} {b}");
        }
    }
}

#[test]
fn from_json() {
    let read = |text: &str| {
        let value = serde_json::from_str(text).expect("JSON");
        Quantity::from_json(&value).map(|q| q.to_string())
    };
    assert_eq!(read("1.5"), Ok("1500m".to_owned()));
    assert_eq!(read("\" 1Gi \""), Ok("1Gi".to_owned()));
    assert_eq!(read("null"), Ok("0".to_owned()));
    assert_eq!(read("[]"), Err(QuantityError::Format));
}
