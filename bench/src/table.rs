//! What was found, as one table: cases, in each the contenders, and what is asked of tierlock beside each.

use std::fmt::Write as _;

use crate::effort::Effort;
use crate::harness::{Contender, Race, race};

/// The middle of many samples, and what half of them lie between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quartiles {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Quartiles {
    pub(crate) fn exactly(figure: f64) -> Self {
        Self { low: figure, median: figure, high: figure }
    }

    pub(crate) fn of(samples: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = samples.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
        Self { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

/// What is asked of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// tierlock takes at most so many times what this contender takes.
    Ratio(f64),
    /// The figure of the line is at most this.
    AtMost(f64),
    /// The figure of the line is this.
    Exactly(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    Nanoseconds,
    Bytes,
    PerSecond,
    Count,
}

/// A contender in a case.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) figure: f64,
    pub(crate) unit: Unit,
    /// How many times as long as this one tierlock takes.
    pub(crate) ratio: Option<Quartiles>,
    pub(crate) targets: Vec<Target>,
}

impl Line {
    pub(crate) fn new(name: impl Into<String>, figure: f64, unit: Unit) -> Self {
        Self { name: name.into(), figure, unit, ratio: None, targets: Vec::new() }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// What was measured where a target is missed, were it `looser` times as high.
    fn miss(&self, target: Target, looser: f64) -> Option<String> {
        let said = Figure(self.figure, self.unit);
        match (target, self.ratio) {
            (Target::Ratio(most), Some(ratio)) if ratio.median > most * looser => {
                Some(format!("{:.2} ({:.2} to {:.2}) times", ratio.median, ratio.low, ratio.high))
            }
            (Target::AtMost(most), _) if self.figure > most * looser => Some(said.to_string()),
            (Target::Exactly(count), _) if self.figure != count => Some(said.to_string()),
            _ => None,
        }
    }

    fn said(&self, target: Target) -> String {
        match target {
            Target::Ratio(most) => format!("≤ {} ×", (most * 100.0).round() / 100.0),
            Target::AtMost(most) => format!("≤ {}", Figure(most, self.unit)),
            Target::Exactly(count) => format!("= {}", Figure(count, self.unit)),
        }
    }
}

/// Contenders who do the same thing, tierlock first.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) row: u32,
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
}

impl Case {
    pub(crate) fn new(row: u32, title: impl Into<String>, lines: Vec<Line>) -> Self {
        Self { row, title: title.into(), lines }
    }

    /// Lets the contenders race.
    pub(crate) fn race(
        row: u32,
        title: impl Into<String>,
        effort: Effort,
        contenders: Vec<Contender<'_>>,
    ) -> Self {
        let race = race(effort, contenders);
        let lines = (0..race.names.len()).map(|index| Self::line(&race, index)).collect();
        Self::new(row, title, lines)
    }

    fn line(race: &Race, index: usize) -> Line {
        let ratio = (index > 0).then(|| race.ratio(index));
        let name = race.names[index].clone();
        Line { ratio, ..Line::new(name, race.time(index).median, Unit::Nanoseconds) }
    }

    /// Asks something of a line.
    pub(crate) fn target(mut self, name: &str, target: Target) -> Self {
        let line = self.lines.iter_mut().find(|line| line.name == name);
        line.expect("a contender of this name").targets.push(target);
        self
    }

    /// Each target missed, with what was measured, were all of them `looser` times as high.
    pub(crate) fn misses(&self, looser: f64) -> Vec<String> {
        let miss = |line: &Line, target: Target| {
            let (row, case, name) = (self.row, &self.title, &line.name);
            let (measured, wanted) = (line.miss(target, looser)?, line.said(target));
            Some(format!("row {row}, {case}, {name}: target {wanted}, measured {measured}"))
        };
        let targets =
            self.lines.iter().flat_map(|line| line.targets.iter().map(move |t| (line, *t)));
        targets.filter_map(|(line, target)| miss(line, target)).collect()
    }
}

/// A figure with its unit, for people.
struct Figure(f64, Unit);

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(figure, unit) = *self;
        match unit {
            Unit::Nanoseconds if figure >= 1e6 => write!(f, "{:.1} ms", figure / 1e6),
            Unit::Nanoseconds if figure >= 1e4 => write!(f, "{:.1} µs", figure / 1e3),
            Unit::Nanoseconds if figure >= 100.0 => write!(f, "{figure:.0} ns"),
            Unit::Nanoseconds => write!(f, "{figure:.1} ns"),
            Unit::Bytes if figure >= 1e6 => write!(f, "{:.0} MB", figure / 1e6),
            Unit::Bytes => write!(f, "{figure:.0} B"),
            Unit::PerSecond => write!(f, "{figure:.0} /s"),
            Unit::Count => write!(f, "{figure:.0}"),
        }
    }
}

const TITLES: [&str; 6] = ["#", "case", "contender", "median", "tierlock takes", "target"];

/// All cases as a table that reads well as text and as Markdown.
pub(crate) fn render(cases: &[Case]) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    for case in cases {
        for (index, line) in case.lines.iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            let [ratio, target] = judged(line);
            rows.push([
                first(case.row.to_string()),
                first(case.title.clone()),
                line.name.clone(),
                Figure(line.figure, line.unit).to_string(),
                ratio,
                target,
            ]);
        }
    }
    align(&rows)
}

/// How tierlock compares with a line, and what is asked of it.
fn judged(line: &Line) -> [String; 2] {
    let ratio = line.ratio.map_or_else(String::new, |ratio| {
        format!("{:.2} × ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high)
    });
    let target = |target: &Target| {
        let verdict = if line.miss(*target, 1.0).is_some() { "**missed**" } else { "met" };
        format!("{} {verdict}", line.said(*target))
    };
    [ratio, line.targets.iter().map(target).collect::<Vec<_>>().join(", ")]
}

fn align(rows: &[[String; TITLES.len()]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; TITLES.len()] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            write!(text, "| {cell:<width$} ").expect("a string takes all");
        }
        text.push_str("|\n");
        if index == 0 {
            widths
                .iter()
                .for_each(|width| write!(text, "|{:-<1$}", "", width + 2).expect("as before"));
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(median: f64, figure: f64) -> Case {
        let ratio = Some(Quartiles { low: median - 0.1, median, high: median + 0.1 });
        let other = Line { ratio, ..Line::new("other", 10.0, Unit::Nanoseconds) };
        let own = Line::new("tierlock", figure, Unit::Nanoseconds);
        Case::new(1, "exclusive", vec![own, other])
            .target("tierlock", Target::AtMost(12.0))
            .target("other", Target::Ratio(1.25))
    }

    #[test]
    fn a_target_missed_is_told_with_what_was_measured() {
        assert!(case(1.25, 12.0).misses(1.0).is_empty());
        assert_eq!(
            case(1.3, 13.0).misses(1.0),
            [
                "row 1, exclusive, tierlock: target ≤ 12.0 ns, measured 13.0 ns",
                "row 1, exclusive, other: target ≤ 1.25 ×, measured 1.30 (1.20 to 1.40) times",
            ]
        );
        assert!(case(1.3, 13.0).misses(2.0).is_empty());
        assert_eq!(case(2.6, 25.0).misses(2.0).len(), 2);
    }

    #[test]
    fn a_table_is_text_and_markdown() {
        let text = render(&[case(1.3, 11.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines.iter().all(|line| line.chars().count() == lines[0].chars().count()),
            "{text}"
        );
        assert!(lines[2].contains("| tierlock  | 11.0 ns |"), "{text}");
        assert!(lines[3].contains("| 1.30 × (1.20 to 1.40) | ≤ 1.25 × **missed**"), "{text}");
    }

    #[test]
    fn quartiles_are_of_the_samples_in_order() {
        let quartiles = Quartiles::of([5.0, 1.0, 4.0, 2.0, 3.0].into_iter());
        assert_eq!(quartiles, Quartiles { low: 2.0, median: 3.0, high: 4.0 });
    }
}
