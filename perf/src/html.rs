//! What do the results look like: one page with pictures, readable without a network?

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::arguments::Report;
use crate::statistics::Summary;
use crate::svg::{self, Bar, Line, Scale, escape};

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
    svg{font:12px sans-serif;display:block;max-width:100%;height:auto}table{border-collapse:collapse;margin:1em 0}\
    td,th{border-bottom:1px solid #ddd;padding:.2em .8em .2em 0;text-align:left}.no{color:#b00}.yes{color:#070}";

/// Figures with a picture of their own, and how they are called, in the order of the page.
const DRAWN: [(&str, &str); 9] = [
    ("mpps_received", "million frames a second received"),
    ("gbps_received", "Gbit/s received"),
    ("rtt_p99_us", "round-trip time, 99 %, µs"),
    ("lost_per_change", "frames lost a change"),
    ("idle_cpu_percent", "idle, % of one core"),
    ("resident_mib", "memory, MiB"),
    ("add_port_ms", "adding a port, ms"),
    ("user_kib_per_port", "memory, KiB a port"),
    ("tcp_rtt_p50_us", "TCP request and response, median, µs"),
];

/// The instructions that our own code takes for a packet, as the gate of scripts/test knows them.
const ROAD: &str = include_str!("../benches/road.txt");
/// The same of each step of the road.
const STAGES: &str = include_str!("../benches/stages.txt");

/// `shunt-perf report`.
pub fn run(settings: &Report) -> Result<()> {
    let mut values = Vec::new();
    for path in &settings.results {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value = serde_json::from_str(line);
            values.push(value.with_context(|| format!("{}, line {}: no JSON", path.display(), number + 1))?);
        }
    }
    std::fs::write(&settings.output, report(&values))
        .with_context(|| format!("cannot write {}", settings.output.display()))
}

/// The page for records, and rows of `shunt-perf floors` among them.
pub fn report(values: &[Value]) -> String {
    let records: Vec<&Value> = values.iter().filter(|value| value["measure"].is_string()).collect();
    let floors: Vec<&Value> = values.iter().filter(|value| value["floor"].is_string()).collect();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>shunt-perf</title><style>{STYLE}</style>\n<h1>shunt-perf</h1>\n"
    );
    machine(&mut page, &records);
    if !floors.is_empty() {
        floors_table(&mut page, &floors);
    }
    by_size(&mut page, &records);
    percentiles(&mut page, &records);
    for (figure, title) in DRAWN {
        pictures_of(&mut page, &records, figure, title);
    }
    own_code(&mut page, "shunt's own code: instructions a packet", ROAD);
    own_code(&mut page, "shunt's own code: instructions a packet by step, 1000 MACs, burst 32", STAGES);
    settings(&mut page, &records);
    page + "</html>\n"
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn machine(page: &mut String, records: &[&Value]) {
    let Some(first) = records.first() else { return };
    let rounds = records.iter().filter_map(|record| record["round"].as_u64()).max().unwrap_or(0);
    let disturbed =
        |record: &&&Value| record["others"].as_f64().is_some_and(|others| others > crate::record::DISTURBED_CORES);
    let _ = writeln!(
        page,
        "<p>Linux {}, {}, {rounds} rounds, {} measurements, of which other programs disturbed {}. Bars are medians, \
         whiskers go from the least to the most.</p>",
        escape(&text_of(&first["rig"]["kernel"])),
        escape(&text_of(&first["rig"]["processor"])),
        records.len(),
        records.iter().filter(disturbed).count(),
    );
}

fn floors_table(page: &mut String, floors: &[&Value]) {
    *page += "<h2>Floors</h2>\n<table><tr><th>what<th>floor<th>median [least … most]<th>holds?\n";
    for floor in floors {
        let measured = &floor["measured"];
        let number = |key: &str| measured[key].as_f64().map_or_else(|| "–".to_owned(), crate::report::short);
        let holds = text_of(&floor["holds"]);
        let class = holds.split([',', ' ']).next().unwrap_or_default().to_owned();
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{} [{} … {}]<td class=\"{}\">{}",
            escape(&text_of(&floor["what"])),
            escape(&text_of(&floor["bound"])),
            number("median"),
            number("min"),
            number("max"),
            escape(&class),
            escape(&holds)
        );
    }
    *page += "</table>\n";
}

/// The device, or its revision.
fn name_of(record: &Value) -> String {
    text_of(if record["variant"].is_string() { &record["variant"] } else { &record["dut"] })
}

/// What is compared with each other: measure and load in words.
fn part_of(record: &Value) -> String {
    let mut text = format!("{}, {} octets", text_of(&record["measure"]), text_of(&record["size"]));
    for (key, usual) in [("flows", 1), ("macs", 1), ("ports", 2), ("mtu", 1500)] {
        if let Some(number) = record[key].as_u64().filter(|number| *number != usual) {
            let _ = write!(text, ", {key} {number}");
        }
    }
    if let Some(vlan) = record["vlan"].as_str().filter(|vlan| *vlan != "none") {
        let _ = write!(text, ", tag {vlan}");
    }
    text
}

/// The values of a figure by what `key` gives, keys in the order of their first record.
fn grouped(records: &[&Value], figure: &str, key: impl Fn(&Value) -> String) -> Vec<(String, Vec<f64>)> {
    let mut groups: Vec<(String, Vec<f64>)> = Vec::new();
    for record in records {
        let Some(value) = record[figure].as_f64() else { continue };
        let name = key(record);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => groups.push((name, vec![value])),
        }
    }
    groups
}

fn parts<'a>(records: &[&'a Value], figure: &str) -> Vec<(String, Vec<&'a Value>)> {
    let mut parts: Vec<(String, Vec<&Value>)> = Vec::new();
    for record in records.iter().filter(|record| record[figure].is_number()) {
        let name = part_of(record);
        match parts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, of_part)) => of_part.push(record),
            None => parts.push((name, vec![record])),
        }
    }
    parts
}

fn pictures_of(page: &mut String, records: &[&Value], figure: &str, title: &str) {
    let parts = parts(records, figure);
    if parts.is_empty() {
        return;
    }
    let _ = writeln!(page, "<h2>{}</h2>", escape(title));
    for (part, records) in parts {
        let groups = grouped(&records, figure, name_of);
        let bars: Vec<Bar> = groups
            .into_iter()
            .filter_map(|(name, values)| {
                let Summary { median, min, max } = Summary::of(&values)?;
                Some(Bar { name, median, min, max })
            })
            .collect();
        let _ = writeln!(page, "<h3>{}</h3>\n{}", escape(&part), svg::bars(&bars));
    }
}

/// Throughput over the sizes of frames, where there are several.
fn by_size(page: &mut String, records: &[&Value]) {
    for measure in ["overload", "no-loss"] {
        let of_measure: Vec<&Value> = records.iter().copied().filter(|record| record["measure"] == measure).collect();
        let mut sizes: Vec<String> = Vec::new();
        for size in of_measure.iter().map(|record| text_of(&record["size"])) {
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
        // IMIX is no number and stands behind all that are.
        sizes.sort_by_key(|size| size.parse::<u32>().unwrap_or(u32::MAX));
        if sizes.len() < 2 {
            continue;
        }
        let ticks: Vec<(f64, String)> = (0..).map(f64::from).zip(sizes.clone()).collect();
        for (figure, unit) in [("mpps_received", "Mpps"), ("gbps_received", "Gbit/s")] {
            let drawn: Vec<Line> = grouped_points(&of_measure, figure, &sizes);
            let _ = writeln!(
                page,
                "<h2>{unit} by size of frames in octets, {measure}</h2>\n{}",
                svg::lines(&drawn, &ticks, Scale::Linear, unit)
            );
        }
    }
}

fn grouped_points(records: &[&Value], figure: &str, sizes: &[String]) -> Vec<Line> {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (place, size) in (0..).map(f64::from).zip(sizes) {
        let of_size: Vec<&Value> = records.iter().copied().filter(|record| text_of(&record["size"]) == *size).collect();
        for (name, values) in grouped(&of_size, figure, name_of) {
            if let Some(summary) = Summary::of(&values) {
                lines.entry(name).or_default().push((place, summary.median));
            }
        }
    }
    lines.into_iter().map(|(name, points)| Line { name, points }).collect()
}

/// Round-trip times by percentile: the median over the rounds of each of them.
fn percentiles(page: &mut String, records: &[&Value]) {
    for (part, records) in parts(records, "rtt_p50_us") {
        let mut curves: BTreeMap<String, Vec<Vec<(f64, f64)>>> = BTreeMap::new();
        for record in records {
            let curve: Vec<(f64, f64)> = serde_json::from_value(record["curve"].clone()).unwrap_or_default();
            if !curve.is_empty() {
                curves.entry(name_of(record)).or_default().push(curve);
            }
        }
        let Some(first) = curves.values().next().and_then(|curves| curves.first()) else { continue };
        let ticks: Vec<(f64, String)> =
            (0..).map(f64::from).zip(first.iter().map(|(percent, _)| percent.to_string())).collect();
        let lines: Vec<Line> =
            curves.iter().map(|(name, curves)| Line { name: name.clone(), points: median_curve(curves) }).collect();
        let _ = writeln!(
            page,
            "<h2>Round-trip time by percentile, {}</h2>\n{}",
            escape(&part),
            svg::lines(&lines, &ticks, Scale::Logarithmic, "µs")
        );
    }
}

fn median_curve(curves: &[Vec<(f64, f64)>]) -> Vec<(f64, f64)> {
    let points = curves.iter().map(Vec::len).min().unwrap_or(0);
    let median = |at: usize| Summary::of(&curves.iter().map(|curve| curve[at].1).collect::<Vec<_>>());
    (0..points).filter_map(|at| Some((at as f64, median(at)?.median))).collect()
}

/// What our own code costs, by what it has to do.
fn own_code(page: &mut String, title: &str, table: &str) {
    let lines = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once('\t'));
    let bars: Vec<Bar> = lines
        .filter_map(|(name, count)| {
            let median = count.trim().parse().ok()?;
            Some(Bar { name: name.trim().to_owned(), median, min: median, max: median })
        })
        .collect();
    if !bars.is_empty() {
        let _ = writeln!(page, "<h2>{title}</h2>\n{}", svg::bars(&bars));
    }
}

/// How each device was set up, as it said itself.
fn settings(page: &mut String, records: &[&Value]) {
    *page += "<h2>Devices under test</h2>\n";
    let mut known = Vec::new();
    for record in records {
        let name = name_of(record);
        if known.contains(&name) {
            continue;
        }
        let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
        let _ = writeln!(
            page,
            "<details><summary>{}</summary><pre>{}\n{}</pre></details>",
            escape(&name),
            escape(&pretty(&record["switch"])),
            escape(&pretty(&record["rig"]))
        );
        known.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dut::Kind;
    use crate::load::Size;
    use crate::record::tests::record;

    #[test]
    fn a_page_has_a_picture_for_each_figure_and_needs_no_network() {
        let mut values = Vec::new();
        for (dut, size) in [(Kind::Shunt, 64), (Kind::Shunt, 1514), (Kind::Bridge, 64), (Kind::Bridge, 1514)] {
            let mut overload = record(dut, "overload", 1, &[("mpps_received", 2.0), ("gbps_received", 1.0)]);
            overload.load.size = Size::Octets(size);
            let mut latency = record(dut, "latency-50", 1, &[("rtt_p50_us", 5.0), ("rtt_p99_us", 9.0)]);
            latency.curve = vec![(50.0, 5.0), (99.0, 9.0)];
            values.extend([overload, latency].map(|record| serde_json::to_value(record).expect("plain data")));
        }
        values.push(serde_json::json!({"floor": "x", "what": "a < b", "bound": "≥ 1", "holds": "yes",
            "measured": {"median": 1.5, "min": 1.0, "max": 2.0}}));
        let page = report(&values);
        for wanted in
            ["Mpps by size", "Round-trip time by percentile, latency-50", "a &lt; b", "1.50 [1.00 … 2.00]", "ovs"]
        {
            let is_there = page.contains(wanted);
            assert_eq!(is_there, wanted != "ovs", "{wanted}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        for outside in ["<script", "<link", "src=", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
