//! Figures in a few characters.

use std::time::Duration;

/// At most five characters: `0.25`, `12.3`, `999`, `12.3k`, `456M`.
pub(super) fn number(number: f64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

/// Bytes, in powers of 1024, at most five characters: `512B`, `1.5M`.
pub(super) fn bytes(number: f64) -> String {
    scaled(number, 1024.0, &["B", "K", "M", "G", "T", "P", "E"])
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let (mut scaled, mut unit) = (number.max(0.0), 0);
    // A number that would be rounded to four digits gets the next unit.
    while scaled >= 999.5 && unit + 1 < units.len() {
        scaled /= step;
        unit += 1;
    }
    let is_whole = unit == 0 && scaled.fract() == 0.0;
    let decimals = match scaled {
        _ if is_whole => 0,
        small if small < 0.995 && unit == 0 && small > 0.0 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{}", units[unit])
}

/// `37%`, of a part from 0 to 1.
pub(super) fn percent(part: f64) -> String {
    format!("{:.0}%", part * 100.0)
}

/// A time in its largest unit: `0s`, `45s`, `90m`, `30h`, `12d`, `3y`.
pub(super) fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..100 => format!("{seconds}s"),
        seconds @ ..6_000 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds @ ..86_400_000 => format!("{}d", seconds / 86_400),
        seconds => format!("{}y", seconds / 31_557_600),
    }
}

/// A text in lines of at most so many characters, broken at spaces where there are any.
pub(super) fn lines(text: &str, width: u16) -> Vec<String> {
    let width = usize::from(width).max(1);
    let shown = |c: char| if c.is_control() { '?' } else { c };
    let mut rest: Vec<char> = text.chars().map(shown).collect();
    let mut lines = Vec::new();
    while rest.len() > width {
        let space = rest[..=width].iter().rposition(|c| *c == ' ');
        let at = space.filter(|at| *at > 0).unwrap_or(width);
        let behind = rest.split_off(at);
        lines.push(rest.iter().collect());
        rest = behind;
        if rest[0] == ' ' {
            rest.remove(0);
        }
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// The end of a text, which tells paths apart, in so many characters.
pub(super) fn end(text: &str, width: u16, has_blocks: bool) -> String {
    let width = usize::from(width);
    // Control characters in a name would move the cursor.
    let shown = |c: char| if c.is_control() { '?' } else { c };
    let chars: Vec<char> = text.chars().map(shown).collect();
    if chars.len() <= width {
        return chars.into_iter().collect();
    }
    let mark = if has_blocks { '\u{2026}' } else { '<' };
    let kept = &chars[chars.len() - width.saturating_sub(1)..];
    std::iter::once(mark)
        .chain(kept.iter().copied())
        .take(width)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_five_characters_at_most() {
        for (value, shown) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1.0, "1"),
            (12.34, "12.3"),
            (999.0, "999"),
            (1_000.0, "1.0k"),
            (12_345.0, "12.3k"),
            (999_400.0, "999k"),
            (999_600.0, "1.0M"),
            (1e21, "1000E"),
        ] {
            assert_eq!(number(value), shown);
        }
        for (value, shown) in [
            (0.0, "0B"),
            (512.0, "512B"),
            (1536.0, "1.5K"),
            (1.1e9, "1.0G"),
        ] {
            assert_eq!(bytes(value), shown);
        }
    }

    #[test]
    fn times_are_given_in_their_largest_unit() {
        for (seconds, shown) in [
            (0, "0s"),
            (99, "99s"),
            (100, "1m"),
            (7_200, "2h"),
            (864_000, "10d"),
            (1 << 31, "68y"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn a_long_text_is_broken_at_spaces() {
        assert_eq!(lines("one two", 7), ["one two"]);
        assert_eq!(lines("one two three", 7), ["one two", "three"]);
        assert_eq!(lines("one two three", 6), ["one", "two", "three"]);
        assert_eq!(lines("/a/long/path to", 4), ["/a/l", "ong/", "path", "to"]);
        assert_eq!(lines("", 4), [""]);
        assert_eq!(lines("ab", 0), ["a", "b"]);
    }

    #[test]
    fn the_end_of_a_long_path_is_kept() {
        assert_eq!(end("/var/spool", 10, true), "/var/spool");
        assert_eq!(end("/var/spool", 6, true), "\u{2026}spool");
        assert_eq!(end("/var/spool", 6, false), "<spool");
        assert_eq!(end("a\u{1b}[2J", 9, true), "a?[2J");
        assert_eq!(end("abc", 0, true), "");
    }
}
