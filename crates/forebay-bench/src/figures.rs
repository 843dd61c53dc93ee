//! Figures as text: three digits and a unit.
//!
//! Invariant: a figure is rounded, and never truncated.

/// A number to three digits, with a prefix: `8.42 M`.
pub fn metric(value: f64) -> String {
    let (value, prefix) = match value {
        v if v >= 999.5e6 => (v / 1e9, " G"),
        v if v >= 999.5e3 => (v / 1e6, " M"),
        v if v >= 999.5 => (v / 1e3, " k"),
        v => return digits(v),
    };
    format!("{}{prefix}", digits(value))
}

/// A number to three digits, or to a whole number if that has more.
pub(crate) fn digits(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// Bytes per second: `4.21 GB/s`.
pub(crate) fn bandwidth(value: f64) -> String {
    let text = metric(value);
    match text.ends_with(|c: char| c.is_ascii_digit()) {
        true => format!("{text} B/s"),
        false => format!("{text}B/s"),
    }
}

/// A time given in µs.
pub fn time(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", digits(us)),
        us if us < 999.5e3 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} s", digits(us / 1e6)),
    }
}

/// A payload length: `256 B`, `4 KiB`.
pub fn length(len: usize) -> String {
    match len {
        len if len >= 1 << 20 && len.is_multiple_of(1 << 20) => format!("{} MiB", len >> 20),
        len if len >= 1 << 10 && len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
        len => format!("{len} B"),
    }
}

/// A number of bytes: `1.50 MiB`.
pub fn bytes(number: u64) -> String {
    let value = number as f64;
    match number {
        n if n >= 1 << 40 => format!("{:.2} TiB", value / (1_u64 << 40) as f64),
        n if n >= 1 << 30 => format!("{:.2} GiB", value / (1 << 30) as f64),
        n if n >= 1 << 20 => format!("{:.2} MiB", value / (1 << 20) as f64),
        n if n >= 1 << 10 => format!("{:.2} KiB", value / (1 << 10) as f64),
        n => format!("{n} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let cases = [
            (0.5, "0.50"),
            (12.34, "12.3"),
            (421.3, "421"),
            (4_321.0, "4.32 k"),
            (9_999.6, "10.0 k"),
            (999_600.0, "1.00 M"),
            (8_421_000.0, "8.42 M"),
            (4.2e9, "4.20 G"),
        ];
        for (value, text) in cases {
            assert_eq!(metric(value), text);
        }
        assert_eq!(bandwidth(4.2e9), "4.20 GB/s");
        assert_eq!(bandwidth(12.0), "12.0 B/s");
        assert_eq!(time(0.25), "0.25 µs");
        assert_eq!(time(1_500.0), "1.50 ms");
        assert_eq!(
            [64, 1024, 1500, 1 << 20].map(length),
            ["64 B", "1 KiB", "1500 B", "1 MiB"]
        );
        assert_eq!([1000, 3 << 19].map(bytes), ["1000 B", "1.50 MiB"]);
    }
}
