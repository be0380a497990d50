//! What is the switch doing right now? `top` shows ports, rates, drops and workers until it is told to end.
//!
//! What is shown, and what keys do, is in [`view`]; what it is reckoned from in [`rates`]. Here is the edge: daemon and terminal.

mod rates;
mod view;

use super::client::{Client, ClientError};
use super::commands::Stop;
use super::grammar::{Command, Invocation};
use super::print;
use super::program::Program;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use rates::Sample;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use view::View;

/// Between two looks, unless told otherwise.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the daemon may take to answer while the screen waits.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Flows that are asked for: with the line above them they fill their place.
const FLOWS: &str = "4";

/// `top [-i SECONDS] [-b]`
pub(super) fn run(program: &Program, invocation: &Invocation, command: &Command) -> Result<u8, Stop> {
    let (interval, is_plain) = parse(&command.args)?;
    let mut source = Source { program, invocation, client: None, start: Instant::now() };
    let mut view = View::new(source.look()?);
    if is_plain || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        std::thread::sleep(interval);
        view.take(source.look()?);
        print(&view.plain());
        return Ok(0);
    }
    end_on_termination();
    // It also sees to it that a panic leaves the terminal as it was.
    let terminal = ratatui::try_init();
    let ended = terminal.and_then(|mut terminal| show(&mut terminal, &mut source, &mut view, interval));
    ratatui::restore();
    ended.map(|()| 0).or_else(|error| Stop::fail(format!("top: the terminal does not work: {error}")))
}

/// Draws and asks by turns until a key ends it.
fn show(
    terminal: &mut DefaultTerminal,
    source: &mut Source<'_>,
    view: &mut View,
    interval: Duration,
) -> std::io::Result<()> {
    let mut due = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(due.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release && !view.key(key) => return Ok(()),
                _ => {}
            }
        }
        if Instant::now() >= due {
            match source.look() {
                Ok(sample) => view.take(sample),
                Err(Stop::Fail { message, .. }) => view.complain(message),
                Err(_) => {}
            }
            due = Instant::now() + interval;
        }
    }
}

/// Whoever ends us otherwise than by a key gets the terminal back, too.
fn end_on_termination() {
    std::thread::spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let (Ok(mut terminate), Ok(mut hangup)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
            else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            ratatui::restore();
            std::process::exit(1);
        });
    });
}

fn parse(args: &[String]) -> Result<(Duration, bool), Stop> {
    let (mut interval, mut is_plain) = (INTERVAL, false);
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "-b" => is_plain = true,
            "-i" => interval = super::drops::seconds("top", word, words.next().unwrap_or_default())?,
            _ => {
                let remedy = Some("usage: top [-i SECONDS] [-b], -b for one look as plain text");
                return Err(Stop::new(format!("top: unknown argument \"{word}\"")).hint(remedy));
            }
        }
    }
    Ok((interval, is_plain))
}

/// The daemon, also after it was started anew.
struct Source<'a> {
    program: &'a Program,
    invocation: &'a Invocation,
    client: Option<Client>,
    start: Instant,
}

impl Source<'_> {
    fn look(&mut self) -> Result<Sample, Stop> {
        let (program, invocation) = (self.program, self.invocation);
        let mut client = match self.client.take() {
            Some(client) => client,
            None => program.connect(invocation)?,
        };
        let sample = self.ask(&mut client).map_err(|error| program.explain(error))?;
        // One that failed is not asked again: an answer may be under way.
        self.client = Some(client);
        Ok(sample)
    }

    fn ask(&self, client: &mut Client) -> Result<Sample, ClientError> {
        let mut ask = |method: &str| client.call_within(method, json!(["--format=json"]), ANSWER_MAX);
        let (ports, workers, bridges) = (ask("port/stats")?, ask("worker/show")?, ask("dpif/show")?);
        let sample = Sample::new(self.start.elapsed().as_secs_f64(), ports, workers, &bridges);
        let mut sample =
            sample.map_err(|error| ClientError::Lost(format!("the daemon answers something else: {error}")))?;
        match client.call_within("flows/top", json!([FLOWS]), ANSWER_MAX) {
            Ok(Value::String(text)) => sample.flows = text.lines().map(str::to_owned).collect(),
            // It does not sample any.
            Ok(_) | Err(ClientError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        let parsed = |line: &str| {
            let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
            parse(&words).ok()
        };
        assert_eq!(parsed(""), Some((INTERVAL, false)));
        assert_eq!(parsed("-b -i 0.2"), Some((Duration::from_millis(200), true)));
        for line in ["-i", "-i x", "br0", "-n1"] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }
}
