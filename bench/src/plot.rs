//! The report as a picture: a panel of bars per work, the fastest on top.
//!
//! Invariant: nothing is drawn for a figure that was not measured, and all bars
//! of a panel have one scale that begins at zero.

use crate::report::{Column, Report};
use forebay_bench::figures::metric;
use forebay_bench::svg::{Anchor, INK, LABEL, REMARK, Style, Svg, TITLE};

const PANELS: [Column; 6] = [
    Column::Append,
    Column::AppendSynced,
    Column::Batch,
    Column::Read,
    Column::Durable,
    Column::DurableSixteen,
];
const WIDTH: f64 = 1080.0;
const MARGIN: f64 = 40.0;
const TOP: f64 = 70.0;
const PANEL_WIDTH: f64 = 480.0;
const COLUMNS: usize = 2;
/// From a panel's top to its first bar.
const HEAD: f64 = 18.0;
const STEP: f64 = 17.0;
const BAR: f64 = 12.0;
/// Room for a peer's name, and for its figure.
const NAME_WIDTH: f64 = 130.0;
const FIGURE_WIDTH: f64 = 60.0;

const OURS: &str = "#2563eb";
const THEIRS: &str = "#94a3b8";
const BOLD: Style = Style {
    size: 12,
    fill: INK,
    bold: true,
};

/// Draws the figures of the shortest payload.
pub(crate) fn svg(report: &Report) -> String {
    let payload = report.payloads().first().copied().unwrap_or_default();
    let panel_height = HEAD + report.peers().len() as f64 * STEP + 40.0;
    let rows = PANELS.len().div_ceil(COLUMNS);
    let mut svg = Svg::new(WIDTH, TOP + rows as f64 * panel_height);
    svg.text(
        (MARGIN, 32.0),
        Anchor::Start,
        TITLE,
        &format!("Records per second, payloads of {payload} B"),
    );
    svg.text((MARGIN, 50.0), Anchor::Start, REMARK, &report.machine);
    for (n, column) in PANELS.into_iter().enumerate() {
        let x = MARGIN + (n % COLUMNS) as f64 * (PANEL_WIDTH + MARGIN);
        let y = TOP + (n / COLUMNS) as f64 * panel_height + 16.0;
        panel(&mut svg, report, column, payload, (x, y));
    }
    svg.finish("Records per second of forebay and its peers")
}

fn panel(svg: &mut Svg, report: &Report, column: Column, payload: usize, (x, y): (f64, f64)) {
    svg.text((x, y), Anchor::Start, TITLE, column.name());
    let mut bars: Vec<_> = report
        .peers()
        .into_iter()
        .filter_map(|about| Some((about.name, report.figure(about.name, column, payload)?)))
        .collect();
    bars.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let most = bars.first().map_or(1.0, |(_, figure)| *figure);
    let room = PANEL_WIDTH - NAME_WIDTH - FIGURE_WIDTH;
    for (n, (name, figure)) in bars.into_iter().enumerate() {
        let (style, fill) = match name {
            "forebay" => (BOLD, OURS),
            _ => (LABEL, THEIRS),
        };
        let top = y + HEAD + n as f64 * STEP;
        let base = top + BAR - 2.0;
        let left = x + NAME_WIDTH;
        let width = room * figure / most;
        svg.text((left - 8.0, base), Anchor::End, style, name);
        svg.rect(left, top, width, BAR, fill);
        let figure = metric(figure);
        svg.text((left + width + 6.0, base), Anchor::Start, style, &figure);
    }
}
