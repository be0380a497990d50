//! Who sends the most? `flows` asks the daemon for the greatest flows once, or every second with `--watch`, and then prints a
//! line when a flow exceeds a rate and when it no longer does.

use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::output::Format;
use super::program::Program;
use super::watch::{end_on_interrupt, now, rfc3339};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// Between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// Bits a second above which a flow is told of.
const ABOVE: f64 = 10e6;
/// A flow is over when it is below this part of the rate: one that is near it does not come and go.
const OVER: f64 = 0.8;
/// More than the daemon keeps.
const ALL: &str = "10000";

/// What was asked for.
struct Wish {
    top: String,
    watch: bool,
    above: f64,
    is_json: bool,
}

impl Wish {
    fn parse(args: &[String], format: Format) -> Result<Self, Stop> {
        let mut wish = Self { top: "10".to_owned(), watch: false, above: ABOVE, is_json: format == Format::Json };
        for arg in args {
            match arg.split_once('=').unwrap_or((arg, "")) {
                ("--top", "") => {}
                ("--top", count) => wish.top = count.to_owned(),
                ("--watch", "") => wish.watch = true,
                ("--above", rate) => wish.above = parse_rate(rate)?,
                ("--format", "json") => wish.is_json = true,
                ("--format", "text" | "table") => wish.is_json = false,
                _ => {
                    let usage = "usage: flows [--top[=N]] [--watch [--above=RATE]] [--format=json]".to_owned();
                    return Err(Stop::new(format!("flows: unknown word \"{arg}\"")).hint(Some(usage)));
                }
            }
        }
        Ok(wish)
    }
}

/// `flows [--top[=N]] [--watch [--above=RATE]]`
pub(super) fn run(program: &Program, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
    let Wish { top, watch, above, is_json } = Wish::parse(&command.args, invocation.style.format)?;
    let mut client = program.connect(invocation)?;
    if !watch {
        let mut params = vec![top.as_str()];
        params.extend(is_json.then_some("--format=json"));
        let answer = client.call("flows/top", json!(params)).map_err(|error| program.explain(error))?;
        let text = answer.as_str().map_or_else(|| format!("{answer}\n"), str::to_owned);
        return written(print(&text));
    }
    end_on_interrupt();
    let mut known = BTreeMap::new();
    loop {
        let flows = client.call("flows/top", json!([ALL, "--format=json"])).map_err(|error| program.explain(error))?;
        let time = rfc3339(now());
        let lines = events(&mut known, flows.as_array().map_or(&[][..], Vec::as_slice), above);
        let text: String = lines.iter().map(|(what, flow)| event(&time, what, flow, is_json) + "\n").collect();
        if let Err(error) = print(&text) {
            return written(Err(error));
        }
        std::thread::sleep(PAUSE);
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A reader who has seen enough is no failure.
fn written(result: std::io::Result<()>) -> Result<u8, Stop> {
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Stop::fail(format!("cannot write: {error}")),
        _ => Ok(0),
    }
}

/// Reads `500k`, `10M`, `1.5G`, or bits a second.
fn parse_rate(text: &str) -> Result<f64, Stop> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M') => (&text[..text.len() - 1], 1e6),
        Some(b'G') => (&text[..text.len() - 1], 1e9),
        _ => (text, 1.0),
    };
    let rate = number.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0).map(|rate| rate * unit);
    rate.ok_or_else(|| {
        Stop::new(format!("--above={text} is no rate"))
            .hint(Some("give bits a second, as in 500k, 10M or 1.5G".to_owned()))
    })
}

/// What began and what is over, among the flows as they are now.
fn events(known: &mut BTreeMap<String, Value>, flows: &[Value], above: f64) -> Vec<(&'static str, Value)> {
    let key = |flow: &Value| ["port", "vlan", "from", "to", "protocol"].map(|name| flow[name].to_string()).join(" ");
    let mut lines = Vec::new();
    let mut now: BTreeMap<String, Value> = flows.iter().map(|flow| (key(flow), flow.clone())).collect();
    let rate = |flow: &Value| flow["bits_per_second"].as_f64().unwrap_or(0.0);
    known.retain(|key, before| {
        let flow = now.remove(key).unwrap_or_else(|| {
            let (mut gone, zero) = (before.clone(), json!(0));
            (gone["bits_per_second"], gone["packets_per_second"]) = (zero.clone(), zero);
            gone
        });
        let stays = rate(&flow) >= above * OVER;
        if !stays {
            lines.push(("end", flow));
        }
        stays
    });
    for (key, flow) in now.into_iter().filter(|(_, flow)| rate(flow) >= above) {
        lines.push(("begin", flow.clone()));
        known.insert(key, flow);
    }
    lines
}

fn event(time: &str, what: &str, flow: &Value, is_json: bool) -> String {
    if is_json {
        let mut all = serde_json::Map::from_iter([("time".to_owned(), json!(time)), ("event".to_owned(), json!(what))]);
        all.extend(flow.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        return Value::from(all).to_string();
    }
    let text = |name: &str| flow[name].as_str().map_or_else(|| flow[name].to_string(), str::to_owned);
    let rate = flow["bits_per_second"].as_f64().unwrap_or(0.0) / 1e6;
    format!(
        "{time} {what} {rate:.1} Mbit/s ±{:.0} % {} vlan {} {} > {} {}",
        flow["error_percent"].as_f64().unwrap_or(0.0),
        text("port"),
        text("vlan"),
        text("from"),
        text("to"),
        text("protocol")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_begins_once_and_ends_once() {
        let flow = |to: &str, rate: f64| json!({"port": "p0", "to": to, "bits_per_second": rate});
        let mut known = BTreeMap::new();
        let mut see = |flows: &[Value]| {
            let events = events(&mut known, flows, 10.0);
            let told = events.iter().map(|(what, flow)| format!("{what} {}", flow["to"].as_str().unwrap_or("?")));
            told.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(see(&[flow("a", 9.9), flow("b", 10.0)]), "begin b");
        assert_eq!(see(&[flow("a", 10.5), flow("b", 8.1)]), "begin a");
        assert_eq!(see(&[flow("a", 7.9), flow("b", 20.0)]), "end a");
        assert_eq!(see(&[flow("a", 9.0)]), "end b", "one that is no longer there is over");
        assert_eq!(see(&[]), "");
    }

    #[test]
    fn rates_have_units() {
        let rates = ["0", "500k", "10M", "1.5G"].map(|text| parse_rate(text).unwrap_or(f64::NAN));
        assert_eq!(rates, [0.0, 500e3, 10e6, 1.5e9]);
        assert!(["", "M", "fast", "-1", "inf"].into_iter().all(|text| parse_rate(text).is_err()));
    }
}
