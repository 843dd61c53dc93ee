//! Sizes (`256MiB`) and durations (`500ms`) as they are given on the command
//! line.
//!
//! Invariants: a value is either understood exactly or refused with a sentence
//! that says how to write it; nothing is rounded.

use std::str::FromStr;
use std::time::Duration;

/// Units of bytes, in lower case. A bare letter is binary, as in `dd` and systemd.
const UNITS: [(&str, u64); 18] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("p", 1 << 50),
    ("bytes", 1),
    ("b", 1),
    ("", 1),
];

/// A number of bytes: `4096`, `256MiB`, `1.5GiB`, `100MB`, `64k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A length of time: `500ms`, `2s`, `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        size_or_zero(text).map(Self)
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        duration(text).map(Self)
    }
}

/// The bytes of a [`Size`].
///
/// # Errors
///
/// A sentence for the user, when the text is not a size, or needs more than 64 bits.
pub(crate) fn size_or_zero(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err("a size cannot be negative; write it as 256MiB, 100MB or 4096".to_owned());
    }
    let number_len = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(number_len);
    let unit = unit.trim_start().to_ascii_lowercase();
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if number.is_empty() {
            "not a size; write it as 256MiB, 100MB or 4096".to_owned()
        } else {
            format!(
                "unknown unit {:?}; use B, KiB, MiB, GiB, TiB (powers of 1024) \
                 or kB, MB, GB, TB (powers of 1000)",
                trimmed[number_len..].trim_start()
            )
        });
    };
    bytes(number, *factor)
}

/// `number` (digits with at most one point) times `factor`, exactly.
fn bytes(number: &str, factor: u64) -> Result<u64, String> {
    let not_a_number = || "not a size; write it as 256MiB, 100MB or 4096".to_owned();
    let too_large = || "larger than 64 bits can hold".to_owned();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(fraction) || number.ends_with('.') {
        return Err(not_a_number());
    }
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let whole = whole.checked_mul(factor).ok_or_else(too_large)?;
    if fraction.is_empty() {
        return Ok(whole);
    }
    let inexact = || "not a whole number of bytes; use a smaller unit".to_owned();
    if fraction.len() > 18 {
        return Err(inexact());
    }
    let parts: u128 = fraction.parse().map_err(|_| not_a_number())?;
    let scale = 10_u128.pow(fraction.len() as u32);
    let product = parts * u128::from(factor);
    if !product.is_multiple_of(scale) {
        return Err(inexact());
    }
    let rest = u64::try_from(product / scale).map_err(|_| too_large())?;
    whole.checked_add(rest).ok_or_else(too_large)
}

/// The length of a [`Time`].
///
/// # Errors
///
/// A sentence for the user, when the text is not a length of time.
fn duration(text: &str) -> Result<Duration, String> {
    let example = "write it as 500ms, 2s or 1m";
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(format!("a duration cannot be negative; {example}"));
    }
    if trimmed.bytes().all(|b| b.is_ascii_digit()) && !trimmed.bytes().all(|b| b == b'0') {
        return Err(format!("a duration needs a unit; {example}"));
    }
    humantime::parse_duration(trimmed).map_err(|error| format!("{error}; {example}"))
}

/// A whole number.
///
/// # Errors
///
/// A sentence for the user, when the text is not a whole number, or needs more than 64
/// bits.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() || !trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return Err("not a whole number, such as 0 or 100".to_owned());
    }
    trimmed
        .parse()
        .map_err(|_| "larger than 64 bits can hold".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("4096", 4096),
            ("4096B", 4096),
            ("12 bytes", 12),
            ("256MiB", 256 << 20),
            ("256 mib", 256 << 20),
            ("64k", 64 << 10),
            ("1.5GiB", 3 << 29),
            ("100MB", 100_000_000),
            ("0.5kB", 500),
            ("2TiB", 2 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_a_remedy() {
        for (text, says) in [
            ("12XB", "unknown unit \"XB\""),
            ("1 1", "unknown unit"),
            ("-1", "negative"),
            ("", "write it as"),
            ("MiB", "write it as"),
            (".5MiB", "write it as"),
            ("5.MiB", "write it as"),
            ("1.2.3MiB", "write it as"),
            ("0.3B", "whole number of bytes"),
            ("18446744073709551616", "64 bits"),
            ("99999999TiB", "64 bits"),
            ("1e3", "unknown unit"),
            ("\u{ff11}", "write it as"),
        ] {
            let error = text.parse::<Size>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_are_not_negative() {
        assert_eq!("500ms".parse(), Ok(Time(Duration::from_millis(500))));
        assert_eq!("1m 30s".parse(), Ok(Time(Duration::from_secs(90))));
        assert_eq!("0".parse(), Ok(Time(Duration::ZERO)));
        for (text, says) in [
            ("500", "needs a unit"),
            ("-1s", "negative"),
            ("5 parsecs", "write it as"),
            ("", "write it as"),
        ] {
            let error = text.parse::<Time>().expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
