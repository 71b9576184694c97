//! What is wrong with an expression, and where; shown as cel-go shows it, because the messages of
//! the API contain the picture.

use std::fmt;

/// Longest line of an expression that is shown under its message.
const LONGEST_LINE: usize = 16_384;
/// Most messages that are kept.
const MOST: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Where: the number of characters before it.
    pub(crate) at: usize,
    /// What.
    pub(crate) message: String,
}

/// Everything that is wrong with one expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    source: String,
    all: Vec<Issue>,
    dropped: usize,
}

impl Issues {
    pub(crate) fn new(source: &str) -> Self {
        Self { source: source.to_owned(), all: Vec::new(), dropped: 0 }
    }

    pub(crate) fn add(&mut self, at: usize, message: impl Into<String>) {
        if self.all.len() >= MOST {
            self.dropped += 1;
            return;
        }
        self.all.push(Issue { at, message: message.into() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The messages alone.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|issue| issue.message.as_str())
    }
}

impl std::error::Error for Issues {}

impl fmt::Display for Issues {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<&str> = self.source.split('\n').collect();
        let mut sorted: Vec<(usize, usize, &str)> =
            self.all.iter().map(|issue| self.line_and_column(&lines, issue)).collect();
        sorted.sort_by_key(|(line, column, _)| (*line, *column));
        for (at, (line, column, message)) in sorted.iter().enumerate() {
            if at > 0 {
                out.write_str("\n")?;
            }
            if self.source.is_empty() {
                // There is no first column then, and nothing to show.
                write!(out, "ERROR: <input>:1:0: {message}")?;
                continue;
            }
            write!(out, "ERROR: <input>:{}:{}: {message}", line + 1, column + 1)?;
            let text = lines.get(*line).copied().unwrap_or_default();
            if text.len() <= LONGEST_LINE {
                picture(text, *column, out)?;
            }
        }
        if self.dropped > 0 {
            write!(out, "\n{} more errors were truncated", self.dropped)?;
        }
        Ok(())
    }
}

impl Issues {
    fn line_and_column<'a>(&self, lines: &[&str], issue: &'a Issue) -> (usize, usize, &'a str) {
        let mut left = issue.at;
        for (at, line) in lines.iter().enumerate() {
            let length = line.chars().count();
            if left <= length {
                return (at, left, &issue.message);
            }
            left -= length + 1;
        }
        (lines.len().saturating_sub(1), left, &issue.message)
    }
}

/// The line, and under it dots up to the column. Characters of several bytes get wide dots.
fn picture(line: &str, column: usize, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = String::new();
    let mut marks = String::new();
    let mut all = line.chars();
    for c in all.by_ref().take(column) {
        text.push(if c == '\t' { ' ' } else { c });
        marks.push(if c.len_utf8() > 1 { '\u{ff0e}' } else { '.' });
    }
    let mut rest = all.peekable();
    marks.push(match rest.peek() {
        Some(c) if c.len_utf8() > 1 => '\u{ff3e}',
        _ => '^',
    });
    text.extend(rest.map(|c| if c == '\t' { ' ' } else { c }));
    write!(out, "\n | {text}\n | {marks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issues_are_shown_in_order_under_their_line() {
        let mut issues = Issues::new("a\n\tb + 日c");
        issues.add(7, "later");
        issues.add(0, "sooner");
        let shown = issues.to_string();
        assert_eq!(
            shown,
            "ERROR: <input>:1:1: sooner\n | a\n | ^\nERROR: <input>:2:6: later\n |  b + 日c\n | .....＾"
        );
    }

    #[test]
    fn a_place_beyond_the_end_is_no_panic() {
        let mut issues = Issues::new("");
        issues.add(9, "gone");
        assert!(issues.to_string().starts_with("ERROR: <input>:1:"));
    }
}
