//! How both programs show what is the matter: the first lines of a status screen, and the one line of `--check`.

use std::time::{Duration, SystemTime};

use super::daemon::AskError;
use super::exit_code::{ExitCode, Failure};
use super::output::{print, printable};
use super::terminal::{Colour, Look};
use crate::condition::{Condition, Severity, worst};

/// Conditions that a screen shows; the rest is counted. `--json` has them all.
const SHOWN: usize = 10;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The first lines of a status screen: whether all is well, and otherwise what to do and what is the matter.
#[must_use]
pub fn headline(conditions: &[Condition], well: &str, look: &Look, now: SystemTime) -> String {
    let Some((first, worst)) = conditions.first().zip(worst(conditions)) else {
        let line = look.wrap(&format!("All is well: {well}."), "");
        return look.paint(Colour::Green, line.trim_end()) + "\n";
    };
    let line = format!("{}: {}", counts(conditions), printable(&first.remedy));
    let line = look.wrap(&line, "");
    let mut text = look.paint(colour_of(worst), line.trim_end());
    text.push_str("\n\n");
    for one in conditions.iter().take(SHOWN) {
        let since = since_words(&one.since, now);
        let sentence = printable(&one.sentence());
        let word = one.severity.word();
        let line = look.wrap(&format!("{word}: {sentence} (since {since})"), "    ");
        let rest = line.strip_prefix(word).unwrap_or_default();
        text.push_str(&look.paint(colour_of(one.severity), word));
        text.push_str(rest);
        if one != first {
            text.push_str("    ");
            text.push_str(&narrower(look, 4).wrap(&printable(&one.remedy), "    "));
        }
    }
    if let Some(more) = conditions.len().checked_sub(SHOWN).filter(|it| *it > 0) {
        text.push_str(&format!("and {more} more; --json has them all\n"));
    }
    text
}

/// Prints the line of `--check` and says with which code to end: 0 well, 1 warning, 2 critical (the codes of the
/// Monitoring Plugins' guidelines, which Nagios, Icinga and Zabbix understand).
///
/// # Errors
/// The code, with nothing more to say.
pub fn check(
    conditions: &[Condition],
    well: &str,
    figures: &[(&str, String)],
) -> Result<(), Failure> {
    let (line, code) = check_line(conditions, well, figures);
    print(&format!("{line}\n"));
    if code == ExitCode::Ok {
        Ok(())
    } else {
        Err(Failure::silent(code))
    }
}

/// The same where the daemon did not answer: critical where it does not run, else unknown.
#[must_use]
pub fn check_failed(error: &AskError) -> Failure {
    let (word, failure, code) = match error {
        AskError::NotRunning(failure) => ("CRITICAL", failure, ExitCode::CheckCritical),
        AskError::Failed(failure) => ("UNKNOWN", failure, ExitCode::CheckUnknown),
    };
    print(&format!("{word} - {}\n", in_one_line(&failure.to_string())));
    Failure::silent(code)
}

fn check_line(
    conditions: &[Condition],
    well: &str,
    figures: &[(&str, String)],
) -> (String, ExitCode) {
    let (word, code) = match worst(conditions) {
        None => ("OK", ExitCode::Ok),
        Some(Severity::Warning) => ("WARNING", ExitCode::CheckWarning),
        Some(Severity::Critical) => ("CRITICAL", ExitCode::CheckCritical),
    };
    let text = match conditions.first() {
        None => well.to_owned(),
        Some(first) => {
            let more = match conditions.len() {
                1 => String::new(),
                number => format!(" (and {} more)", number - 1),
            };
            format!("{} [{}]{more}", first.sentence(), first.code)
        }
    };
    let figures: Vec<String> = figures
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let line = format!("{word} - {}|{}", in_one_line(&text), figures.join(" "));
    (line, code)
}

/// `1 critical, 2 warnings`.
fn counts(conditions: &[Condition]) -> String {
    let number = |severity| {
        let of_it = conditions.iter().filter(|one| one.severity == severity);
        of_it.count()
    };
    let (critical, warnings) = (number(Severity::Critical), number(Severity::Warning));
    let plural = if warnings == 1 { "" } else { "s" };
    match (critical, warnings) {
        (0, _) => format!("{warnings} warning{plural}"),
        (_, 0) => format!("{critical} critical"),
        (..) => format!("{critical} critical, {warnings} warning{plural}"),
    }
}

/// The time of day within the last day, else the date.
fn since_words(since: &str, now: SystemTime) -> String {
    let time = humantime::parse_rfc3339(since).ok();
    let is_recent = time
        .and_then(|time| now.duration_since(time).ok())
        .is_some_and(|ago| ago < DAY);
    match (since.get(..10), since.get(11..16)) {
        (Some(_), Some(time)) if is_recent => format!("{time} UTC"),
        (Some(date), Some(_)) => date.to_owned(),
        _ => printable(since),
    }
}

const fn colour_of(severity: Severity) -> Colour {
    match severity {
        Severity::Critical => Colour::Red,
        Severity::Warning => Colour::Yellow,
    }
}

const fn narrower(look: &Look, by: usize) -> Look {
    let width = match look.width {
        Some(width) => Some(width.saturating_sub(by)),
        None => None,
    };
    Look { width, ..*look }
}

/// Without what would end the text of a check: a bar begins the figures, a line's end the long output.
fn in_one_line(text: &str) -> String {
    printable(&text.replace('|', "/").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(severity: Severity, subject: &str) -> Condition {
        Condition {
            code: "no-link-dns".to_owned(),
            severity,
            subject: subject.to_owned(),
            text: "no link: a|b\x1b[2J".to_owned(),
            remedy: "Check the name.".to_owned(),
            since: "2026-01-01T14:02:03Z".to_owned(),
        }
    }

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn the_first_line_says_that_all_is_well_or_what_to_do() {
        let look = Look::default();
        let now = at("2026-01-01T15:00:00Z");
        let well = headline(&[], "2 of 2 links online", &look, now);
        assert_eq!(well, "All is well: 2 of 2 links online.\n");
        let conditions = [
            condition(Severity::Critical, "acme"),
            condition(Severity::Warning, ""),
        ];
        let text = headline(&conditions, "", &look, now);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("1 critical, 1 warning: Check the name."));
        assert!(text.contains("critical: acme: no link: a|b\u{fffd}[2J (since 14:02 UTC)\n"));
        assert!(!text.contains('\x1b'));
        let later = headline(&conditions, "", &look, at("2026-03-01T00:00:00Z"));
        assert!(later.contains("(since 2026-01-01)"), "{later}");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let many: Vec<_> = (0..SHOWN + 3)
            .map(|number| condition(Severity::Warning, &number.to_string()))
            .collect();
        let text = headline(&many, "", &Look::default(), SystemTime::UNIX_EPOCH);
        assert!(text.starts_with("13 warnings: "), "{text}");
        assert!(text.contains("and 3 more"), "{text}");
    }

    #[test]
    fn a_check_is_one_line_whose_code_is_that_of_the_worst() {
        let figures = [("links", "2".to_owned()), ("calls", "7c".to_owned())];
        let (line, code) = check_line(&[], "2 of 2 links online", &figures);
        assert_eq!(line, "OK - 2 of 2 links online|links=2 calls=7c");
        assert_eq!(code.number(), 0);
        let conditions = [
            condition(Severity::Critical, "acme"),
            condition(Severity::Warning, ""),
        ];
        let (line, code) = check_line(&conditions, "", &figures);
        assert_eq!(
            line,
            "CRITICAL - acme: no link: a/b\u{fffd}[2J [no-link-dns] (and 1 more)|links=2 calls=7c"
        );
        assert_eq!(code.number(), 2);
        let (_, code) = check_line(&conditions[1..], "", &figures);
        assert_eq!(code.number(), 1);
    }
}
