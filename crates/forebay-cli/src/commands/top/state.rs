//! What `top` shows, and what keys do to it.
//!
//! Invariant: nothing here reads a buffer, a clock or a terminal.

use super::figures::{Buffer, Figures};
use super::look::Look;
use crate::buffer::looks::NoLook;
use forebay::Inspection;
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct State {
    /// In the order in which they are shown.
    pub(super) buffers: Vec<Buffer>,
    /// The selected buffer, wherever sorting puts it.
    selected: Option<PathBuf>,
    pub(super) sort: Sort,
    pub(super) is_reversed: bool,
    pub(super) is_paused: bool,
    pub(super) interval: Duration,
    /// How long ago the last look ended.
    pub(super) last_look: Option<Duration>,
    pub(super) look: Look,
    max_size: Option<u64>,
}

/// What the buffers are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Name,
    Unread,
    In,
    Out,
    Oldest,
    Fill,
}

impl Sort {
    const ALL: [Self; 6] = [
        Self::Name,
        Self::Unread,
        Self::In,
        Self::Out,
        Self::Oldest,
        Self::Fill,
    ];

    /// The head of the column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "BUFFER",
            Self::Unread => "UNREAD",
            Self::In => "IN/s",
            Self::Out => "OUT/s",
            Self::Oldest => "OLDEST",
            Self::Fill => "FILL",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self);
        Self::ALL[at.map_or(0, |at| (at + 1) % Self::ALL.len())]
    }

    /// The first is shown above the second: names from a on, figures from the largest on.
    fn compare(self, a: &Buffer, b: &Buffer) -> Ordering {
        let by = |figure: fn(&Figures) -> f64| {
            let of = |buffer: &Buffer| buffer.figures().map_or(-1.0, figure);
            of(b).total_cmp(&of(a))
        };
        match self {
            Self::Name => Ordering::Equal,
            Self::Unread => by(|figures| figures.unread_events as f64),
            Self::In => by(|figures| figures.rates.map_or(-1.0, |rates| rates.events_in)),
            Self::Out => by(|figures| figures.rates.map_or(-1.0, |rates| rates.events_out)),
            Self::Oldest => by(|figures| figures.oldest.map_or(-1.0, |age| age.as_secs_f64())),
            Self::Fill => by(|figures| figures.fill().unwrap_or(-1.0)),
        }
        .then_with(|| a.directory.cmp(&b.directory))
    }
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Sort,
    Reverse,
    Pause,
    /// So many rows down, or up.
    Select(isize),
}

impl State {
    pub(super) fn new(interval: Duration, max_size: Option<u64>, look: Look) -> Self {
        Self {
            buffers: Vec::new(),
            selected: None,
            sort: Sort::Name,
            is_reversed: false,
            is_paused: false,
            interval,
            last_look: None,
            look,
            max_size,
        }
    }

    /// Takes note of a look at a buffer, which may be a new one.
    pub(super) fn take(
        &mut self,
        at: Instant,
        directory: &Path,
        seen: Result<Box<Inspection>, NoLook>,
    ) {
        let max_size = self.max_size;
        self.buffer(directory).take(at, seen, max_size);
        self.arrange();
    }

    /// The buffer in a directory, which is added if it is new.
    pub(super) fn buffer(&mut self, directory: &Path) -> &mut Buffer {
        let known = self.buffers.iter();
        let at = known.clone().position(|b| b.directory == directory);
        let at = at.unwrap_or_else(|| {
            self.buffers.push(Buffer::new(directory.to_owned()));
            self.buffers.len() - 1
        });
        &mut self.buffers[at]
    }

    /// Does what a key asks for.
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Sort => {
                self.sort = self.sort.next();
                self.arrange();
            }
            Action::Reverse => {
                self.is_reversed = !self.is_reversed;
                self.arrange();
            }
            Action::Pause => self.is_paused = !self.is_paused,
            Action::Select(rows) => {
                let at = self.selected_index().saturating_add_signed(rows);
                let at = at.min(self.buffers.len().saturating_sub(1));
                self.selected = self.buffers.get(at).map(|b| b.directory.clone());
            }
        }
    }

    /// The row of the selected buffer; the first one if none was selected.
    pub(super) fn selected_index(&self) -> usize {
        let is_selected = |buffer: &Buffer| Some(&buffer.directory) == self.selected.as_ref();
        self.buffers.iter().position(is_selected).unwrap_or(0)
    }

    /// Sorts the buffers.
    pub(super) fn arrange(&mut self) {
        let (sort, is_reversed) = (self.sort, self.is_reversed);
        self.buffers.sort_by(|a, b| match is_reversed {
            true => sort.compare(b, a),
            false => sort.compare(a, b),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(names: &[&str]) -> State {
        let look = Look {
            has_colours: false,
            has_blocks: false,
        };
        let mut state = State::new(Duration::from_secs(1), None, look);
        for name in names {
            state.buffer(Path::new(name));
        }
        state.arrange();
        state
    }

    fn names(state: &State) -> Vec<&str> {
        let directories = state.buffers.iter().map(|b| b.directory.to_str().unwrap());
        directories.collect()
    }

    #[test]
    fn a_selected_buffer_stays_selected_wherever_sorting_puts_it() {
        let mut state = state(&["c", "a", "b"]);
        assert_eq!(names(&state), ["a", "b", "c"]);
        assert_eq!(state.selected_index(), 0);
        state.act(Action::Select(2));
        assert_eq!(state.selected_index(), 2);
        state.act(Action::Reverse);
        assert_eq!(names(&state), ["c", "b", "a"]);
        assert_eq!(state.selected_index(), 0);
        state.buffer(Path::new("d"));
        state.arrange();
        assert_eq!(state.selected_index(), 1);
        state.act(Action::Select(-5));
        assert_eq!(state.selected_index(), 0);
        state.act(Action::Select(isize::MAX));
        assert_eq!(state.selected_index(), 3);
    }

    #[test]
    fn sorting_goes_round_all_columns() {
        let mut state = state(&[]);
        let mut seen = Vec::new();
        for _ in Sort::ALL {
            seen.push(state.sort);
            state.act(Action::Sort);
        }
        assert_eq!(seen, Sort::ALL);
        assert_eq!(state.sort, Sort::Name);
    }
}
