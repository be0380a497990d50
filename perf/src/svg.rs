//! How does a picture of a few numbers look, drawn without any library and readable without a network?

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 110.0;
const BAR: f64 = 26.0;
const HEIGHT: f64 = 320.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;
/// Colours that people with any kind of sight can tell apart (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

/// The same device has the same colour in all pictures.
fn colour(name: &str, number: usize) -> &'static str {
    let known = ["shunt", "ovs-afxdp", "bridge", "afxdp-forwarder", "xdp-redirect", "ovs-packet"];
    COLOURS[known.iter().position(|known| *known == name).unwrap_or(number % COLOURS.len())]
}

/// One bar: its name, and least, median and most.
pub struct Bar {
    /// What stands before it.
    pub name: String,
    /// The bar's length.
    pub median: f64,
    /// Where the whisker begins.
    pub min: f64,
    /// Where it ends.
    pub max: f64,
}

/// One line: its name and points.
pub struct Line {
    /// What stands in the legend.
    pub name: String,
    /// Along and up.
    pub points: Vec<(f64, f64)>,
}

/// How a direction is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// Text that may stand inside of tags.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Lying bars with whiskers from least to most.
pub fn bars(bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.max).fold(f64::MIN_POSITIVE, f64::max);
    let height = BAR * bars.len() as f64 + 8.0;
    let mut svg = open(height);
    let at = |value: f64| LEFT + value.max(0.0) / most * (WIDTH - LEFT - RIGHT);
    for (number, bar) in bars.iter().enumerate() {
        let y = 4.0 + BAR * number as f64;
        let (middle, x) = (y + BAR / 2.0, at(bar.median));
        let _ = write!(
            svg,
            r##"<text x="{:.0}" y="{:.1}" text-anchor="end">{}</text><rect x="{LEFT}" y="{:.1}" width="{:.1}" height="{:.1}" fill="{}"/><path d="M{:.1} {middle:.1}H{:.1}M{:.1} {:.1}v8M{:.1} {:.1}v8" stroke="#222"/><text x="{:.1}" y="{:.1}">{}</text>"##,
            LEFT - 6.0,
            middle + 4.0,
            escape(&bar.name),
            y + 4.0,
            x - LEFT,
            BAR - 8.0,
            colour(&bar.name, number),
            at(bar.min),
            at(bar.max),
            at(bar.min),
            middle - 4.0,
            at(bar.max),
            middle - 4.0,
            at(bar.max) + 8.0,
            middle + 4.0,
            crate::report::short(bar.median),
        );
    }
    svg + "</svg>\n"
}

/// Lines over named places; `ticks` are the places along and what stands below them.
pub fn lines(lines: &[Line], ticks: &[(f64, String)], scale: Scale, unit: &str) -> String {
    let mut svg = open(HEIGHT);
    let values = lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value));
    let values: Vec<f64> = values.filter(|value| scale == Scale::Linear || *value > 0.0).collect();
    let most = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let (low, high) = match scale {
        Scale::Linear => (0.0, most),
        Scale::Logarithmic => (values.iter().copied().fold(most, f64::min).log10().floor(), most.log10().ceil()),
    };
    let span = if high > low { high - low } else { 1.0 };
    let along = ticks.iter().map(|(place, _)| *place).fold(f64::MIN_POSITIVE, f64::max);
    let x = |place: f64| 60.0 + place / along * (WIDTH - 60.0 - LEFT);
    let y = |value: f64| {
        let value = if scale == Scale::Logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        HEIGHT - BOTTOM - (value - low) / span * (HEIGHT - BOTTOM - TOP)
    };
    let steps: Vec<f64> = match scale {
        Scale::Linear => (0..=4).map(|step| high * f64::from(step) / 4.0).collect(),
        Scale::Logarithmic => (low as i32..=high as i32).map(|power| 10_f64.powi(power)).collect(),
    };
    for step in steps {
        let (level, end) = (y(step), WIDTH - LEFT);
        let _ = write!(
            svg,
            r##"<path d="M60 {level:.1}H{end}" stroke="#ddd"/><text x="54" y="{:.1}" text-anchor="end">{}</text>"##,
            level + 4.0,
            crate::report::short(step)
        );
    }
    let _ = write!(svg, r#"<text x="4" y="12">{}</text>"#, escape(unit));
    for (place, name) in ticks {
        let (x, y) = (x(*place), HEIGHT - BOTTOM + 18.0);
        let _ = write!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#, escape(name));
    }
    for (number, line) in lines.iter().enumerate() {
        let colour = colour(&line.name, number);
        let points: Vec<String> =
            line.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let (left, top) = (WIDTH - LEFT + 10.0, TOP + 18.0 * number as f64 + 8.0);
        let _ = write!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/><text x="{left:.0}" y="{top:.0}" fill="{colour}">{}</text>"##,
            points.join(" "),
            escape(&line.name)
        );
        for point in &points {
            let (x, y) = point.split_once(',').unwrap_or_default();
            let _ = write!(svg, r#"<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>"#);
        }
    }
    svg + "</svg>\n"
}

fn open(height: f64) -> String {
    format!(r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" role="img">"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_medians_and_names_are_escaped() {
        let bar = |name: &str, median| Bar { name: name.to_owned(), median, min: median, max: median };
        let svg = bars(&[bar("a<b", 4.0), bar("c", 2.0)]);
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"), "{svg}");
        assert!(svg.contains(r#"width="480.0""#) && svg.contains(r#"width="240.0""#), "{svg}");
    }

    #[test]
    fn every_point_is_inside_the_picture() {
        let line = Line { name: "x".to_owned(), points: vec![(0.0, 0.5), (1.0, 40.0), (2.0, 7000.0)] };
        let ticks: Vec<_> = (0..3).map(|place| (f64::from(place), place.to_string())).collect();
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = lines(std::slice::from_ref(&line), &ticks, scale, "µs");
            let numbers = |attribute: &str| -> Vec<f64> {
                let parts = svg.split(attribute).skip(1);
                parts.filter_map(|part| part.split('"').next()?.parse().ok()).collect()
            };
            let (x, y) = (numbers(r#"cx=""#), numbers(r#"cy=""#));
            assert_eq!(x.len(), 3);
            assert!(
                x.iter().all(|x| (0.0..=WIDTH).contains(x)) && y.iter().all(|y| (0.0..=HEIGHT).contains(y)),
                "{svg}"
            );
            assert!(y[0] > y[1] && y[1] > y[2], "{svg}");
        }
    }
}
