//! Draws the state of `top`.
//!
//! Invariants:
//! - A pure function of the state: no clock, no buffer, no environment.
//! - What a colour says, a character or a word says as well.

use crate::commands::top::detail::describe;
use crate::commands::top::figures::{Buffer, Figures};
use crate::commands::top::list::draw_list;
use crate::commands::top::look::bold;
use crate::commands::top::short;
use crate::commands::top::state::State;
use crate::output::{bytes, count};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Color;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// A look that is older than this many intervals is said to be late.
const LATE: u32 = 5;
/// Lines about the selected buffer.
const DETAIL_LINES: u16 = 9;

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
    frame.render_widget(Paragraph::new(text).style(state.look.dim()), keys);
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
        first.push(Span::styled(text, state.look.marked(colour)));
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

#[cfg(test)]
mod tests;
