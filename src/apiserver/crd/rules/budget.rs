//! What the rules of one schema may cost at most, as it is estimated when a definition is written.

use apimachinery::field::{FieldError, Path};

/// The most that one rule may cost, on all values that an object has of its schema.
const OF_RULE: u64 = 10_000_000;

/// The most that all rules may cost.
const OF_ALL: u64 = 100_000_000;

/// How many of the dearest rules are told where all are too dear.
const TOLD: usize = 4;

/// What rules cost so far.
#[derive(Default)]
pub(super) struct Budget {
    total: u64,
    dear: Vec<(Path, u64)>,
    /// Whether the schema is that of before, which no single rule makes invalid.
    pub(super) lenient: bool,
}

impl Budget {
    /// Counts a rule in. Gives what is wrong with it alone.
    pub(super) fn spend(&mut self, path: &Path, what: &str, cost: u64) -> Option<FieldError> {
        self.total = self.total.saturating_add(cost);
        if cost >= OF_ALL / 100 {
            self.dear.push((path.clone(), cost));
        }
        let refused = cost > OF_RULE && !self.lenient;
        refused.then(|| FieldError::forbidden(path, &exceeds(what, cost, OF_RULE)))
    }

    /// What is wrong with the rules of a schema together.
    pub(super) fn finish(mut self, path: &Path, errors: &mut Vec<FieldError>) {
        if self.total <= OF_ALL {
            return;
        }
        self.dear.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (path, _) in self.dear.iter().take(TOLD) {
            let detail = "contributed to estimated rule cost total exceeding cost limit for \
                          entire OpenAPIv3 schema";
            errors.push(FieldError::forbidden(path, detail));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.push(FieldError::forbidden(path, &exceeds(what, self.total, OF_ALL)));
    }
}

fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = match factor {
        large if large > 100.0 => "more than 100x".to_owned(),
        // Not to say that it exceeds by a factor of 1.0.
        small if small < 1.5 => format!("{small:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding \
         maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}
