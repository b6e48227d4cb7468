//! A trace as one HTML page: the ladder, a timeline, all that is known of each event. It needs no network, and without
//! scripts it lacks only the search.

use super::fold::{self, Row};
use super::paint::{duration, safe};
use super::read::Section;
use super::summary::{Failure, Mark, Summary};
use super::text::{fds, name, side, sort, title, words};
use super::time::Gap;
use crate::protocol::event::{Event, Side, Sort};

const STYLE: &str = include_str!("page.css");
/// The page is what it is, and asks nobody for anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
const SCRIPT: &str = include_str!("page.js");

pub(super) fn page(sections: &[Section]) -> String {
    let names = sections.iter().map(|s| format!("{} {}", s.header.command, s.header.id)).collect::<Vec<_>>().join(", ");
    let body: String = sections.iter().map(of_section).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>Trace of {}</title>\n\
         <style>\n{STYLE}</style></head><body>\n{FILTER}{body}<script>\n{SCRIPT}</script></body></html>\n",
        escape(&names)
    )
}

/// What the style sheet hides by, without a script; the search is the script's to show.
const FILTER: &str = "<form id=\"filter\"><label><input type=\"checkbox\" id=\"marked\"> only slow, fallback, refused and \
     failed</label> <label><input type=\"checkbox\" id=\"messages\" checked> messages</label> \
     <input type=\"search\" id=\"search\" placeholder=\"search\" hidden></form>\n";

fn of_section(section: &Section) -> String {
    let summary = Summary::of(section);
    let rows: String = fold::rows(&summary, false).iter().map(|of| row(&summary, of)).collect();
    format!(
        "<section>\n<h1>{}</h1>\n{}{}<table class=\"ladder\"><thead><tr><th>at</th><th></th><th>parent</th><th></th>\
         <th>child</th></tr></thead><tbody>\n{rows}</tbody></table>\n</section>\n",
        escape(&title(&summary)),
        head(&summary),
        timeline(&summary),
    )
}

/// What a person looks for first.
fn head(summary: &Summary<'_>) -> String {
    let mut text = String::from("<dl>");
    let mut say = |word: &str, lines: Vec<(&str, String)>| {
        if !lines.is_empty() {
            text.push_str(&format!("<dt>{word}</dt>"));
        }
        for (class, line) in lines {
            text.push_str(&format!("<dd class=\"{class}\">{line}</dd>"));
        }
    };
    let share = |us: u64, words: &str| format!("<b>{}</b> {}% {}", duration(us), summary.share(us), escape(words));
    let none = |word: &str| vec![("", word.to_owned())];
    let slowest = summary.slowest().into_iter().map(|(row, own)| {
        let class = if matches!(summary.mark_of(&row), Mark::Slow(_)) { "slow" } else { "" };
        (class, share(own, &format!("{} {}", fold::side(summary, &row), fold::label(summary, &row))))
    });
    let slowest: Vec<_> = slowest.collect();
    say("slowest", if slowest.is_empty() { none("no step took long") } else { slowest });
    say("waiting", summary.waits().iter().map(|(wait, words)| ("", share(wait.took_us, words))).collect());
    let silence = |gap: &Gap| {
        let from = gap.at_us.saturating_sub(summary.start) as f64 / 1000.0;
        ("", share(gap.took_us, &format!("nothing recorded from {from:.3} ms on{}", summary.silence(*gap))))
    };
    say("gaps", summary.gaps.iter().map(silence).collect());
    let fallbacks = summary.fallbacks();
    let told = |(side, words): &(&str, String)| ("fallback", format!("{side} {}", escape(words)));
    say("fallbacks", if fallbacks.is_empty() { none("none") } else { fallbacks.iter().map(told).collect() });
    match summary.failure() {
        None => say("error", none("none")),
        Some(Failure { place, message, advice }) => {
            let mut lines = vec![("failed", format!("<b>{}</b>", escape(&place)))];
            lines.push(("failed", escape(&safe(message))));
            if !advice.is_empty() {
                lines.push(("", format!("what to do: {}", escape(&safe(advice)))));
            }
            say("error", lines);
        }
    }
    say("end", summary.end().iter().map(|end| ("", escape(end))).collect());
    text + "</dl>\n"
}

/// The width of the timeline, and the height of one of its lines, in its own units.
const WIDTH: u64 = 1000;
const LINE: usize = 16;

/// Each side's steps as bars, those that run within another below it; messages as lines from side to side.
fn timeline(summary: &Summary<'_>) -> String {
    let (parent, child) = (lanes(summary, Side::Parent), lanes(summary, Side::Child));
    let depth = |bars: &[(usize, usize)]| bars.iter().map(|(_, lane)| lane + 1).max().unwrap_or(1);
    let (above, gap) = (depth(&parent) * LINE, 3 * LINE);
    let height = above + gap + depth(&child) * LINE;
    let x = |us: u64| us.saturating_sub(summary.start) as f64 * WIDTH as f64 / summary.total.max(1) as f64;
    let mut text = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"timeline\" style=\"height:{height}px\">\n"
    );
    for (bars, top) in [(&parent, 0), (&child, above + gap)] {
        for (i, lane) in bars {
            let event = &summary.section.events[*i];
            let (left, width) =
                (x(event.at_us), (x(event.at_us.saturating_add(event.took_us)) - x(event.at_us)).max(1.5));
            let (y, class, height) = (top + lane * LINE, class(summary.mark(*i)), LINE - 2);
            let tip = tip(event);
            text.push_str(&format!(
                "<a href=\"#{}\"><rect class=\"{class}\" x=\"{left:.2}\" y=\"{y}\" width=\"{width:.2}\" \
                 height=\"{height}\"><title>{tip}</title></rect></a>\n",
                anchor(summary, *i)
            ));
        }
    }
    let mut arrows: Vec<_> = summary.arrows.iter().collect();
    arrows.sort();
    for (from, to) in arrows {
        let (from, to) = (&summary.section.events[*from], &summary.section.events[*to]);
        let y = |event: &Event| if event.side == Side::Parent { above } else { above + gap };
        let (x1, y1, x2, y2) = (x(from.at_us), y(from), x(to.at_us), y(to));
        let tip = tip(from);
        text.push_str(&format!(
            "<line class=\"message\" x1=\"{x1:.2}\" y1=\"{y1}\" x2=\"{x2:.2}\" y2=\"{y2}\"><title>{tip}</title></line>\n"
        ));
    }
    format!(
        "<div class=\"scale\"><span>parent above, child below</span><span>{}</span></div>\n{text}</svg>\n",
        duration(summary.total)
    )
}

fn tip(event: &Event) -> String {
    escape(&format!("{} ({})", words(event), duration(event.took_us)))
}

/// The steps of a side, each with the line it is drawn on.
fn lanes(summary: &Summary<'_>, side: Side) -> Vec<(usize, usize)> {
    let drawn = |event: &Event| event.side == side && !matches!(event.event, Sort::Send | Sort::Receive);
    let mut steps: Vec<_> = summary.section.events.iter().enumerate().filter(|(_, event)| drawn(event)).collect();
    steps.sort_by_key(|(_, event)| (event.at_us, std::cmp::Reverse(event.took_us)));
    let mut busy: Vec<u64> = vec![];
    let mut lanes = vec![];
    for (i, event) in steps {
        let free = busy.iter().position(|until| *until <= event.at_us).unwrap_or(busy.len());
        if free == busy.len() {
            busy.push(0);
        }
        busy[free] = event.at_us.saturating_add(event.took_us.max(1));
        lanes.push((i, free));
    }
    lanes
}

fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::None => "step",
        Mark::Slow(_) => "slow",
        Mark::Gap(_) => "gap",
        Mark::Fallback => "fallback",
        Mark::Refused => "refused",
        Mark::Failed => "failed",
        Mark::PassedOn => "passed",
    }
}

/// Of an event's row, on a page that may have several commands.
fn anchor(summary: &Summary<'_>, index: usize) -> String {
    format!("e{}-{index}", summary.section.header.at_us)
}

fn row(summary: &Summary<'_>, of: &Row) -> String {
    let events = &summary.section.events;
    let mark = summary.mark_of(of);
    let took = Some(summary.took(of)).filter(|us| *us > 0).map(duration).unwrap_or_default();
    let what = escape(&fold::label(summary, of));
    let summed = format!("<summary>{what} <b>{took}</b></summary>");
    let at = |us: u64| format!("{:.3}&nbsp;ms", us.saturating_sub(summary.start) as f64 / 1000.0);
    let dot = |of: Side, shown: &str| match of {
        Side::Parent => format!("<td class=\"dot\">{shown}</td><td></td><td></td>"),
        Side::Child => format!("<td></td><td></td><td class=\"dot\">{shown}</td>"),
    };
    let (id, class, at, cells) = match of {
        Row::Event(i) => {
            let event = &events[*i];
            let shown = format!("<details>{summed}{}</details>", fields(event));
            let is_message = matches!(event.event, Sort::Send | Sort::Receive);
            let to_child = (event.event == Sort::Send) == (event.side == Side::Parent);
            let way = if to_child { "right" } else { "left" };
            let cells = match is_message {
                true => format!("<td></td><td class=\"arrow {way}\">{shown}</td><td></td>"),
                false => dot(event.side, &shown),
            };
            let class = if is_message { "message" } else { class(mark) };
            (anchor(summary, *i), class, at(event.at_us), cells)
        }
        Row::Run(run) => {
            let within = |i: &usize| {
                let (id, event) = (anchor(summary, *i), &events[*i]);
                let (at, took, what) = (at(event.at_us), duration(event.took_us), escape(&name(event)));
                format!("<details id=\"{id}\"><summary>{at} {what} <b>{took}</b></summary>{}</details>", fields(event))
            };
            let steps: String = run.iter().map(within).collect();
            let (first, shown) = (&events[run[0]], format!("<details class=\"run\">{summed}{steps}</details>"));
            (format!("{}-run", anchor(summary, run[0])), class(mark), at(first.at_us), dot(first.side, &shown))
        }
        Row::Gap(gap) => {
            let cells = format!("<td></td><td class=\"silence\">{what} <b>{took}</b></td><td></td>");
            (format!("{}-gap-{}", anchor(summary, 0), gap.at_us), class(mark), at(gap.at_us), cells)
        }
    };
    format!("<tr id=\"{id}\" class=\"{class}\"><td>{at}</td><td class=\"mark\">{}</td>{cells}</tr>\n", mark.text())
}

/// Every field that says something.
fn fields(event: &Event) -> String {
    let (sort, side, pid, fds) = (sort(event.event), side(event.side), event.pid.to_string(), fds(event));
    let why = if event.event == Sort::Error { "what to do" } else { "because" };
    let all = [
        ("event", sort),
        ("side", side),
        ("pid", &pid),
        ("object", &event.object),
        ("by", &event.mechanism),
        (why, &event.why),
        ("detail", &event.detail),
        ("fds", &fds),
    ];
    let said = all.into_iter().filter(|(_, text)| !text.is_empty());
    let text: String = said.map(|(name, text)| format!("<i>{name}</i> {}<br>", escape(&safe(text)))).collect();
    format!("<p>{text}</p>")
}

/// As text of HTML, and as an attribute's value.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::{event, section};
    use super::*;

    #[test]
    fn a_name_is_text_and_nothing_else() {
        let mut named = event(Side::Child, Sort::Error, "mount", 0, 10);
        (named.object, named.why) = ("<script>alert('x')</script>\" onload=\"x".into(), "a & b\x1b[31m".into());
        let page = page(&[section(vec![named])]);
        assert_eq!(page.matches("<script>").count(), 1, "its own");
        assert!(!page.contains("\" onload") && !page.contains('\x1b'), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("a &amp; b"), "{page}");
    }

    #[test]
    fn steps_at_the_same_time_are_on_lines_of_their_own() {
        let section = section(vec![
            event(Side::Parent, Sort::Step, "cgroup", 0, 100),
            event(Side::Parent, Sort::Step, "cgroup write", 10, 20),
            event(Side::Parent, Sort::Step, "cgroup write", 40, 20),
            event(Side::Parent, Sort::Step, "clone", 100, 20),
        ]);
        assert_eq!(lanes(&Summary::of(&section), Side::Parent), [(0, 0), (1, 1), (2, 1), (3, 0)]);
    }
}
