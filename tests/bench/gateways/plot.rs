//! Bars as SVG.

use std::fmt::Write as _;

use super::figures::Middle;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 130.0;
const ROW: f64 = 30.0;
const TOP: f64 = 48.0;

/// One bar per gateway, the first one ours; with a line from the least to the most of its runs. When one is
/// far beyond another, lengths are logarithms.
pub(crate) fn bars(title: &str, unit: &str, bars: &[(&str, Middle)]) -> String {
    let most = bars.iter().map(|(_, bar)| bar.most).fold(0.0, f64::max);
    let least = bars
        .iter()
        .map(|(_, bar)| bar.least)
        .fold(f64::MAX, f64::min)
        .max(1e-3);
    let logarithmic = most / least > 30.0;
    let room = WIDTH - LEFT - RIGHT;
    let length = |value: f64| {
        if logarithmic {
            let from = least.log10().floor();
            room * ((value.max(1e-3).log10() - from) / (most.log10() - from)).max(0.0)
        } else {
            room * value / most
        }
    };
    let scale = if logarithmic { ", logarithmic" } else { "" };
    let height = TOP + ROW * bars.len() as f64 + 12.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"14\" role=\"img\" aria-label=\"{title}\">\n\
        <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text x=\"12\" y=\"28\" font-size=\"16\" font-weight=\"bold\" fill=\"#1f2328\">{title} ({unit}{scale})</text>\n"
    );
    for (at, (name, bar)) in bars.iter().enumerate() {
        let y = TOP + ROW * at as f64;
        let middle = y + ROW / 2.0;
        let colour = if at == 0 { "#0b6bcb" } else { "#9aa4b2" };
        let (from, to) = (LEFT + length(bar.least), LEFT + length(bar.most));
        let _infallible = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#1f2328\">{name}</text>\n\
            <rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{:.1}\" height=\"18\" fill=\"{colour}\"/>\n\
            <line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.0}\" y2=\"{middle:.0}\" stroke=\"#1f2328\" stroke-width=\"2\"/>\n\
            <text x=\"{:.0}\" y=\"{:.0}\" fill=\"#1f2328\">{}</text>\n",
            LEFT - 8.0,
            middle + 5.0,
            y + 6.0,
            length(bar.median).max(1.0),
            to + 8.0,
            middle + 5.0,
            label(bar.median),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn label(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}
