//! What is being dropped? `drops` asks the daemon once, or again and again with the rates of its own interval.

use super::client::ClientError;
use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::output::{Format, json_text};
use super::program::Program;
use super::watch::end_on_interrupt;
use crate::drops::{self, Dropped};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks, unless told otherwise.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Moves to the upper left corner of a terminal and clears what is below.
const CLEAR: &str = "\x1b[H\x1b[J";

/// What the words say.
#[derive(Debug, PartialEq)]
struct Wanted {
    name: Option<String>,
    every: Option<Duration>,
    json: bool,
}

/// `drops [PORT|BRIDGE] [--watch] [-i SECONDS] [--json]`
pub(super) fn run(program: &Program, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
    let mut wanted = parse(&command.args)?;
    wanted.json |= invocation.style.format == Format::Json;
    let mut client = program.connect(invocation)?;
    let params: Vec<&str> = wanted.name.iter().map(String::as_str).chain(["--format=json"]).collect();
    let mut ask = || -> Result<Vec<Dropped>, Stop> {
        let answer = match wanted.every {
            None => client.call("drops", json!(params)),
            Some(_) => client.call_within("drops", json!(params), ANSWER_MAX),
        };
        let answer = answer.map_err(|error| program.explain(error))?;
        let not_ours =
            |error| program.explain(ClientError::Lost(format!("the daemon answers something else: {error}")));
        serde_json::from_value(answer).map_err(not_ours)
    };
    let pretty = invocation.style.pretty;
    let Some(every) = wanted.every else {
        show(&ask()?, wanted.json, pretty, false);
        return Ok(0);
    };
    end_on_interrupt();
    let (mut before, mut at) = (ask()?, Instant::now());
    loop {
        std::thread::sleep((at + every).saturating_duration_since(Instant::now()));
        let (mut now, asked) = (ask()?, Instant::now());
        let counts = now.clone();
        drops::rate_anew(&mut now, &before, (asked - at).as_secs_f64());
        (before, at) = (counts, asked);
        if !show(&now, wanted.json, pretty, true) {
            return Ok(0); // the reader has seen enough
        }
    }
}

fn parse(args: &[String]) -> Result<Wanted, Stop> {
    let mut wanted = Wanted { name: None, every: None, json: false };
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (option, value) = word.split_once('=').map_or((word, None), |(option, value)| (option, Some(value)));
        match (option, value) {
            ("--json", None) => wanted.json = true,
            ("-f" | "--format", _) if value.or_else(|| words.next()) == Some("json") => wanted.json = true,
            ("--watch", None) => wanted.every = wanted.every.or(Some(INTERVAL)),
            ("-i" | "--watch", _) => {
                let text = value.or_else(|| words.next()).unwrap_or_default();
                wanted.every = Some(seconds("drops", option, text)?);
            }
            _ if word.starts_with('-') => {
                return Err(Stop::new(format!("drops: unknown option \"{word}\""))
                    .hint(Some("there are --watch, -i SECONDS and --json")));
            }
            _ if wanted.name.is_some() => return Stop::fail("drops: give one port or bridge, or none for all"),
            _ => wanted.name = Some(word.to_owned()),
        }
    }
    Ok(wanted)
}

/// An interval.
pub(super) fn seconds(tool: &str, option: &str, text: &str) -> Result<Duration, Stop> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (0.1..=86400.0).contains(seconds));
    let problem = || Stop::new(format!("{tool}: {option} {text}: no number of seconds from 0.1 to 86400"));
    Ok(Duration::from_secs_f64(seconds.ok_or_else(problem)?))
}

/// Prints one answer; false if nobody reads it any more.
fn show(all: &[Dropped], json: bool, pretty: bool, again: bool) -> bool {
    let mut stdout = std::io::stdout().lock();
    let text = match json {
        true => json_text(&serde_json::to_value(all).unwrap_or(Value::Null), pretty) + "\n",
        false if !again => drops::text(all),
        false if stdout.is_terminal() => CLEAR.to_owned() + &drops::text(all),
        false => drops::text(all) + "\n",
    };
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Wanted, String> {
        let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        parse(&words).map_err(|stop| match stop {
            Stop::Fail { message, .. } => message,
            _ => "another stop".to_owned(),
        })
    }

    #[test]
    fn words_in_any_order() {
        let wanted = |name: Option<&str>, every_ms: Option<u64>, json| Wanted {
            name: name.map(str::to_owned),
            every: every_ms.map(Duration::from_millis),
            json,
        };
        assert_eq!(parsed(""), Ok(wanted(None, None, false)));
        assert_eq!(parsed("br0 --watch"), Ok(wanted(Some("br0"), Some(2000), false)));
        assert_eq!(parsed("-i 0.5 --watch --json p1"), Ok(wanted(Some("p1"), Some(500), true)));
        assert_eq!(parsed("--watch=3 -f json"), Ok(wanted(None, Some(3000), true)));
        assert_eq!(parsed("--format=json"), Ok(wanted(None, None, true)));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for line in ["-i", "-i 0", "-i soon", "-i nan", "--watch=", "--often", "a b", "-f table"] {
            assert!(parsed(line).is_err_and(|message| message.starts_with("drops: ")), "{line}");
        }
    }
}
