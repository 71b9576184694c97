//! Numbers of pods that are given as they are or as a share of others.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// To which whole number a share is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

/// The number that `value` means where there are `total`.
pub(crate) fn scaled(value: &IntOrString, total: i32, round: Round) -> i32 {
    match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let hundredths = percent.saturating_mul(i64::from(total));
            let rounded = match round {
                Round::Up => hundredths.saturating_add(99) / 100,
                Round::Down => hundredths / 100,
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_as_asked() {
        let of = |text: &str, round| scaled(&IntOrString::String(text.to_owned()), 7, round);
        assert_eq!((of("50%", Round::Up), of("50%", Round::Down)), (4, 3));
        assert_eq!(of("x", Round::Up), 0);
        assert_eq!(scaled(&IntOrString::Int(9), 7, Round::Up), 9);
    }
}
