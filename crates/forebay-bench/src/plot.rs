//! The report as a picture: throughput by payload beside the machine's limits,
//! durable appends, latency.
//!
//! Invariant: a panel without figures says so; nothing is drawn for a figure
//! that was not measured.

use super::figures::{bytes, length, metric, time};
use super::plan::Work;
use super::report::{Report, Row};
use super::svg::{Anchor, GRID, INK, LABEL, Log, REMARK, Svg, TITLE};

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 790.0;
const MARGIN: f64 = 48.0;
const PANEL_WIDTH: f64 = 460.0;
const TOP_HEIGHT: f64 = 420.0;
/// From a panel's top to its drawing: room for the title and a legend in two columns.
const LEGEND_TOP: f64 = 26.0;
const LEGEND_STEP: f64 = 18.0;
const BAR: f64 = 22.0;
const BAR_STEP: f64 = 40.0;

const BLUE: &str = "#2563eb";
const TEAL: &str = "#0d9488";
const ORANGE: &str = "#ea580c";
const VIOLET: &str = "#7c3aed";
const PINK: &str = "#db2777";
const GREY: &str = "#94a3b8";

const LINES: [(Work, u32, &str, &str); 5] = [
    (Work::Append, 1, "append", BLUE),
    (Work::AppendBatch, 1, "append, batches", TEAL),
    (Work::ReadAck, 0, "read + acknowledge", ORANGE),
    (Work::Concurrent, 1, "both at once", VIOLET),
    (Work::ConcurrentTokio, 1, "both at once, tokio", PINK),
];

/// The top left corner of a panel.
#[derive(Debug, Clone, Copy)]
struct Corner {
    x: f64,
    y: f64,
}

struct Series {
    name: &'static str,
    colour: &'static str,
    dashed: bool,
    /// Payload length and value.
    points: Vec<(usize, f64)>,
}

/// Draws the report.
pub fn svg(report: &Report) -> String {
    let mut svg = Svg::new(WIDTH, HEIGHT);
    let right = MARGIN * 2.0 + PANEL_WIDTH + 40.0;
    let (top, bottom) = (70.0, 70.0 + TOP_HEIGHT + 50.0);
    svg.text(
        (MARGIN, 34.0),
        Anchor::Start,
        TITLE,
        &format!("forebay {} bench", report.version),
    );
    svg.text(
        (MARGIN, 52.0),
        Anchor::Start,
        REMARK,
        &report.machine.line(),
    );
    let records = series(report, |row| row.records_per_s);
    lines(
        &mut svg,
        Corner {
            x: MARGIN,
            y: top + 16.0,
        },
        "Records per second",
        &records,
        tick,
    );
    let mut bytes = series(report, |row| row.bytes_per_s);
    let lens = report.payloads();
    let across = |value: f64| lens.iter().map(|len| (*len, value)).collect();
    for (name, value) in [
        ("raw write, 1 MiB blocks", report.raw.write_1m_bytes_per_s),
        ("raw read, 1 MiB blocks", report.raw.read_bytes_per_s),
    ] {
        let colour = if name.starts_with("raw write") {
            GREY
        } else {
            INK
        };
        bytes.push(Series {
            name,
            colour,
            dashed: true,
            points: across(value),
        });
    }
    lines(
        &mut svg,
        Corner {
            x: right,
            y: top + 16.0,
        },
        "Payload bytes per second",
        &bytes,
        |v| format!("{}B", tick(v)),
    );
    synced(
        &mut svg,
        Corner {
            x: MARGIN,
            y: bottom + 16.0,
        },
        report,
    );
    waiting(
        &mut svg,
        Corner {
            x: right,
            y: bottom + 16.0,
        },
        report,
    );
    svg.finish("What forebay bench measured")
}

/// A value that is 1, 2 or 5 times a power of ten.
fn tick(value: f64) -> String {
    metric(value).replace(".00", "").replace(".0", "")
}

fn series(report: &Report, value: impl Fn(&Row) -> Option<f64>) -> Vec<Series> {
    let of = |(work, producers, name, colour)| Series {
        name,
        colour,
        dashed: false,
        points: report
            .payloads()
            .into_iter()
            .filter_map(|len| Some((len, report.row(work, len, producers).and_then(&value)?)))
            .collect(),
    };
    let all = LINES.into_iter().map(of);
    all.filter(|series| !series.points.is_empty()).collect()
}

/// Values by payload length, both logarithmic.
fn lines(svg: &mut Svg, at: Corner, title: &str, series: &[Series], name: impl Fn(f64) -> String) {
    svg.text((at.x, at.y), Anchor::Start, TITLE, title);
    let rows = series.len().div_ceil(2) as f64;
    let top = at.y + LEGEND_TOP + rows * LEGEND_STEP + 8.0;
    let bottom = at.y + TOP_HEIGHT - 40.0;
    let left = at.x + 52.0;
    let right = at.x + PANEL_WIDTH;
    let values = series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    let lens = || series.iter().flat_map(|s| s.points.iter().map(|p| p.0));
    let Some(scale) = Log::around(values, bottom, top) else {
        svg.text((at.x, at.y + 40.0), Anchor::Start, REMARK, "not measured");
        return;
    };
    for tick in scale.ticks() {
        let y = scale.at(tick);
        svg.line((left, y), (right, y), GRID);
        svg.text((left - 8.0, y + 4.0), Anchor::End, REMARK, &name(tick));
    }
    let (first, last) = (lens().min().unwrap_or(1), lens().max().unwrap_or(1));
    let x = |len: usize| {
        let span = (last as f64 / first as f64).ln();
        let share = (len as f64 / first as f64).ln() / if span > 0.0 { span } else { 1.0 };
        left + 24.0 + share * (right - left - 48.0)
    };
    let mut marked: Vec<usize> = lens().collect();
    marked.sort_unstable();
    marked.dedup();
    for len in marked {
        svg.text(
            (x(len), bottom + 20.0),
            Anchor::Middle,
            REMARK,
            &length(len),
        );
    }
    for (n, series) in series.iter().enumerate() {
        let points: Vec<_> = series
            .points
            .iter()
            .map(|(len, value)| (x(*len), scale.at(*value)))
            .collect();
        svg.path(&points, series.colour, series.dashed);
        let legend_x = at.x + (n % 2) as f64 * PANEL_WIDTH / 2.0;
        let legend_y = at.y + LEGEND_TOP + (n / 2) as f64 * LEGEND_STEP;
        let sample = [
            (legend_x, legend_y - 4.0),
            (legend_x + 22.0, legend_y - 4.0),
        ];
        svg.path(&sample, series.colour, series.dashed);
        svg.text(
            (legend_x + 30.0, legend_y),
            Anchor::Start,
            LABEL,
            series.name,
        );
    }
}

/// A named value with a bar.
struct Bar {
    name: String,
    value: f64,
    label: String,
    colour: &'static str,
}

/// Bars with their values, on a logarithmic scale: they span factors of 1,000.
fn bars(svg: &mut Svg, at: Corner, title: &str, remark: &str, bars: &[Bar]) -> f64 {
    svg.text((at.x, at.y), Anchor::Start, TITLE, title);
    svg.text((at.x, at.y + 18.0), Anchor::Start, REMARK, remark);
    let top = at.y + 34.0;
    let left = at.x + 150.0;
    let right = at.x + PANEL_WIDTH - 70.0;
    let values = bars.iter().map(|bar| bar.value);
    let Some(scale) = Log::around(values.clone().chain(values.map(|v| v / 10.0)), left, right)
    else {
        svg.text((at.x, top + 16.0), Anchor::Start, REMARK, "not measured");
        return top + 32.0;
    };
    for (n, bar) in bars.iter().enumerate() {
        let y = top + n as f64 * BAR_STEP;
        let end = scale.at(bar.value);
        svg.text((left - 10.0, y + 16.0), Anchor::End, LABEL, &bar.name);
        svg.rect(left, y, end - left, BAR, bar.colour);
        svg.text((end + 8.0, y + 16.0), Anchor::Start, LABEL, &bar.label);
    }
    top + bars.len() as f64 * BAR_STEP
}

fn synced(svg: &mut Svg, at: Corner, report: &Report) {
    let mut all = vec![Bar {
        name: "raw fdatasync".to_owned(),
        value: report.raw.fdatasync_per_s,
        label: metric(report.raw.fdatasync_per_s),
        colour: GREY,
    }];
    let payload = report
        .rows(Work::AppendSynced)
        .next()
        .map(|row| row.payload_bytes);
    let rows = report.rows(Work::AppendSynced);
    all.extend(
        rows.filter(|row| Some(row.payload_bytes) == payload)
            .filter_map(|row| {
                let value = row.records_per_s?;
                Some(Bar {
                    name: match row.producers {
                        1 => "1 producer".to_owned(),
                        n if n < 64 => format!("{n} threads"),
                        n => format!("{n} tasks"),
                    },
                    value,
                    label: metric(value),
                    colour: BLUE,
                })
            }),
    );
    let remark = "each returns when it is on stable storage; logarithmic";
    bars(svg, at, "Synced appends per second", remark, &all);
}

fn waiting(svg: &mut Svg, at: Corner, report: &Report) {
    let mut all = Vec::new();
    if let Some(row) = report.rows(Work::Latency).next() {
        for (name, value) in [
            ("p50", row.p50_us),
            ("p99", row.p99_us),
            ("p99.9", row.p999_us),
        ] {
            all.extend(value.map(|us| Bar {
                name: name.to_owned(),
                value: us,
                label: time(us),
                colour: TEAL,
            }));
        }
    }
    if let Some(us) = report.rows(Work::Open).next().and_then(|row| row.p50_us) {
        let backlog = bytes(report.size_bytes);
        all.push(Bar {
            name: format!("open, {backlog}"),
            value: us,
            label: time(us),
            colour: VIOLET,
        });
    }
    let remark = "append to delivery at 10,000 a second; open with all unread; logarithmic";
    let end = bars(svg, at, "Time", remark, &all);
    if let Some(memory) = report
        .rows(Work::Memory)
        .next()
        .and_then(|row| row.memory_bytes)
    {
        let text = format!(
            "memory with {} unread: {}",
            bytes(report.size_bytes),
            bytes(memory)
        );
        svg.text((at.x, end + 14.0), Anchor::Start, LABEL, &text);
    }
}
