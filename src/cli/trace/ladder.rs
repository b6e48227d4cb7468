//! A trace as a ladder that a person reads from top to bottom, under what that person looks for first.

use super::paint::{Paint, duration, safe, shorten};
use super::read::Section;
use super::summary::{Mark, Summary};
use super::text::{name, side, title, words};
use crate::protocol::event::{Event, Side, Sort};

/// Of the marks and of the times, with the blanks after them.
const MARK: usize = 9;
const TIME: usize = 13;

/// The widths of the columns.
#[derive(Clone, Copy)]
struct Columns {
    parent: usize,
    /// Between the two life lines.
    arrow: usize,
    child: usize,
}

impl Columns {
    /// What fits; below 60 columns the lines are longer than the terminal.
    fn of(width: usize) -> Columns {
        let arrow = (width / 5).clamp(16, 30);
        // The two lines, and a blank beside each.
        let rest = width.max(60) - MARK - TIME - arrow - 4;
        let parent = rest / 2;
        Columns { parent, arrow, child: rest - parent }
    }
}

pub(super) fn draw(section: &Section, paint: Paint, width: usize) -> String {
    let summary = Summary::of(section);
    let columns = Columns::of(width);
    let (left, between) = (columns.parent, columns.arrow);
    let mut text = head(&summary, paint);
    text.push_str(&format!("{:MARK$}{:TIME$}{:>left$} ┬{:between$}┬ child\n", "", "", "parent", ""));
    for i in (0..section.events.len()).filter(|i| !summary.is_echo(*i)) {
        text.push_str(&row(&summary, i, columns, paint));
    }
    text + "\n"
}

/// How long it took, the slowest steps, the fallbacks, the error and what to do about it.
fn head(summary: &Summary<'_>, paint: Paint) -> String {
    let events = &summary.section.events;
    let mut text = format!("{}\n", paint.bold(&title(summary)));
    for (n, (i, own)) in summary.slowest.iter().enumerate() {
        let event = &events[*i];
        let line =
            format!("{:>9} {:>3}%  {:<6} {}", duration(*own), summary.share(*own), side(event.side), name(event));
        let line = if summary.slow(*i).is_some() { paint.yellow(&line) } else { line };
        text.push_str(&format!("{:<10}{line}\n", if n == 0 { "slowest" } else { "" }));
    }
    let fallbacks = summary.fallbacks();
    if fallbacks.is_empty() {
        text.push_str("fallbacks none\n");
    }
    for (n, event) in fallbacks.iter().enumerate() {
        let line = paint.cyan(&format!("{:<6} {}", side(event.side), words(event)));
        text.push_str(&format!("{:<10}{line}\n", if n == 0 { "fallbacks" } else { "" }));
    }
    match summary.error() {
        None => text.push_str("error     none\n"),
        Some((step, last)) => {
            let place = format!("{:<6} {}", side(step.side), name(step));
            text.push_str(&format!("error     {}\n", paint.red(&place)));
            text.push_str(&format!("          {}\n", paint.red(&safe(&last.detail))));
            if !last.why.is_empty() {
                text.push_str(&format!("          what to do: {}\n", safe(&last.why)));
            }
        }
    }
    text + "\n"
}

fn row(summary: &Summary<'_>, index: usize, columns: Columns, paint: Paint) -> String {
    let event = &summary.section.events[index];
    let mark = summary.mark(index);
    let Columns { parent, arrow, child } = columns;
    let at = format!("{:.3} ms", event.at_us.saturating_sub(summary.start) as f64 / 1000.0);
    let (left, middle, right) = match (event.event, event.side) {
        (Sort::Send | Sort::Receive, _) => {
            let note = shorten(&safe(&event.detail), child);
            (String::new(), format!("├{}┤", line(summary, index, arrow)), note)
        }
        (_, Side::Parent) => (step(event, parent), format!("●{:arrow$}│", ""), String::new()),
        (_, Side::Child) => (String::new(), format!("│{:arrow$}●", ""), step(event, child)),
    };
    let colour = |text: &str| match mark {
        Mark::None => text.to_owned(),
        Mark::Slow(_) => paint.yellow(text),
        Mark::Fallback | Mark::Refused => paint.cyan(text),
        Mark::Failed => paint.red(text),
    };
    let blank = " ".repeat(parent - left.chars().count());
    let mark = format!("{:<MARK$}", mark.text());
    let line = format!("{}{at:>11}  {blank}{} {middle} {}", colour(&mark), colour(&left), colour(&right));
    format!("{}\n", line.trim_end())
}

/// The words of a step, in so many characters: its duration, and for what else there is room.
fn step(event: &Event, width: usize) -> String {
    let took = if event.took_us > 0 { format!(" {}", duration(event.took_us)) } else { String::new() };
    let more = match event.event {
        Sort::Step if event.mechanism.is_empty() => safe(&event.detail),
        Sort::Step => safe(&event.mechanism),
        Sort::Error => safe(&event.detail),
        _ => safe(&event.why),
    };
    let mut words = name(event);
    let room = width.saturating_sub(took.chars().count());
    if !more.is_empty() && words.chars().count() + 12 < room {
        words.push_str(&format!(": {more}"));
    }
    // Of a path the end says more than the beginning.
    if words.chars().count() > room && !event.object.is_empty() && event.object.starts_with('/') {
        let before = event.name.chars().count() + 1;
        let end = words.chars().count().saturating_sub(room.saturating_sub(before + 1));
        words = format!("{} …{}", safe(&event.name), words.chars().skip(end).collect::<String>());
    }
    format!("{}{took}", shorten(&words, room))
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
        draw(&section(events), Paint::new(Color::Never), width)
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
        assert_eq!(text.matches("Plan").count(), 1);
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
        for width in [60, 80, 120, 200] {
            let text = drawn(events.clone(), width);
            let ladder = text.lines().skip_while(|l| !l.contains('┬'));
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
