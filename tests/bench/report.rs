//! The table of what was measured.

use std::fmt;

/// What is promised about a figure.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing; it is told all the same. Less is better.
    Less,
    /// The same where more is better.
    More,
}

/// A figure.
pub struct Row {
    /// What was measured.
    pub what: String,
    pub unit: &'static str,
    pub goal: Goal,
    /// Of Knarr.
    pub measured: f64,
    /// Of the cluster beside it.
    pub beside: Option<f64>,
}

impl Row {
    /// A figure of Knarr alone.
    pub fn new(what: impl Into<String>, unit: &'static str, goal: Goal, measured: f64) -> Self {
        Self { what: what.into(), unit, goal, measured, beside: None }
    }

    /// The same with what the other cluster took.
    pub fn beside(self, beside: Option<f64>) -> Self {
        Self { beside, ..self }
    }

    fn cells(&self) -> [String; 6] {
        let unit = |figure: f64| format!("{} {}", Figure(figure), self.unit).trim_end().to_owned();
        let (goal, verdict) = match self.goal {
            Goal::AtMost(most) => (format!("<= {}", unit(most)), missed(self.measured / most)),
            Goal::AtLeast(least) => (format!(">= {}", unit(least)), missed(least / self.measured)),
            Goal::Less | Goal::More => (String::new(), String::new()),
        };
        let better = |beside: f64| match self.goal {
            Goal::AtMost(_) | Goal::Less => beside / self.measured,
            Goal::AtLeast(_) | Goal::More => self.measured / beside,
        };
        [
            self.what.clone(),
            goal,
            unit(self.measured),
            verdict,
            self.beside.map(unit).unwrap_or_default(),
            self.beside.map(|b| format!("{}x", Figure(better(b)))).unwrap_or_default(),
        ]
    }
}

/// How the goal fares where 1 is just met and more is not.
fn missed(part: f64) -> String {
    if part <= 1.0 { "met".to_owned() } else { format!("missed, {part:.2}x") }
}

/// A number with as many digits as say something.
struct Figure(f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.0.abs() {
            0.0 => 0,
            small if small < 1.0 => 3,
            small if small < 10.0 => 2,
            small if small < 100.0 => 1,
            _ => 0,
        };
        write!(f, "{:.digits$}", self.0)
    }
}

/// A table in Markdown, aligned so that it reads as text too.
pub fn table(rows: &[Row]) -> String {
    let head = ["figure", "goal", "Knarr", "", "beside", "better by"].map(str::to_owned);
    let cells: Vec<_> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<usize> =
        (0..6).map(|c| cells.iter().map(|r| r[c].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (at, row) in cells.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("| {cell:width$} ");
        }
        text += "|\n";
        if at == 0 {
            let rule: Vec<_> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text += &format!("|{}|\n", rule.join("|"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_how_the_goal_fares_and_how_the_other_does() {
        let row = Row::new("gets", "/s", Goal::AtLeast(200.0), 100.0).beside(Some(50.0));
        assert_eq!(
            row.cells(),
            ["gets", ">= 200 /s", "100 /s", "missed, 2.00x", "50.0 /s", "2.00x"]
        );
        let row = Row::new("size", "MiB", Goal::AtMost(20.0), 18.46);
        assert_eq!(row.cells(), ["size", "<= 20.0 MiB", "18.5 MiB", "met", "", ""]);
    }
}
