//! Draws the state of `top`.
//!
//! Invariants:
//! - A pure function of the state: no clock, no buffer, no environment.
//! - What a colour says, a character or a word says as well.

use super::figures::{Buffer, Figures, Shown};
use super::short;
use super::state::{Look, Sort, State};
use crate::buffer::rates::Rates;
use crate::output::{bytes, count};
use indicatif::HumanCount;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};
use std::collections::VecDeque;
use std::time::Duration;

/// A look that is older than this many intervals is said to be late.
const LATE: u32 = 5;
/// Without an acknowledgement for this long, events that wait are said to be stuck.
const STUCK: Duration = Duration::from_secs(10);
/// Lines about the selected buffer.
const DETAIL_LINES: u16 = 9;
/// Columns are left out if the name would have less than this.
const NAME_WIDTH: u16 = 12;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let [head, list, detail, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Min(3),
        Constraint::Length(DETAIL_LINES),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header(state)), head);
    draw_list(frame, state, list);
    let buffer = state.buffers.get(state.selected_index());
    if let Some(buffer) = buffer {
        let lines = describe(buffer, state.look, detail.width);
        frame.render_widget(Paragraph::new(lines), detail);
    }
    let text = "q quit  p pause  s sort  r reverse  \u{2191}\u{2193} select";
    let text = match state.look.has_blocks {
        true => text.to_owned(),
        false => text.replace("\u{2191}\u{2193}", "up/down"),
    };
    frame.render_widget(Paragraph::new(text).style(dim(state.look)), keys);
}

/// What holds for all buffers together.
fn header(state: &State) -> Vec<Line<'static>> {
    let figures = || state.buffers.iter().filter_map(Buffer::figures);
    let mut first = vec![
        Span::styled("forebay top", bold()),
        Span::raw(format!(
            "  {}, every {}",
            count(state.buffers.len() as u64, "buffer"),
            humantime::format_duration(state.interval)
        )),
    ];
    let mut flag = |text: String, colour| {
        first.push(Span::raw("  "));
        first.push(Span::styled(text, marked(state.look, colour)));
    };
    let number = |is: fn(&Figures) -> bool| figures().filter(|figures| is(figures)).count() as u64;
    match (number(Figures::is_orphaned), number(|f| f.is_damaged)) {
        (0, 0) => {}
        (orphans, 0) => flag(count(orphans, "orphan"), Color::Yellow),
        (0, damaged) => flag(format!("{damaged} damaged"), Color::Red),
        (orphans, damaged) => {
            flag(count(orphans, "orphan"), Color::Yellow);
            flag(format!("{damaged} damaged"), Color::Red);
        }
    }
    if state.is_paused {
        flag("paused".to_owned(), Color::Cyan);
    } else if let Some(ago) = state.last_look.filter(|ago| *ago > state.interval * LATE) {
        flag(format!("last look {} ago", short::time(ago)), Color::Yellow);
    }
    let sum = |of: fn(&Figures) -> u64| figures().map(of).fold(0, u64::saturating_add);
    let rates = || figures().filter_map(|figures| figures.rates);
    let second = format!(
        "in {}/s, {}/s  out {}/s, {}/s  unread {} events, {}",
        short::number(rates().map(|rates| rates.events_in).sum()),
        short::bytes(rates().map(|rates| rates.bytes_in).sum()),
        short::number(rates().map(|rates| rates.events_out).sum()),
        short::bytes(rates().map(|rates| rates.bytes_out).sum()),
        short::number(sum(|figures| figures.unread_events) as f64),
        bytes(sum(|figures| figures.unread_bytes)),
    );
    vec![Line::from(first), Line::from(second)]
}

/// A column of the list after the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    State,
    Unread,
    Bytes,
    In,
    Out,
    Oldest,
    Fill,
    AtRate,
}

impl Column {
    const ALL: [Self; 8] = [
        Self::State,
        Self::Unread,
        Self::Bytes,
        Self::In,
        Self::Out,
        Self::Oldest,
        Self::Fill,
        Self::AtRate,
    ];

    /// The columns that a narrow terminal does without, the first one first.
    const SPARED: [Self; 6] = [
        Self::Bytes,
        Self::Fill,
        Self::Oldest,
        Self::Out,
        Self::In,
        Self::AtRate,
    ];

    /// In characters. The heads of columns to sort by have room for an arrow.
    fn width(self) -> u16 {
        match self {
            Self::State | Self::Unread | Self::Oldest => 7,
            Self::Bytes | Self::In | Self::Out => 6,
            Self::Fill => 5,
            Self::AtRate => 10,
        }
    }

    fn head(self) -> (&'static str, Option<Sort>) {
        let sort = match self {
            Self::State => return ("STATE", None),
            Self::Bytes => return ("BYTES", None),
            Self::AtRate => return ("AT RATE", None),
            Self::Unread => Sort::Unread,
            Self::In => Sort::In,
            Self::Out => Sort::Out,
            Self::Oldest => Sort::Oldest,
            Self::Fill => Sort::Fill,
        };
        (sort.name(), Some(sort))
    }

    fn cell(self, figures: &Figures, look: Look) -> Cell<'static> {
        let rate = |of: fn(&Rates) -> f64| {
            let rate = figures.rates.as_ref().map(of);
            rate.map_or_else(String::new, short::number)
        };
        let text = match self {
            Self::State => {
                let (word, style) = state_word(figures, look);
                return Cell::from(Span::styled(word, style));
            }
            Self::AtRate => {
                let (text, style) = at_rate(figures, look);
                return right(Span::styled(text, style));
            }
            Self::Unread => short::number(figures.unread_events as f64),
            Self::Bytes => short::bytes(figures.unread_bytes as f64),
            Self::In => rate(|rates| rates.events_in),
            Self::Out => rate(|rates| rates.events_out),
            Self::Oldest => figures.oldest.map_or_else(String::new, short::time),
            Self::Fill => figures.fill().map_or_else(String::new, percent),
        };
        right(Span::raw(text))
    }
}

fn right(span: Span<'static>) -> Cell<'static> {
    Cell::from(Line::from(span).right_aligned())
}

/// The columns that fit, and the width that is left for the name.
fn columns(width: u16) -> (Vec<Column>, u16) {
    let mut columns = Column::ALL.to_vec();
    let mut spared = Column::SPARED.iter();
    loop {
        let others: u16 = columns.iter().map(|column| column.width() + 1).sum();
        let left = width.saturating_sub(others);
        match spared.next() {
            Some(column) if left < NAME_WIDTH => columns.retain(|c| c != column),
            _ => return (columns, left),
        }
    }
}

fn draw_list(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let (columns, name_width) = columns(area.width);
    let rows = state.buffers.iter().map(|buffer| {
        let name = buffer.directory.to_string_lossy();
        let name = Cell::from(short::end(&name, name_width, state.look.has_blocks));
        let cells: Vec<Cell<'static>> = match &buffer.shown {
            Shown::Figures(figures) => {
                let cells = columns
                    .iter()
                    .map(|column| column.cell(figures, state.look));
                cells.collect()
            }
            Shown::Nothing => vec![Cell::from("...")],
            Shown::Error(_) => {
                let style = marked(state.look, Color::Red);
                vec![Cell::from(Span::styled("error", style))]
            }
        };
        Row::new(std::iter::once(name).chain(cells))
    });
    let heads = columns.iter().map(|column| {
        let (name, sort) = column.head();
        let head = head(state, name, sort);
        match column {
            Column::State => Cell::from(head),
            _ => right(head),
        }
    });
    let name_head = Cell::from(head(state, Sort::Name.name(), Some(Sort::Name)));
    let widths = columns
        .iter()
        .map(|column| Constraint::Length(column.width()));
    let widths = std::iter::once(Constraint::Length(name_width)).chain(widths);
    let table = Table::new(rows, widths)
        .header(Row::new(std::iter::once(name_head).chain(heads)))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut selection = TableState::new();
    if !state.buffers.is_empty() {
        selection.select(Some(state.selected_index()));
    }
    frame.render_stateful_widget(table, area, &mut selection);
}

/// The head of a column, with an arrow if the list is sorted by it.
fn head(state: &State, name: &'static str, sort: Option<Sort>) -> Span<'static> {
    let is_sorted = sort == Some(state.sort);
    let arrow = match (is_sorted, state.is_reversed, state.look.has_blocks) {
        (false, ..) => "",
        (true, false, true) => "\u{25be}",
        (true, true, true) => "\u{25b4}",
        (true, false, false) => "v",
        (true, true, false) => "^",
    };
    Span::styled(format!("{name}{arrow}"), bold())
}

fn state_word(figures: &Figures, look: Look) -> (&'static str, Style) {
    if figures.is_damaged {
        ("damaged", marked(look, Color::Red))
    } else if figures.is_orphaned() {
        ("orphan", marked(look, Color::Yellow))
    } else if figures.is_open {
        ("open", coloured(look, Color::Green))
    } else {
        ("idle", dim(look))
    }
}

/// Where a buffer goes if everything stays as it is now.
fn at_rate(figures: &Figures, look: Look) -> (String, Style) {
    if let Some(time) = figures.to_full {
        let style = match time < Duration::from_secs(3600) {
            true => marked(look, Color::Red),
            false => Style::new(),
        };
        return (format!("full {}", short::time(time)), style);
    }
    if let Some(time) = figures.to_empty {
        return (format!("empty {}", short::time(time)), Style::new());
    }
    match figures.since_progress {
        Some(time) if time >= STUCK && figures.is_open => (
            format!("stuck {}", short::time(time)),
            marked(look, Color::Yellow),
        ),
        _ => (String::new(), Style::new()),
    }
}

/// The selected buffer.
fn describe(buffer: &Buffer, look: Look, width: u16) -> Vec<Line<'static>> {
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
        Shown::Error(error) => {
            lines.push(Line::styled(error.clone(), marked(look, Color::Red)));
            return lines;
        }
    };
    lines.push(Line::from(position(figures)));
    lines.push(Line::from(unread(figures)));
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
            Span::styled(line, coloured(look, Color::Cyan)),
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
        dim(look),
    ));
    lines
}

fn position(figures: &Figures) -> String {
    let state = match (figures.is_open, figures.holder_pid) {
        (true, Some(pid)) => format!("open in process {pid}"),
        (true, None) => "open".to_owned(),
        (false, _) if figures.is_orphaned() => "orphan: no process has it open".to_owned(),
        (false, _) => "not open".to_owned(),
    };
    let findings = match figures.findings {
        0 => String::new(),
        found => format!("; {}: see forebay verify", count(found as u64, "finding")),
    };
    let acknowledged = HumanCount(figures.last_acknowledged_id);
    format!("{state}; acknowledged up to {acknowledged}{findings}")
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
fn sparkline(history: &VecDeque<f64>, highest: f64, width: usize, look: Look) -> String {
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
        Span::styled(bar, coloured(look, colour)),
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
        Part::Acknowledged => dim(look),
        Part::Unread => coloured(look, Color::Blue),
        Part::Found => marked(look, Color::Red),
    };
    (
        parts
            .into_iter()
            .map(|part| (part.cell(look), part))
            .collect(),
        style,
    )
}

fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn coloured(look: Look, colour: Color) -> Style {
    match look.has_colours {
        true => Style::new().fg(colour),
        false => Style::new(),
    }
}

/// What must be noticed.
fn marked(look: Look, colour: Color) -> Style {
    coloured(look, colour).add_modifier(Modifier::BOLD)
}

fn dim(look: Look) -> Style {
    coloured(look, Color::DarkGray)
}

#[cfg(test)]
mod tests {
    use super::super::figures::Limit;
    use super::super::state::Action;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::path::Path;

    const BLOCKS: Look = Look {
        has_colours: true,
        has_blocks: true,
    };
    const ASCII: Look = Look {
        has_colours: false,
        has_blocks: false,
    };

    /// A buffer at rest that is open.
    fn idle() -> Figures {
        Figures {
            is_open: true,
            holder_pid: Some(4711),
            unread_events: 0,
            unread_bytes: 0,
            next_record_id: 101,
            last_acknowledged_id: 100,
            oldest: None,
            disk_bytes: 9_600,
            limit: Some(Limit {
                bytes: 1 << 30,
                is_of_disk: false,
            }),
            files: vec![9_600],
            acknowledged_bytes: 9_600,
            found_at: Vec::new(),
            findings: 0,
            is_damaged: false,
            rates: Some(Rates {
                events_in: 0.0,
                events_out: 0.0,
                bytes_in: 0.0,
                bytes_out: 0.0,
            }),
            to_full: None,
            to_empty: None,
            since_progress: None,
        }
    }

    /// A busy buffer, one that nothing is taken from, an orphan, a damaged one, one at rest, and
    /// one that cannot be read.
    fn state(look: Look) -> State {
        let mut state = State::new(Duration::from_secs(1), Some(1 << 30), look);
        let busy = Figures {
            unread_events: 1_234_567,
            unread_bytes: 300 << 20,
            next_record_id: 3_234_568,
            last_acknowledged_id: 2_000_000,
            oldest: Some(Duration::from_secs(754)),
            disk_bytes: 400 << 20,
            files: vec![128 << 20, 128 << 20, 128 << 20, 16 << 20],
            acknowledged_bytes: 100 << 20,
            rates: Some(Rates {
                events_in: 12_345.0,
                events_out: 9_876.0,
                bytes_in: 3e6,
                bytes_out: 2.4e6,
            }),
            to_full: Some(Duration::from_secs(1_090)),
            ..idle()
        };
        let stuck = Figures {
            unread_events: 10,
            unread_bytes: 960,
            oldest: Some(Duration::from_secs(90_000)),
            acknowledged_bytes: 8_640,
            since_progress: Some(Duration::from_secs(61)),
            ..idle()
        };
        let orphan = Figures {
            is_open: false,
            holder_pid: None,
            unread_events: 100,
            unread_bytes: 9_600,
            oldest: Some(Duration::from_secs(864_000)),
            acknowledged_bytes: 0,
            ..idle()
        };
        let damaged = Figures {
            is_damaged: true,
            findings: 2,
            found_at: vec![0, 4_800],
            to_empty: Some(Duration::from_secs(7)),
            ..orphan.clone()
        };
        let closed = Figures {
            is_open: false,
            ..idle()
        };
        for (directory, shown) in [
            ("/var/lib/vector/buffer/v2/elastic", Shown::Figures(busy)),
            ("/var/lib/vector/buffer/v2/loki", Shown::Figures(stuck)),
            ("/var/spool/old", Shown::Figures(orphan)),
            ("/var/spool/torn", Shown::Figures(damaged)),
            ("/var/spool/done", Shown::Figures(closed)),
            (
                "/var/spool/gone",
                Shown::Error("there is no directory /var/spool/gone".into()),
            ),
        ] {
            let buffer = state.buffer(Path::new(directory));
            buffer.shown = shown;
            for look in 0..30 {
                buffer
                    .history
                    .add(f64::from(look % 10), f64::from(look / 10));
            }
        }
        state.arrange();
        state
    }

    fn drawn(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        // The backend shows each line in quotes.
        let shown = terminal.backend().to_string();
        let lines = shown.lines().map(|line| line.trim_matches('"').trim_end());
        lines.map(|line| format!("{line}\n")).collect()
    }

    #[track_caller]
    fn assert_drawn(state: &State, expected: &str) {
        let drawn = drawn(state, 80, 24);
        assert!(drawn == expected, "drawn:\n{drawn}expected:\n{expected}");
    }

    #[test]
    fn a_terminal_of_80_by_24_shows_list_and_selected_buffer() {
        assert_drawn(&state(BLOCKS), include_str!("pictures/blocks.txt"));
    }

    #[test]
    fn a_terminal_without_utf_8_and_colours_shows_the_same_in_ascii() {
        let mut state = state(ASCII);
        state.act(Action::Sort);
        state.act(Action::Select(isize::MAX));
        state.act(Action::Select(-2));
        state.act(Action::Pause);
        let expected = include_str!("pictures/ascii.txt");
        assert!(expected.is_ascii());
        assert_drawn(&state, expected);
    }

    #[test]
    fn without_colours_no_cell_has_one() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &state(ASCII))).unwrap();
        let cells = &terminal.backend().buffer().content;
        assert!(
            cells
                .iter()
                .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
        );
    }

    #[test]
    fn a_terminal_of_any_size_is_drawn_on() {
        let state = state(BLOCKS);
        for width in 1..130 {
            for height in [1, 2, 5, 12, 24, 50] {
                drawn(&state, width, height);
            }
        }
        // Half as wide, the names are still there.
        assert!(drawn(&state, 40, 24).contains("/old"));
        let empty = State::new(Duration::from_secs(1), None, BLOCKS);
        assert!(drawn(&empty, 80, 24).contains("0 buffers"));
    }

    #[test]
    fn a_late_look_is_said_to_be_late() {
        let mut state = state(BLOCKS);
        state.last_look = Some(Duration::from_secs(3));
        assert!(!drawn(&state, 80, 24).contains("last look"));
        state.last_look = Some(Duration::from_secs(75));
        assert!(drawn(&state, 80, 24).contains("last look 75s ago"));
    }

    #[test]
    fn something_is_never_drawn_as_nothing() {
        let history = VecDeque::from([0.0, 0.01, 50.0, 100.0]);
        assert_eq!(sparkline(&history, 100.0, 6, ASCII), "   .=#");
        assert_eq!(sparkline(&history, 100.0, 2, ASCII), "=#");
        let still = VecDeque::from([0.0, 0.0]);
        assert_eq!(sparkline(&still, 0.0, 2, ASCII), "  ");
    }
}
