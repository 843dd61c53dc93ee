//! Draws the list of buffers.

use super::figures::{Figures, STUCK, Shown};
use super::look::{Look, bold};
use super::short::{self, percent};
use super::state::{Sort, State};
use crate::buffer::looks::NoLook;
use crate::buffer::rates::Rates;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table, TableState};
use std::time::Duration;

/// Columns are left out if the name would have less than this.
const NAME_WIDTH: u16 = 12;

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

/// The list of all buffers.
pub(super) fn draw_list(frame: &mut Frame<'_>, state: &State, area: Rect) {
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
            Shown::NoLook(why) => {
                let (word, colour) = match why {
                    NoLook::Repair(_) => ("repair", Color::Yellow),
                    NoLook::Gone => ("gone", Color::DarkGray),
                    NoLook::Error(_) => ("error", Color::Red),
                };
                vec![Cell::from(Span::styled(word, state.look.marked(colour)))]
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
        ("damaged", look.marked(Color::Red))
    } else if figures.is_orphaned() {
        ("orphan", look.marked(Color::Yellow))
    } else if figures.is_open {
        ("open", look.coloured(Color::Green))
    } else {
        ("idle", look.dim())
    }
}

/// Where a buffer goes if everything stays as it is now.
fn at_rate(figures: &Figures, look: Look) -> (String, Style) {
    if let Some(time) = figures.to_full {
        let style = match time < Duration::from_secs(3600) {
            true => look.marked(Color::Red),
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
            look.marked(Color::Yellow),
        ),
        _ => (String::new(), Style::new()),
    }
}
