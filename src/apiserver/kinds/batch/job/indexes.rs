//! Indexes of an indexed job: `1,3-5,7`.

/// How many indexes the text names.
///
/// # Errors
/// What is wrong with it.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let mut last = None;
    let mut total = 0;
    if text.is_empty() {
        return Ok(0);
    }
    for interval in text.split(',') {
        let (low, high) = parse(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= low) {
            return Err(format!("non-increasing order, previous: {last}, current: {low}"));
        }
        total += high - low + 1;
        last = Some(high);
    }
    Ok(total)
}

/// The first index that is in both texts; what cannot be read is in neither. Both are gone through
/// once, in the order that they should have.
pub(super) fn overlap(left: &str, right: &str, completions: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|interval| parse(interval, completions).ok()).collect()
    };
    let (left, right) = (read(left), read(right));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some((low, high)), Some((from, to))) = (left.peek(), right.peek()) {
        if low <= to && from <= high {
            return Some(*low.max(from));
        }
        if low <= from {
            left.next()
        } else {
            right.next()
        };
    }
    None
}

fn parse(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= completions => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    let parts: Vec<&str> = interval.split('-').collect();
    match parts.as_slice() {
        [one] => index(one).map(|one| (one, one)),
        [low, high] => {
            let (low, high) = (index(low)?, index(high)?);
            if low >= high {
                return Err(format!("non-increasing order, previous: {low}, current: {high}"));
            }
            Ok((low, high))
        }
        _ => Err(format!(
            "the fragment {interval:?} violates the requirement that an index interval can have at \
             most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_and_checked() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        assert_eq!(count("5", 5), Err("too large index: \"5\"".to_owned()));
        assert_eq!(
            count("2,1", 5),
            Err("non-increasing order, previous: 2, current: 1".to_owned())
        );
        assert_eq!(
            count("a", 5),
            Err("cannot convert string to integer for index: \"a\"".to_owned())
        );
        assert!(count("1-2-3", 5).is_err());
        assert_eq!(overlap("1-3", "0,3-4", 5), Some(3));
        assert_eq!(overlap("1", "0,2", 5), None);
    }
}
