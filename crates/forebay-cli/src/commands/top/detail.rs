//! Draws the selected buffer.

use super::figures::{Buffer, Figures, STUCK, Shown};
use super::look::{Look, bold};
use super::short::{self, percent};
use crate::buffer::looks::NoLook;
use crate::output::{bytes, count};
use indicatif::HumanCount;
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span};
use std::collections::VecDeque;

/// The selected buffer.
pub(super) fn describe(buffer: &Buffer, look: Look, width: u16) -> Vec<Line<'static>> {
    let name = buffer.directory.to_string_lossy();
    let rule = if look.has_blocks { "\u{2500}" } else { "-" };
    let name = short::end(&name, width.saturating_sub(4), look.has_blocks);
    let rest = usize::from(width).saturating_sub(name.chars().count() + 4);
    let mut lines = vec![Line::from(vec![
        Span::raw(format!("{rule}{rule} ")),
        Span::styled(name, bold()),
        Span::raw(format!(" {}", rule.repeat(rest))),
    ])];
    let figures = match &buffer.shown {
        Shown::Figures(figures) => figures,
        Shown::Nothing => return lines,
        Shown::NoLook(NoLook::Gone) => {
            lines.push(Line::from("there is no buffer here any more"));
            return lines;
        }
        Shown::NoLook(NoLook::Repair(says)) => {
            lines.extend(short::lines(says, width).into_iter().map(Line::from));
            return lines;
        }
        Shown::NoLook(NoLook::Error(says)) => {
            let style = look.marked(Color::Red);
            let says = short::lines(says, width).into_iter();
            lines.extend(says.map(|line| Line::styled(line, style)));
            return lines;
        }
    };
    lines.extend(position(figures, width).into_iter().map(Line::from));
    let unread = short::lines(&unread(figures), width);
    lines.extend(unread.into_iter().map(Line::from));
    let rates = figures.rates;
    let history = &buffer.history;
    let flows = [
        (
            "in",
            &history.events_in,
            rates.map(|r| (r.events_in, r.bytes_in)),
        ),
        (
            "out",
            &history.events_out,
            rates.map(|r| (r.events_out, r.bytes_out)),
        ),
    ];
    // The lines are drawn to one scale, so that they can be compared.
    let highest = flows.iter().flat_map(|(_, history, _)| history.iter());
    let highest = highest.copied().fold(0.0, f64::max);
    for (name, history, rate) in flows {
        let rate = rate.map_or_else(String::new, |(events, bytes)| {
            format!("{}/s {}/s", short::number(events), short::bytes(bytes))
        });
        let room = usize::from(width).saturating_sub(7 + 17);
        let line = sparkline(history, highest, room, look);
        lines.push(Line::from(vec![
            Span::raw(format!("{name:<7}")),
            Span::styled(line, look.coloured(Color::Cyan)),
            Span::raw(format!("{rate:>17}")),
        ]));
    }
    lines.push(fill(figures, look));
    let (cells, style) = map(figures, usize::from(width).saturating_sub(7), look);
    let mut line = vec![Span::raw("files  ")];
    line.extend(
        cells
            .into_iter()
            .map(|(c, kind)| Span::styled(c.to_string(), style(kind))),
    );
    lines.push(Line::from(line));
    let [acknowledged, unread, found] = Part::ALL.map(|part| part.cell(look));
    lines.push(Line::styled(
        format!("       {acknowledged} acknowledged  {unread} unread  {found} finding"),
        look.dim(),
    ));
    lines
}

/// Where the buffer stands; what the findings need done has a line of its own where one line
/// is too short.
fn position(figures: &Figures, width: u16) -> Vec<String> {
    let state = match (figures.is_open, figures.holder_pid) {
        (true, Some(pid)) => format!("open in process {pid}"),
        (true, None) => "open".to_owned(),
        (false, _) if figures.is_orphaned() => "orphan: no process has it open".to_owned(),
        (false, _) => "not open".to_owned(),
    };
    let acknowledged = HumanCount(figures.last_acknowledged_id);
    let position = format!("{state}; acknowledged up to {acknowledged}");
    if figures.findings == 0 {
        return short::lines(&position, width);
    }
    let findings = count(figures.findings as u64, "finding");
    let findings = format!("{findings}: see forebay verify");
    let line = format!("{position}; {findings}");
    match line.chars().count() <= usize::from(width) {
        true => vec![line],
        false => [position, findings]
            .iter()
            .flat_map(|part| short::lines(part, width))
            .collect(),
    }
}

fn unread(figures: &Figures) -> String {
    let oldest = figures.oldest.map_or_else(String::new, |age| {
        format!("; the oldest for {}", short::time(age))
    });
    let stuck = match figures.since_progress {
        Some(time) if time >= STUCK => format!("; nothing taken for {}", short::time(time)),
        _ => String::new(),
    };
    let unread = match figures.unread_events {
        0 => "nothing".to_owned(),
        events => format!(
            "{}, {}",
            count(events, "event"),
            bytes(figures.unread_bytes)
        ),
    };
    format!("unread {unread}{oldest}{stuck}")
}

/// A line of which each cell is a look.
pub(super) fn sparkline(history: &VecDeque<f64>, highest: f64, width: usize, look: Look) -> String {
    let levels: &[char] = match look.has_blocks {
        true => &[
            ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}',
            '\u{2587}', '\u{2588}',
        ],
        false => &[' ', '.', ':', '-', '=', '+', '*', '%', '#'],
    };
    let shown = history.len().min(width);
    let mut line = " ".repeat(width - shown);
    for rate in history.iter().skip(history.len() - shown) {
        let level = rate / highest * (levels.len() - 1) as f64;
        // Something is never shown as nothing. Without any rate the level is no number, and 0.
        line.push(levels[(level.ceil() as usize).min(levels.len() - 1)]);
    }
    line
}

fn fill(figures: &Figures, look: Look) -> Line<'static> {
    const CELLS: usize = 20;
    let data_files = count(figures.files.len() as u64, "data file");
    let (Some(fill), Some(limit)) = (figures.fill(), figures.limit) else {
        return Line::from(format!(
            "disk   {}, {data_files}",
            bytes(figures.disk_bytes)
        ));
    };
    let full = (fill * CELLS as f64).round() as usize;
    let (on, off) = match look.has_blocks {
        true => ('\u{2588}', '\u{2591}'),
        false => ('#', '.'),
    };
    let bar: String = (0..CELLS)
        .map(|cell| if cell < full { on } else { off })
        .collect();
    let of = match limit.is_of_disk {
        true => format!("of {} on the disk", bytes(limit.bytes)),
        false => format!("of {}", bytes(limit.bytes)),
    };
    let colour = match fill {
        0.9.. => Color::Red,
        0.7.. => Color::Yellow,
        _ => Color::Green,
    };
    Line::from(vec![
        Span::raw("disk   "),
        Span::styled(bar, look.coloured(colour)),
        Span::raw(format!(
            " {} in {data_files}, {} {of}",
            bytes(figures.disk_bytes),
            percent(fill)
        )),
    ])
}

/// What a cell of the file map stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Acknowledged,
    Unread,
    Found,
}

impl Part {
    const ALL: [Self; 3] = [Self::Acknowledged, Self::Unread, Self::Found];

    fn cell(self, look: Look) -> char {
        match (self, look.has_blocks) {
            (Self::Acknowledged, true) => '\u{2591}',
            (Self::Acknowledged, false) => '.',
            (Self::Unread, true) => '\u{2593}',
            (Self::Unread, false) => '#',
            (Self::Found, _) => '!',
        }
    }
}

/// The data files end to end, a cell for as many bytes as fit, and how to show a part.
fn map(
    figures: &Figures,
    width: usize,
    look: Look,
) -> (Vec<(char, Part)>, impl Fn(Part) -> Style + use<>) {
    let total: u64 = figures.files.iter().sum();
    let cell_of = |at: u64| {
        let cell = u128::from(at) * width as u128 / u128::from(total.max(1));
        (cell as usize).min(width.saturating_sub(1))
    };
    let mut parts = match total {
        0 => Vec::new(),
        _ => vec![Part::Unread; width],
    };
    let acknowledged = match figures.acknowledged_bytes >= total {
        true => parts.len(),
        false => cell_of(figures.acknowledged_bytes),
    };
    parts
        .iter_mut()
        .take(acknowledged)
        .for_each(|part| *part = Part::Acknowledged);
    for at in &figures.found_at {
        if let Some(part) = parts.get_mut(cell_of(*at)) {
            *part = Part::Found;
        }
    }
    let style = move |part| match part {
        Part::Acknowledged => look.dim(),
        Part::Unread => look.coloured(Color::Blue),
        Part::Found => look.marked(Color::Red),
    };
    (
        parts
            .into_iter()
            .map(|part| (part.cell(look), part))
            .collect(),
        style,
    )
}
