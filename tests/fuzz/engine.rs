//! Makes inputs out of good ones, tries them, and keeps those that break something.

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long one input may take, on a busy machine and unoptimized.
const SLOW: Duration = Duration::from_secs(10);
/// The stack of the threads that do this work in the server.
const STACK: usize = 2 << 20;
const LONGEST: usize = 256 << 10;

/// A reproducible source of numbers (splitmix64).
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Bytes of a length.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Tries what `make` makes for the time that there is. `target` panics where something is broken.
pub fn fuzz(
    name: &'static str,
    make: impl Fn(&mut Random) -> Vec<u8> + Sync,
    target: impl Fn(&[u8]) + Sync,
) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("FUZZ_SEED").unwrap_or(0x006b_6e61_7272);
    let budget = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(3));
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    println!("{name}: FUZZ_SEED={seed}");
    let attempt = |input: &[u8]| {
        let begin = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| target(input))).is_ok();
        let took = begin.elapsed();
        if !done {
            return Err("broke something".to_owned());
        }
        if took > SLOW { Err(format!("took {took:?}")) } else { Ok(()) }
    };
    let all = || {
        let mut kept: Vec<PathBuf> =
            fs::read_dir(&corpus).into_iter().flatten().flatten().map(|e| e.path()).collect();
        kept.sort();
        for path in kept {
            if let Err(why) = attempt(&fs::read(&path).unwrap()) {
                panic!("{} {why}", path.display());
            }
        }
        let (mut random, begin, mut count) = (Random(seed), Instant::now(), 0_u64);
        while begin.elapsed() < budget {
            let input = make(&mut random);
            if let Err(why) = attempt(&input) {
                let sum = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                    (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                });
                fs::create_dir_all(&corpus).unwrap();
                let path = corpus.join(format!("{sum:016x}"));
                fs::write(&path, &input).unwrap();
                panic!("{name}: input {count} of seed {seed} {why}; kept in {}", path.display());
            }
            count += 1;
        }
        println!("{name}: {count} inputs");
        assert!(count > 0, "not one input was tried");
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, all);
        if let Err(panic) = thread.unwrap().join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// One of the seeds, changed in a few places.
pub fn mutated(random: &mut Random, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = random.pick(seeds).clone();
    for _ in 0..1 + random.below(6) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(32)).min(input.len());
        match random.below(10) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = *random.pick(&[0, 1, 0x7f, 0x80, 0xff, b'"']),
            2 => {
                let length = 1 + random.below(8);
                let bytes = random.bytes(length);
                drop(input.splice(at..at, bytes));
            }
            3 => drop(input.drain(at..end)),
            // The same over and over: depth, length, counts.
            4 => {
                let piece: Vec<u8> = input[at..end].to_vec();
                let times = *random.pick(&[1, 2, 16, 300, 5_000]);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            5 => {
                let other = random.pick(seeds);
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            6 => {
                let number: &[&str] =
                    &["0", "-1", "9223372036854775808", "1e999", "-0.0", "1e-400"];
                drop(input.splice(at..end, random.pick(number).bytes()));
            }
            7 => input.truncate(at),
            _ if !words.is_empty() => {
                drop(input.splice(at..at, random.pick(words).bytes()));
            }
            _ => {}
        }
        input.truncate(LONGEST);
    }
    input
}

/// Any JSON value, small.
pub fn any_json(random: &mut Random, words: &[&str]) -> Value {
    let key = |random: &mut Random| (*random.pick(words)).to_owned();
    match random.below(10) {
        0 => Value::Null,
        1 => json!(random.below(2) == 1),
        2 => json!(*random.pick(&[0_i64, 1, -1, i64::MAX, i64::MIN, 1 << 32])),
        3 => json!(*random.pick(&[0.5, -0.0, 1e300, 1e-300])),
        4 => json!({}),
        5 => json!([]),
        6 => json!({key(random): any_json(random, words)}),
        7 => json!([any_json(random, words), any_json(random, words)]),
        _ => Value::String(key(random)),
    }
}

/// Changes values, keys and items somewhere within a JSON value.
pub fn mutate_json(random: &mut Random, value: &mut Value, words: &[&str]) {
    let deeper = random.below(8) != 0;
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = random.pick(&keys).clone();
            match random.below(8) {
                0 => drop(fields.remove(&key)),
                1 => {
                    let word = (*random.pick(words)).to_owned();
                    let any = any_json(random, words);
                    fields.insert(word, any);
                }
                _ => mutate_json(random, &mut fields[&key], words),
            }
        }
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random.below(items.len());
            match random.below(8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                2 => items.insert(at, any_json(random, words)),
                _ => mutate_json(random, &mut items[at], words),
            }
        }
        other => *other = any_json(random, words),
    }
}
