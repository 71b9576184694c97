//! Unix seconds, and the two ways in which certificates write them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    Error, Result,
    der::{GENERALIZED_TIME, Tlv, UTC_TIME, tlv},
};

/// Now, in Unix seconds.
pub(crate) fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_secs()).unwrap_or(i64::MAX)
}

/// Encodes as RFC 5280 wants it: UTCTime through 2049, GeneralizedTime after.
pub(crate) fn encode(seconds: i64) -> Vec<u8> {
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let time = seconds.rem_euclid(86_400);
    let rest =
        format!("{month:02}{day:02}{:02}{:02}{:02}Z", time / 3600, time / 60 % 60, time % 60);
    if (1950..2050).contains(&year) {
        tlv(UTC_TIME, &[format!("{:02}{rest}", year % 100).as_bytes()])
    } else {
        tlv(GENERALIZED_TIME, &[format!("{year:04}{rest}").as_bytes()])
    }
}

/// Reads either form.
pub(crate) fn decode(time: &Tlv<'_>) -> Result<i64> {
    const BAD: Error = Error::Malformed("time");
    let text = std::str::from_utf8(time.value).map_err(|_| BAD)?.strip_suffix('Z').ok_or(BAD)?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BAD);
    }
    let (year, rest) = match (time.tag, text.len()) {
        (UTC_TIME, 12) => {
            let year: i64 = text[..2].parse().map_err(|_| BAD)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (GENERALIZED_TIME, 14) => (text[..4].parse().map_err(|_| BAD)?, &text[4..]),
        _ => return Err(BAD),
    };
    let field = |at: usize| rest[at..at + 2].parse::<i64>().map_err(|_| BAD);
    let days = days(year, field(0)?, field(2)?);
    Ok(days * 86_400 + field(4)? * 3600 + field(6)? * 60 + field(8)?)
}

// The proleptic Gregorian calendar in eras of 400 years that begin in March, so that the leap day
// is the last of a year (Howard Hinnant's chrono-compatible algorithms).

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::Reader;

    #[test]
    fn times_round_trip_in_both_forms() {
        // 1970-01-01, 2000-02-29, 2038-01-19, 2049-12-31T23:59:59, 2050-01-01, 2126-03-01.
        for seconds in [0, 951_782_400, 2_147_483_647, 2_524_607_999, 2_524_608_000, 4_928_083_200]
        {
            let bytes = encode(seconds);
            let tlv = Reader::new(&bytes).any().unwrap();
            assert_eq!(tlv.tag == UTC_TIME, seconds < 2_524_608_000);
            assert_eq!(decode(&tlv).unwrap(), seconds);
        }
        assert_eq!(&encode(951_782_400)[2..], b"000229000000Z");
    }
}
