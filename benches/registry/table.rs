//! The one table of results.

use std::fmt;

/// What must hold of a figure.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Told, not judged.
    None,
}

impl Goal {
    fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(least) => figure >= least,
            Self::AtMost(most) => figure <= most,
            Self::None => true,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::None => Ok(()),
        }
    }
}

struct Row {
    what: String,
    figure: f64,
    range: Option<(f64, f64)>,
    details: String,
    goal: Goal,
}

pub struct Table {
    rounds: usize,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(rounds: usize) -> Self {
        Self { rounds, rows: Vec::new() }
    }

    pub fn figure(&mut self, what: &str, figure: f64, goal: Goal, details: String) {
        self.add(Row { what: what.to_owned(), figure, range: None, details, goal });
    }

    /// The median of one figure a round.
    pub fn rounds(&mut self, what: &str, figures: &[f64], goal: Goal, details: String) {
        let sorted = sorted(figures);
        let range = Some((sorted[0], sorted[sorted.len() - 1]));
        self.add(Row { what: what.to_owned(), figure: median(figures), range, details, goal });
    }

    fn add(&mut self, row: Row) {
        println!("{row}");
        self.rows.push(row);
    }

    pub fn is_met(&self) -> bool {
        self.rows.iter().all(|row| row.goal.is_met(row.figure))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range.map_or(String::new(), |(least, most)| format!("[{least:.2} - {most:.2}]"));
        let verdict = match (self.goal, self.goal.is_met(self.figure)) {
            (Goal::None, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        let Self { what, figure, goal, details, .. } = self;
        write!(
            f,
            "{what:<58} {figure:>9.3} {range:<20} {goal:<8} {verdict:<6}  {details}",
            goal = goal.to_string()
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nmedians of {} rounds in changing order, after one to warm up; ratios are those of a round",
            self.rounds
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        let missed = self.rows.iter().filter(|row| !row.goal.is_met(row.figure)).count();
        let judged = self.rows.iter().filter(|row| !matches!(row.goal, Goal::None)).count();
        writeln!(f, "{} of {judged} goals met", judged - missed)
    }
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

pub fn median(figures: &[f64]) -> f64 {
    quantile(figures, 0.5)
}

pub fn quantile(figures: &[f64], share: f64) -> f64 {
    let sorted = sorted(figures);
    let last = sorted.len() - 1;
    sorted[((last as f64 * share).round() as usize).min(last)]
}
