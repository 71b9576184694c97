//! The string formats that a custom resource's schema may name, as upstream checks them.

use std::net::{IpAddr, Ipv6Addr};

use base64::{Engine, prelude::BASE64_STANDARD};

/// Whether a format is one that is checked. Dashes in its name do not count.
pub(super) fn known(format: &str) -> bool {
    check(&format.replace('-', "")).is_some()
}

/// Whether a text has a format that is [`known`].
pub(super) fn fits(format: &str, text: &str) -> bool {
    check(&format.replace('-', "")).is_none_or(|check| check(text))
}

fn check(format: &str) -> Option<fn(&str) -> bool> {
    Some(match format {
        "bsonobjectid" => |text| text.len() == 24 && hex(text),
        "uri" => uri,
        "email" => email,
        "hostname" => hostname,
        "ipv4" => ipv4,
        "ipv6" => |text| text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr,
        "mac" => mac,
        "uuid" => |text| uuid(text, None),
        "uuid3" => |text| uuid(text, Some('3')),
        "uuid4" => |text| uuid(text, Some('4')),
        "uuid5" => |text| uuid(text, Some('5')),
        "isbn" => |text| isbn10(text) || isbn13(text),
        "isbn10" => isbn10,
        "isbn13" => isbn13,
        "creditcard" => credit_card,
        "ssn" => ssn,
        "hexcolor" => hex_color,
        "rgbcolor" => rgb_color,
        "byte" => |text| !text.is_empty() && BASE64_STANDARD.decode(text).is_ok(),
        "password" => |_| true,
        "date" => date,
        "duration" => duration,
        "datetime" => date_time,
        "k8sshortname" => |text| text.len() <= 63 && label(text),
        "k8slongname" => |text| text.len() <= 253 && text.split('.').all(label),
        _ => return None,
    })
}

fn hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// What Go's `url.ParseRequestURI` takes: an absolute URI or an absolute path.
fn uri(text: &str) -> bool {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return false;
    }
    let escapes = |text: &str| {
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            if !rest.get(at + 1..at + 3).is_some_and(hex) {
                return false;
            }
            rest = &rest[at + 3..];
        }
        true
    };
    if text.starts_with('/') {
        return escapes(text);
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    // An authority has no spaces; a path may, as Go escapes them.
    let authority = rest
        .strip_prefix("//")
        .map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    scheme && !rest.is_empty() && escapes(rest) && !authority.contains([' ', '<', '>', '"'])
}

/// `name@host`, or that in angle brackets behind a display name.
fn email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(rest) => match rest.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    let Some((name, host)) = address.rsplit_once('@') else { return false };
    let atom = |text: &str| {
        !text.is_empty()
            && text.chars().all(|c| {
                c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
            })
    };
    let quoted = name.len() > 2 && name.starts_with('"') && name.ends_with('"');
    let literal = host.starts_with('[') && host.ends_with(']');
    (quoted || name.split('.').all(atom)) && (literal || host.split('.').all(atom))
}

fn hostname(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || c.is_alphabetic() || symbol(c);
    let label = |label: &str| {
        label.len() <= 63
            && label.starts_with(letter)
            && label.ends_with(letter)
            && label.chars().all(|c| letter(c) || c == '-')
    };
    let labels: Vec<&str> = text.split('.').collect();
    let last = labels.last().copied().unwrap_or_default();
    // A top-level domain has letters only, and two of them at least.
    let top =
        labels.len() == 1 || last.chars().count() >= 2 && last.chars().all(char::is_alphabetic);
    text.len() <= 255 && labels.iter().all(|l| label(l)) && top
}

/// Symbols, such as emoji, may be part of a host name.
fn symbol(c: char) -> bool {
    !c.is_ascii() && !c.is_alphanumeric() && !c.is_whitespace() && !c.is_control()
}

/// Go once took leading zeros in the parts of an IPv4 address, so that they are still allowed.
fn ipv4(text: &str) -> bool {
    let parts = text.split('.');
    parts.clone().count() == 4
        && parts.into_iter().all(|p| digits(p) && p.parse::<u64>().is_ok_and(|n| n <= 255))
        || text.contains('.') && text.parse::<Ipv6Addr>().is_ok()
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => 128,
        Ok(IpAddr::V4(_)) => 32,
        Err(_) if ipv4(address) => 32,
        Err(_) => return false,
    };
    digits(bits) && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn mac(text: &str) -> bool {
    let parts = |separator: char, len: usize, counts: [usize; 3]| {
        let parts = text.split(separator);
        counts.contains(&parts.clone().count())
            && parts.into_iter().all(|part| part.len() == len && hex(part))
    };
    parts(':', 2, [6, 8, 20]) || parts('-', 2, [6, 8, 20]) || parts('.', 4, [3, 4, 10])
}

fn uuid(text: &str, version: Option<char>) -> bool {
    // Each of the four dashes may be missing.
    let mut digits = String::with_capacity(32);
    for c in text.chars() {
        match c {
            '-' if [8, 12, 16, 20].contains(&digits.len()) && !digits.ends_with('-') => {}
            c if c.is_ascii_hexdigit() => digits.push(c.to_ascii_lowercase()),
            _ => return false,
        }
    }
    let at = |i: usize| digits.as_bytes().get(i).map(|byte| *byte as char);
    let variant = matches!(at(16), Some('8' | '9' | 'a' | 'b'));
    digits.len() == 32
        && !text.contains("--")
        && version.is_none_or(|v| at(12) == Some(v) && (v == '3' || variant))
}

fn stripped(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect()
}

fn isbn10(text: &str) -> bool {
    let text = stripped(text);
    let digit = |(i, c): (usize, char)| match c {
        'X' if i == 9 => Some(10),
        c => c.to_digit(10),
    };
    let digits: Option<Vec<u32>> = text.chars().enumerate().map(digit).collect();
    digits.is_some_and(|digits| {
        let sum: u32 = digits.iter().zip(1..).map(|(digit, weight)| digit * weight).sum();
        digits.len() == 10 && sum.is_multiple_of(11)
    })
}

fn isbn13(text: &str) -> bool {
    let digits: Option<Vec<u32>> = stripped(text).chars().map(|c| c.to_digit(10)).collect();
    digits.is_some_and(|digits| {
        let sum: u32 = digits.iter().zip([1, 3].into_iter().cycle()).map(|(d, w)| d * w).sum();
        digits.len() == 13 && sum.is_multiple_of(10)
    })
}

fn credit_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let number: String = digits.iter().map(u32::to_string).collect();
    let prefix = |len: usize| number.get(..len).and_then(|p| p.parse::<u32>().ok()).unwrap_or(0);
    let issuer = match digits.len() {
        13 => prefix(1) == 4,
        14 => (300..=305).contains(&prefix(3)) || matches!(prefix(2), 36 | 38),
        15 => matches!(prefix(2), 34 | 37) || matches!(prefix(4), 2131 | 1800),
        16 => {
            prefix(1) == 4
                || (51..=55).contains(&prefix(2))
                || prefix(4) == 6011
                || prefix(2) == 65
                || prefix(2) == 35
        }
        _ => false,
    };
    let luhn = |(i, digit): (usize, &u32)| match i % 2 {
        0 => *digit,
        _ => digit * 2 / 10 + digit * 2 % 10,
    };
    issuer && digits.iter().rev().enumerate().map(luhn).sum::<u32>() % 10 == 0
}

fn ssn(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 11
        && bytes.iter().enumerate().all(|(i, byte)| match i {
            3 | 6 => matches!(byte, b'-' | b' '),
            _ => byte.is_ascii_digit(),
        })
}

fn hex_color(text: &str) -> bool {
    let text = text.strip_prefix('#').unwrap_or(text);
    matches!(text.len(), 3 | 6) && hex(text)
}

fn rgb_color(text: &str) -> bool {
    let inner = text.strip_prefix("rgb(").and_then(|rest| rest.strip_suffix(')'));
    let part = |part: &str| {
        let part = part.trim();
        let plain = part == "0" || !part.starts_with('0');
        digits(part) && plain && part.parse::<u8>().is_ok()
    };
    inner.is_some_and(|inner| inner.split(',').count() == 3 && inner.split(',').all(part))
}

fn date(text: &str) -> bool {
    text.len() == 10 && crate::time::parse_seconds(&format!("{text}T00:00:00Z")).is_ok()
}

/// RFC 3339, with a letter of either case between date and time.
fn date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let Some((day, time)) = lower.split_once('t') else { return false };
    let Some(clock) = time.get(..8) else { return false };
    let bytes = clock.as_bytes();
    let two = |at: usize, most: u8| {
        bytes[at..at + 2].iter().all(u8::is_ascii_digit)
            && clock[at..at + 2].parse().is_ok_and(|n: u8| n <= most)
    };
    let colons = bytes[2] == b':' && bytes[5] == b':';
    let rest = &time[8..];
    let zone = match rest.find(['z', '+', '-']) {
        Some(at) => {
            let mut fraction = rest[..at].chars();
            if fraction.next().is_some() && !digits(fraction.as_str()) {
                return false;
            }
            &rest[at..]
        }
        None => return false,
    };
    let offset = zone.get(1..).filter(|_| zone.len() == 6).is_some_and(|offset| {
        let (hours, minutes) = offset.split_at(2);
        digits(hours) && minutes.starts_with(':') && digits(&minutes[1..])
    });
    date(day) && colons && two(0, 23) && two(3, 59) && two(6, 59) && (zone == "z" || offset)
}

/// Go's durations, and a number with a unit in words: `3 hours`.
fn duration(text: &str) -> bool {
    const UNITS: [&str; 22] = [
        "ns", "nano", "us", "µs", "micro", "ms", "milli", "s", "sec", "m", "min", "h", "hr",
        "hour", "d", "day", "w", "wk", "week", "nanos", "secs", "mins",
    ];
    if crate::time::parse_duration(text).is_ok() {
        return true;
    }
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let number = &rest[at..];
        let behind = number.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic() && c != 'µ');
        let unit = behind[..end.unwrap_or(behind.len())].to_lowercase();
        let long = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
        if UNITS.contains(&unit.as_str()) || long.iter().any(|long| unit.starts_with(long)) {
            return true;
        }
        rest = behind;
    }
    false
}

fn label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(plain) && text.ends_with(plain) && text.chars().all(|c| plain(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_formats() {
        for (format, good, bad) in [
            ("ipv4", "010.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("uri", "https://a.b/c?d", "a.b/c"),
            ("email", "a.b@example.org", "a.b.example.org"),
            ("hostname", "a-1.example.org", "-a.example.org"),
            ("mac", "01:23:45:67:89:ab", "01:23:45:67:89"),
            ("uuid", "F47AC10B-58cc-4372-a567-0e02b2c3d479", "f47ac10b-58cc-4372-a567"),
            (
                "uuid3",
                "f47ac10b-58cc-3372-a567-0e02b2c3d479",
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            ),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("creditcard", "4111-1111-1111-1111", "4111-1111-1111-1112"),
            ("ssn", "111-22-3333", "111-22-333"),
            ("hexcolor", "#FFFFFF", "#FFFFF"),
            ("rgbcolor", "rgb(0, 10,255)", "rgb(0,10,256)"),
            ("byte", "aGVsbG8=", "aGVsbG8"),
            ("date", "2024-02-29", "2023-02-29"),
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-12-15 19:30:20Z"),
            ("datetime", "2014-12-15t19:30:20+01:00", "2014-12-15T24:30:20Z"),
            ("duration", "3 hours", "three hours"),
            ("duration", "1h30m", "h"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901"),
            ("k8s-short-name", "a-b", "a-"),
            ("k8s-long-name", "a.b", "a..b"),
        ] {
            assert!(known(format) && fits(format, good), "{format} {good}");
            assert!(!fits(format, bad), "{format} {bad}");
        }
        assert!(!known("int32") && fits("anything", "at all"));
    }
}
