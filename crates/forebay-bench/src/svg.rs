//! A few shapes of SVG, and axes to put them on.
//!
//! Invariant: coordinates are pixels with the origin at the top left; text is
//! escaped; the picture stands by itself, without fonts or styles from elsewhere.

use std::fmt::Write as _;

/// The background.
pub const PAPER: &str = "#ffffff";
/// Text, and lines that carry meaning.
pub const INK: &str = "#1f2933";
/// Text of less importance.
pub const FAINT: &str = "#64748b";
/// Lines to read off values.
pub const GRID: &str = "#e2e8f0";

/// Where a text begins, or ends, at its coordinates.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It has its middle there.
    Middle,
    /// It ends there.
    End,
}

/// A picture in the making.
#[derive(Debug)]
pub struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    /// An empty picture of this size.
    pub fn new(width: f64, height: f64) -> Self {
        let mut svg = Self {
            body: String::new(),
            width,
            height,
        };
        svg.rect(0.0, 0.0, width, height, PAPER);
        svg
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(arguments);
        self.body.push('\n');
    }

    /// A filled rectangle, from its top left corner.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.push(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{fill}"/>"#
        ));
    }

    /// A thin line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.push(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{stroke}"/>"#
        ));
    }

    /// A line through points, with a dot on each unless it is dashed.
    pub fn path(&mut self, points: &[(f64, f64)], stroke: &str, dashed: bool) {
        let list: Vec<_> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let dashes = match dashed {
            true => r#" stroke-dasharray="5 4""#,
            false => "",
        };
        self.push(format_args!(
            r#"<polyline points="{}" fill="none" stroke="{stroke}" stroke-width="2"{dashes}/>"#,
            list.join(" ")
        ));
        if !dashed {
            for (x, y) in points {
                self.push(format_args!(
                    r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{stroke}"/>"#
                ));
            }
        }
    }

    /// A text whose baseline is at `at`.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, style: Style, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let Style { size, fill, bold } = style;
        let weight = if bold { r#" font-weight="600""# } else { "" };
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        let (x, y) = at;
        self.push(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{fill}"{weight}>{text}</text>"#
        ));
    }

    /// The finished picture; `title` is its text alternative.
    pub fn finish(self, title: &str) -> String {
        let Self {
            body,
            width,
            height,
        } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             font-family=\"system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif\" \
             role=\"img\">\n<title>{title}</title>\n{body}</svg>\n"
        )
    }
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// The height of the font.
    pub size: u32,
    /// The colour.
    pub fill: &'static str,
    /// Whether it stands out.
    pub bold: bool,
}

/// A panel's title.
pub const TITLE: Style = Style {
    size: 15,
    fill: INK,
    bold: true,
};
/// Names and values.
pub const LABEL: Style = Style {
    size: 12,
    fill: INK,
    bold: false,
};
/// Ticks and remarks.
pub const REMARK: Style = Style {
    size: 12,
    fill: FAINT,
    bold: false,
};

/// A logarithmic scale from values to pixels.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Log {
    /// A scale that reaches around all positive values, to whole steps of 1, 2
    /// and 5; `None` without any.
    pub fn around(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Option<Self> {
        let values = values.into_iter().filter(|v| *v > 0.0 && v.is_finite());
        let (low, high) = values.fold((f64::MAX, 0.0_f64), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        (high > 0.0).then(|| Self {
            low: step_at_most(low / 1.05),
            high: step_at_least(high * 1.05),
            from,
            to,
        })
    }

    /// The pixel of a value.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// Values to draw lines at: 1, 2 and 5 times each power of ten, or only the powers if
    /// there would be many lines.
    pub fn ticks(&self) -> Vec<f64> {
        let steps: &[f64] = match (self.high / self.low).log10() {
            decades if decades > 2.1 => &[1.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        (first..=last)
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|v| *v >= self.low * 0.999 && *v <= self.high * 1.001)
            .collect()
    }
}

fn step_at_most(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [5.0, 2.0]
        .into_iter()
        .map(|step| step * power)
        .find(|v| *v <= value)
        .unwrap_or(power)
}

fn step_at_least(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|step| step * power)
        .find(|v| *v >= value)
        .unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reaches_around_its_values() {
        let scale = Log::around([3.0e5, 1.8e7], 100.0, 0.0).unwrap();
        assert!((scale.at(2.0e5) - 100.0).abs() < 1e-6);
        assert!(scale.at(2.0e7).abs() < 1e-6);
        assert_eq!(scale.ticks()[..3], [2.0e5, 5.0e5, 1.0e6]);
        assert!(Log::around([0.0], 0.0, 1.0).is_none());
    }

    #[test]
    fn text_is_escaped() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text((0.0, 0.0), Anchor::Start, LABEL, "a < b & c");
        assert!(svg.finish("t").contains("a &lt; b &amp; c"));
    }
}
