//! Strings and bytes as they are written, with their escapes.

use crate::token::Word;

/// Reads up to the closing quote (three of them for `triple`). The result is the value and the place
/// behind it; the error is the place behind the character that did not fit.
pub(crate) fn read(
    chars: &[char],
    from: usize,
    quote: char,
    triple: bool,
    raw: bool,
    bytes: bool,
) -> Result<(Word, usize), usize> {
    let mut text = String::new();
    let mut octets = Vec::new();
    let mut at = from;
    loop {
        let Some(&c) = chars.get(at) else { return Err(chars.len() + 1) };
        let closes = c == quote
            && (!triple
                || (chars.get(at + 1) == Some(&quote) && chars.get(at + 2) == Some(&quote)));
        if closes {
            let end = at + if triple { 3 } else { 1 };
            let word = if bytes { Word::Bytes(octets) } else { Word::String(text) };
            return Ok((word, end));
        }
        if !triple && matches!(c, '\n' | '\r') {
            return Err(at + 1);
        }
        if c == '\\' && !raw {
            let (value, end) = escape(chars, at + 1, bytes)?;
            match value {
                Escape::Char(c) => push(c, &mut text, &mut octets, bytes),
                Escape::Octet(octet) => octets.push(octet),
            }
            at = end;
            continue;
        }
        push(c, &mut text, &mut octets, bytes);
        at += 1;
    }
}

enum Escape {
    Char(char),
    Octet(u8),
}

fn push(c: char, text: &mut String, octets: &mut Vec<u8>, bytes: bool) {
    if bytes {
        octets.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        text.push(c);
    }
}

/// The escape whose letter is at `at`.
fn escape(chars: &[char], at: usize, bytes: bool) -> Result<(Escape, usize), usize> {
    let letter = *chars.get(at).ok_or(chars.len() + 1)?;
    let simple = match letter {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '"' | '\'' | '\\' | '?' | '`' => letter,
        _ => {
            let (from, count, radix) = match letter {
                'x' | 'X' => (at + 1, 2, 16),
                'u' => (at + 1, 4, 16),
                'U' => (at + 1, 8, 16),
                '0'..='3' => (at, 3, 8),
                _ => return Err(at + 1),
            };
            let mut number = 0u32;
            for place in from..from + count {
                let digit = chars.get(place).and_then(|c| c.to_digit(radix)).ok_or(place + 1)?;
                number = number.wrapping_mul(radix).wrapping_add(digit);
            }
            let end = from + count;
            if bytes && !matches!(letter, 'u' | 'U') {
                let octet = u8::try_from(number).map_err(|_| end)?;
                return Ok((Escape::Octet(octet), end));
            }
            let c = char::from_u32(number).ok_or(end)?;
            return Ok((Escape::Char(c), end));
        }
    };
    Ok((Escape::Char(simple), at + 1))
}
