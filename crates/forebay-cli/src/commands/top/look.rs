//! What the terminal can show, and styles for it.

use ratatui::style::{Color, Modifier, Style};

/// What the terminal can show.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) has_colours: bool,
    /// Block characters; otherwise ASCII.
    pub(super) has_blocks: bool,
}

impl Look {
    pub(super) fn coloured(self, colour: Color) -> Style {
        match self.has_colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// What must be noticed.
    pub(super) fn marked(self, colour: Color) -> Style {
        self.coloured(colour).add_modifier(Modifier::BOLD)
    }

    /// What need not be noticed.
    pub(super) fn dim(self) -> Style {
        self.coloured(Color::DarkGray)
    }
}

pub(super) fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}
