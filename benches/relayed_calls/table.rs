//! The figures, gathered round by round and printed as one Markdown table.

use std::fmt;
use std::fs;
use std::process::Command;

use crate::settings::Settings;

/// Which way a figure should go.
#[derive(Clone, Copy)]
pub(crate) enum Better {
    /// The goal is a ceiling.
    Less,
    /// The goal is a floor.
    More,
}

/// A figure of both systems, and its ratio.
struct Comparison {
    words: String,
    unit: &'static str,
    better: Better,
    goal: Option<f64>,
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
        let kind = if settings.short {
            "short run: for smoke, not for quoting"
        } else {
            "full run"
        };
        let heading = format!(
            "{kind}; medians of {} rounds, {} s a measurement; {}",
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

    /// Adds one measurement of one system to the row with these words.
    pub(crate) fn compare(
        &mut self,
        words: &str,
        unit: &'static str,
        better: Better,
        goal: Option<f64>,
        system: &'static str,
        value: f64,
    ) {
        if let Some(row) = self.comparisons.iter_mut().find(|row| row.words == words) {
            row.values.push((system, value));
        } else {
            self.comparisons.push(Comparison {
                words: words.to_owned(),
                unit,
                better,
                goal,
                values: vec![(system, value)],
            });
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
        self.values
            .iter()
            .filter(|(name, _)| *name == system)
            .map(|(_, value)| *value)
            .collect()
    }

    fn systems(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in &self.values {
            if !names.contains(name) {
                names.push(name);
            }
        }
        // Round one begins with the chain.
        names
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n", self.heading)?;
        let systems = self
            .comparisons
            .first()
            .map(Comparison::systems)
            .unwrap_or_default();
        match systems.as_slice() {
            [chain, ours] => {
                writeln!(
                    out,
                    "| | {chain} | {ours} | ratio | first goal |\n|---|---|---|---|---|"
                )?;
                for row in &self.comparisons {
                    let (chain, ours) = (row.of(chain), row.of(ours));
                    // Neighbours in time are compared, then the median taken: a slow minute hits both halves of a pair.
                    let ratios = chain
                        .iter()
                        .zip(&ours)
                        .map(|(chain, ours)| ours / chain)
                        .collect();
                    let ratio = median(ratios);
                    let (chain, ours) = (
                        figure(median(chain), row.unit),
                        figure(median(ours), row.unit),
                    );
                    writeln!(
                        out,
                        "| {} | {chain} | {ours} | {ratio:.2} | {} |",
                        row.words,
                        goal(row, ratio)
                    )?;
                }
            }
            _ => {
                writeln!(out, "| | {} |\n|---|---|", systems.join(" | "))?;
                for row in &self.comparisons {
                    let values = row.values.iter().map(|(_, value)| *value).collect();
                    writeln!(
                        out,
                        "| {} | {} |",
                        row.words,
                        figure(median(values), row.unit)
                    )?;
                }
            }
        }
        if !self.singles.is_empty() {
            writeln!(out, "\n| relay and agent | | first goal |\n|---|---|---|")?;
        }
        for row in &self.singles {
            let goal = row.goal.map_or_else(String::new, |goal| {
                format!(
                    "{} ≤ {}",
                    if row.value <= goal { "✓" } else { "✗" },
                    figure(goal, row.unit)
                )
            });
            writeln!(
                out,
                "| {} | {} | {goal} |",
                row.words,
                figure(row.value, row.unit)
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

fn goal(row: &Comparison, ratio: f64) -> String {
    let Some(goal) = row.goal else {
        return String::new();
    };
    let (sign, met) = match row.better {
        Better::Less => ("≤", ratio <= goal),
        Better::More => ("≥", ratio >= goal),
    };
    format!("{} {sign} {goal:.2}", if met { "✓" } else { "✗" })
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
