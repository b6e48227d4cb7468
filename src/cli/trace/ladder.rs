//! A trace as a ladder that a person reads from top to bottom, under what that person looks for first.

use super::fold::{self, Row};
use super::paint::{Paint, duration, safe, shorten, wrap};
use super::read::Section;
use super::summary::{Failure, Mark, Summary};
use super::text::{name, title};
use super::time::Gap;
use crate::protocol::event::{Event, Side, Sort};

/// Of the marks, of the times and of the durations, with the blanks after them.
const MARK: usize = 10;
const TIME: usize = 9;
const TOOK: usize = 10;

/// The widths of the columns.
#[derive(Clone, Copy)]
struct Columns {
    /// Between the two life lines.
    arrow: usize,
    /// Right of them.
    words: usize,
}

impl Columns {
    /// What fits; below 72 columns the lines are longer than the terminal.
    fn of(width: usize) -> Columns {
        let arrow = (width / 5).clamp(20, 26);
        // The two lines, and a blank.
        Columns { arrow, words: width.max(72) - MARK - TIME - TOOK - arrow - 3 }
    }
}

/// `each`: a row for each step, also of those that are alike.
pub(super) fn draw(section: &Section, paint: Paint, width: usize, each: bool) -> String {
    let summary = Summary::of(section);
    let columns = Columns::of(width);
    let mut text = head(&summary, paint, width);
    let (mark, at, took, between) = ("", "ms", "took", columns.arrow - 7);
    let titles = format!("{mark:MARK$}{at:>8} {took:>9} parent{:between$}child\n", "");
    text.push_str(&titles);
    for of in fold::rows(&summary, each) {
        text.push_str(&row(&summary, &of, columns, paint));
    }
    text + "\n"
}

/// How long it took, the slowest steps, the fallbacks, the error and what to do about it, the end of what was started.
fn head(summary: &Summary<'_>, paint: Paint, width: usize) -> String {
    let title = wrap(&title(summary), width.max(50));
    let mut text: String = title.iter().map(|line| format!("{}\n", paint.bold(line))).collect();
    // What is said under one word; all of it, on as many lines as it takes.
    let mut say = |word: &str, lines: Vec<(String, Colour)>| {
        for (n, (line, colour)) in lines.iter().enumerate() {
            let word = if n == 0 { word } else { "" };
            for (n, part) in wrap(line, width.saturating_sub(MARK).max(40)).iter().enumerate() {
                let word = if n == 0 { word } else { "" };
                text.push_str(&format!("{word:<MARK$}{}\n", colour(paint, part)));
            }
        }
    };
    let share = |us: u64, words: &str| format!("{:>9} {:>3}%  {words}", duration(us), summary.share(us));
    let slowest = summary.slowest().into_iter().map(|(row, own)| {
        let colour: Colour = if matches!(summary.mark_of(&row), Mark::Slow(_)) { Paint::yellow } else { plain };
        let label = fold::label(summary, &row);
        // Of a run the number says most; a step is named whole, to be searched for.
        let label = if matches!(row, Row::Run(_)) { shorten(&label, width.saturating_sub(MARK + 24)) } else { label };
        (share(own, &format!("{:<6}  {label}", fold::side(summary, &row))), colour)
    });
    let slowest: Vec<_> = slowest.collect();
    let none = |word: &str| vec![(word.to_owned(), plain as Colour)];
    say("slowest", if slowest.is_empty() { none("no step took long") } else { slowest });
    say("waiting", summary.waits().iter().map(|(wait, words)| (share(wait.took_us, words), plain as Colour)).collect());
    let silence = |gap: &Gap| {
        let from = gap.at_us.saturating_sub(summary.start) as f64 / 1000.0;
        (
            share(gap.took_us, &format!("nothing recorded from {from:.3} ms on{}", summary.silence(*gap))),
            plain as Colour,
        )
    };
    say("gaps", summary.gaps.iter().map(silence).collect());
    let fallbacks = summary.fallbacks();
    let told = |(side, words): &(&str, String)| (format!("{side:<6}  {words}"), Paint::cyan as Colour);
    say("fallbacks", if fallbacks.is_empty() { none("none") } else { fallbacks.iter().map(told).collect() });
    match summary.failure() {
        None => say("error", none("none")),
        Some(Failure { place, message, advice }) => {
            let mut lines = vec![(place, Paint::red as Colour), (safe(message), Paint::red as Colour)];
            if !advice.is_empty() {
                lines.push((format!("what to do: {}", safe(advice)), plain));
            }
            say("error", lines);
        }
    }
    say("end", summary.end().into_iter().map(|end| (end, plain as Colour)).collect());
    text + "\n"
}

type Colour = fn(Paint, &str) -> String;

fn plain(_: Paint, text: &str) -> String {
    text.to_owned()
}

fn row(summary: &Summary<'_>, of: &Row, columns: Columns, paint: Paint) -> String {
    let mark = summary.mark_of(of);
    let Columns { arrow, words: width } = columns;
    let events = &summary.section.events;
    let dot = |side| match side {
        Side::Parent => format!("●{:arrow$}│", ""),
        Side::Child => format!("│{:arrow$}●", ""),
    };
    let (at_us, middle, words) = match of {
        Row::Event(i) if matches!(events[*i].event, Sort::Send | Sort::Receive) => {
            (events[*i].at_us, format!("├{}┤", line(summary, *i, arrow)), safe(&events[*i].detail))
        }
        Row::Event(i) => (events[*i].at_us, dot(events[*i].side), step(&events[*i], mark, width)),
        Row::Run(run) => {
            let steps: Vec<&Event> = run.iter().map(|i| &events[*i]).collect();
            (steps[0].at_us, dot(steps[0].side), fold::label(summary, of))
        }
        Row::Gap(gap) => {
            let until = summary.awaited(*gap).map(|(_, message)| format!("until {}", safe(&message.name)));
            (gap.at_us, format!("┆{:arrow$}┆", ""), until.unwrap_or_else(|| "nothing recorded".into()))
        }
    };
    let colour: Colour = match mark {
        Mark::None | Mark::PassedOn | Mark::Gap(_) => plain,
        Mark::Slow(_) => Paint::yellow,
        Mark::Fallback | Mark::Refused => Paint::cyan,
        Mark::Failed => Paint::red,
    };
    let at = format!("{:.3}", at_us.saturating_sub(summary.start) as f64 / 1000.0);
    let took = Some(summary.took(of)).filter(|us| *us > 0).map(duration).unwrap_or_default();
    let mark = format!("{:<MARK$}", mark.text());
    let words = shorten(&words, width);
    let line = format!(
        "{}{at:>8} {} {middle} {}",
        colour(paint, &mark),
        colour(paint, &format!("{took:>9}")),
        colour(paint, &words)
    );
    format!("{}\n", line.trim_end())
}

/// The words of a step, in so many characters.
fn step(event: &Event, mark: Mark, width: usize) -> String {
    if mark == Mark::PassedOn && event.name == "failed" {
        return match event.side {
            Side::Parent => "the command ends with the error".into(),
            Side::Child => "tells the parent, and ends".into(),
        };
    }
    let more = match event.event {
        Sort::Step if event.mechanism.is_empty() => safe(&event.detail),
        Sort::Step => safe(&event.mechanism),
        Sort::Error => safe(&event.detail),
        _ => safe(&event.why),
    };
    let words = name(event);
    // Of a path the end says more than the beginning.
    if words.chars().count() > width && event.object.starts_with('/') {
        let before = event.name.chars().count() + 1;
        let end = words.chars().count().saturating_sub(width.saturating_sub(before + 1));
        return format!("{} …{}", safe(&event.name), words.chars().skip(end).collect::<String>());
    }
    if more.is_empty() { words } else { format!("{words}: {more}") }
}

/// A message, from its sender to the other side, with the fds that ride along and the time until it was taken.
fn line(summary: &Summary<'_>, index: usize, width: usize) -> String {
    let event = &summary.section.events[index];
    let fds = match event.fds.len() {
        0 => String::new(),
        1 => " +1 fd".into(),
        n => format!(" +{n} fds"),
    };
    let label = shorten(&format!(" {}{fds} ", safe(&event.name)), width - 3);
    let rest = "─".repeat(width - 2 - label.chars().count());
    let to_child = (event.event == Sort::Send) == (event.side == Side::Parent);
    if to_child { format!("─{label}{rest}▶") } else { format!("◀{rest}{label}─") }
}

#[cfg(test)]
mod tests {
    use super::super::paint::Color;
    use super::super::read::tests::{event, section};
    use super::*;

    fn drawn(events: Vec<Event>, width: usize) -> String {
        draw(&section(events), Paint::new(Color::Never), width, false)
    }

    #[test]
    fn a_message_is_one_arrow_from_its_sender() {
        let text = drawn(
            vec![
                event(Side::Parent, Sort::Send, "Plan", 10, 0),
                event(Side::Child, Sort::Receive, "Plan", 20, 0),
                event(Side::Child, Sort::Send, "Ready", 30, 0),
            ],
            100,
        );
        assert_eq!(text.lines().filter(|l| l.contains('├') && l.contains("Plan")).count(), 1, "{text}");
        assert!(text.lines().any(|l| l.contains("Plan") && l.contains('▶')), "{text}");
        assert!(text.lines().any(|l| l.contains("Ready") && l.contains('◀')), "{text}");
    }

    #[test]
    fn it_fits_the_terminal_and_marks_what_matters() {
        let mut failed = event(Side::Child, Sort::Error, "mount", 500, 20);
        failed.object = "long ".repeat(50);
        let events = vec![
            event(Side::Parent, Sort::Step, "plan", 0, 400),
            event(Side::Parent, Sort::Fallback, "image", 410, 0),
            event(Side::Child, Sort::Send, "NamespacesReady", 450, 0),
            failed,
        ];
        for width in [72, 80, 120, 200] {
            let text = drawn(events.clone(), width);
            let ladder = text.lines().skip_while(|l| !l.contains("took"));
            ladder.for_each(|l| assert!(l.chars().count() <= width, "{width}: {l}"));
            for mark in ["slow ", "fallback", "FAILED", "400 µs"] {
                assert!(text.contains(mark), "{mark}: {text}");
            }
        }
    }

    #[test]
    fn a_name_is_no_command_to_the_terminal() {
        let mut named = event(Side::Child, Sort::Error, "mount", 0, 0);
        (named.object, named.detail) = ("\x1b[31m\n".into(), "\u{9b}0m".into());
        let text = drawn(vec![named], 100);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}
