//! The figures, gathered round by round and printed as one Markdown table.

use std::fmt;
use std::fs;
use std::process::Command;

use crate::settings::Settings;

/// Which way a figure should go.
#[derive(Clone, Copy)]
enum Better {
    /// The goal is a ceiling.
    Less,
    /// The goal is a floor.
    More,
}

/// What stands at the head of a comparison.
pub(crate) struct Row {
    words: String,
    unit: &'static str,
    better: Better,
    /// Of the ratio to the chain.
    goal: Option<f64>,
}

impl Row {
    /// A figure that should be small.
    pub(crate) fn less(words: &str, unit: &'static str, goal: Option<f64>) -> Self {
        Self {
            words: words.to_owned(),
            unit,
            better: Better::Less,
            goal,
        }
    }

    /// A figure that should be large.
    pub(crate) fn more(words: &str, unit: &'static str, goal: Option<f64>) -> Self {
        Self {
            better: Better::More,
            ..Self::less(words, unit, goal)
        }
    }

    /// What the goal is, and whether the ratio meets it.
    fn verdict(&self, ratio: f64) -> String {
        let Some(goal) = self.goal else {
            return String::new();
        };
        let (sign, met) = match self.better {
            Better::Less => ("≤", ratio <= goal),
            Better::More => ("≥", ratio >= goal),
        };
        format!("{} {sign} {goal:.2}", mark(met))
    }
}

/// A figure of both systems.
struct Comparison {
    row: Row,
    /// System and value, in the order in which they were measured.
    values: Vec<(&'static str, f64)>,
}

/// A figure of relay or agent alone.
struct Single {
    words: String,
    unit: &'static str,
    goal: Option<f64>,
    value: f64,
}

/// What the run found.
pub(crate) struct Table {
    heading: String,
    comparisons: Vec<Comparison>,
    singles: Vec<Single>,
}

impl Table {
    pub(crate) fn new(settings: &Settings) -> Self {
        let kind = match settings.short {
            _ if cfg!(debug_assertions) => "unoptimised build: for smoke, not for quoting",
            true => "short run: for smoke, not for quoting",
            false => "full run",
        };
        let heading = format!(
            "{kind}; rounds: {}, {} s a measurement; {}",
            settings.rounds,
            settings.seconds,
            machine()
        );
        Self {
            heading,
            comparisons: Vec::new(),
            singles: Vec::new(),
        }
    }

    /// Adds one measurement of one system; those with the same words stand in one row.
    pub(crate) fn compare(&mut self, row: Row, system: &'static str, value: f64) {
        let known = |comparison: &&mut Comparison| comparison.row.words == row.words;
        match self.comparisons.iter_mut().find(known) {
            Some(comparison) => comparison.values.push((system, value)),
            None => self.comparisons.push(Comparison {
                row,
                values: vec![(system, value)],
            }),
        }
    }

    /// Adds a figure that has no counterpart in the chain; its goal, if any, is a ceiling.
    pub(crate) fn single(
        &mut self,
        words: impl Into<String>,
        unit: &'static str,
        goal: Option<f64>,
        value: f64,
    ) {
        self.singles.push(Single {
            words: words.into(),
            unit,
            goal,
            value,
        });
    }
}

impl Comparison {
    /// Measurements of one system, in rounds.
    fn of(&self, system: &str) -> Vec<f64> {
        let own = self.values.iter().filter(|(name, _)| *name == system);
        own.map(|(_, value)| *value).collect()
    }

    /// The chain first: the first round begins with it.
    fn systems(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in &self.values {
            if !names.contains(name) {
                names.push(name);
            }
        }
        names
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n", self.heading)?;
        let systems = self.comparisons.first().map(Comparison::systems);
        match systems.unwrap_or_default().as_slice() {
            [chain, ours] => self.fmt_ratios(out, chain, ours)?,
            systems => {
                writeln!(out, "| | {} |\n|---|---|", systems.join(" | "))?;
                for Comparison { row, values } in &self.comparisons {
                    let values = values.iter().map(|(_, value)| *value).collect();
                    let value = figure(median(values), row.unit);
                    writeln!(out, "| {} | {value} |", row.words)?;
                }
            }
        }
        if !self.singles.is_empty() {
            writeln!(out, "\n| relay and agent | | first goal |\n|---|---|---|")?;
        }
        for row in &self.singles {
            let goal = row.goal.map_or_else(String::new, |goal| {
                let verdict = mark(row.value <= goal);
                format!("{verdict} ≤ {}", figure(goal, row.unit))
            });
            let value = figure(row.value, row.unit);
            writeln!(out, "| {} | {value} | {goal} |", row.words)?;
        }
        Ok(())
    }
}

impl Table {
    fn fmt_ratios(&self, out: &mut fmt::Formatter<'_>, chain: &str, ours: &str) -> fmt::Result {
        writeln!(out, "| | {chain} | {ours} | ratio | first goal |")?;
        writeln!(out, "|---|---|---|---|---|")?;
        for comparison in &self.comparisons {
            let row = &comparison.row;
            let (chain, ours) = (comparison.of(chain), comparison.of(ours));
            // Neighbours in time are compared, then the median taken: a slow minute hits both halves of a pair.
            let ratios = chain.iter().zip(&ours).map(|(chain, ours)| ours / chain);
            let ratio = median(ratios.collect());
            writeln!(
                out,
                "| {} | {} | {} | {ratio:.2} | {} |",
                row.words,
                figure(median(chain), row.unit),
                figure(median(ours), row.unit),
                row.verdict(ratio)
            )?;
        }
        Ok(())
    }
}

/// The value in the middle, or the mean of the two there.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.as_slice() {
        [] => f64::NAN,
        sorted if sorted.len() % 2 == 1 => sorted[middle],
        sorted => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

fn mark(met: bool) -> char {
    if met { '✓' } else { '✗' }
}

fn figure(value: f64, unit: &str) -> String {
    if value >= 100.0 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.2} {unit}")
    }
}

/// What was measured on, for the heading; whatever cannot be found out is left out.
fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism()
        .ok()
        .map(|cores| format!("{cores} cores"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")
        .ok()
        .map(|text| format!("Linux {}", text.trim()));
    let nginx = Command::new("nginx")
        .arg("-v")
        .output()
        .ok()
        .and_then(|output| {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            Some(text.split_once(": ")?.1.trim().to_owned())
        });
    [processor, cores, kernel, nginx]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}
