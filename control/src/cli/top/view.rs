//! What does `top` show, and what do its keys do? Nothing here touches a terminal or the daemon.
//!
//! Only ASCII, so that it looks the same over whatever connection.

use super::rates::{Port, Sample, Worker, short};
use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};
use shunt_switch::reason::Reason;
use std::fmt::Write;

/// Workers that get a line of their own.
const WORKERS_SHOWN: usize = 4;
/// Lines for flows.
const FLOWS_SHOWN: u16 = 5;
/// How far a page key goes.
const PAGE: usize = 10;

/// By what ports are sorted, most first; by name from A.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Drops,
    Receive,
    Transmit,
    Name,
}

impl Order {
    const ALL: [Order; 4] = [Order::Drops, Order::Receive, Order::Transmit, Order::Name];

    fn name(self) -> &'static str {
        match self {
            Order::Drops => "drops",
            Order::Receive => "receive",
            Order::Transmit => "transmit",
            Order::Name => "name",
        }
    }
}

/// All that is shown.
pub(super) struct View {
    samples: [Sample; 2],
    ports: Vec<Port>,
    workers: Vec<Worker>,
    order: Order,
    is_reversed: bool,
    /// The name of the port that the bar is on.
    selected: Option<String>,
    /// The port's reasons are shown, not the table.
    is_detailed: bool,
    /// What is wrong with the connection.
    problem: Option<String>,
}

impl View {
    /// With a first look, so that there are no rates yet.
    pub(super) fn new(first: Sample) -> Self {
        let mut view = Self {
            samples: [first.clone(), first],
            ports: Vec::new(),
            workers: Vec::new(),
            order: Order::Drops,
            is_reversed: false,
            selected: None,
            is_detailed: false,
            problem: None,
        };
        view.update();
        view
    }

    /// Another look.
    pub(super) fn take(&mut self, sample: Sample) {
        self.samples.swap(0, 1);
        self.samples[1] = sample;
        self.problem = None;
        self.update();
    }

    /// There was none.
    pub(super) fn complain(&mut self, problem: String) {
        self.problem = Some(problem);
    }

    fn update(&mut self) {
        let [before, now] = &self.samples;
        (self.ports, self.workers) = (now.ports_since(before), now.workers_since(before));
        self.sort();
    }

    fn sort(&mut self) {
        let by = |read: fn(&Port) -> f64| move |a: &Port, b: &Port| read(b).total_cmp(&read(a));
        // They come sorted by name, and stay so among equals.
        self.ports.sort_by(|a, b| a.name.cmp(&b.name));
        match self.order {
            Order::Drops => self.ports.sort_by(|a, b| by(|p| p.drops_ps)(a, b).then(b.dropped.cmp(&a.dropped))),
            Order::Receive => self.ports.sort_by(by(|p| p.rx_bps)),
            Order::Transmit => self.ports.sort_by(by(|p| p.tx_bps)),
            Order::Name => {}
        }
        if self.is_reversed {
            self.ports.reverse();
        }
    }

    /// Obeys a key; false to end.
    pub(super) fn key(&mut self, key: KeyEvent) -> bool {
        let has_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if has_control => return false,
            KeyCode::Char('q') => return false,
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-(PAGE as isize)),
            KeyCode::PageDown => self.step(PAGE as isize),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::Enter | KeyCode::Right => self.is_detailed = self.bar().is_some(),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.is_detailed = false,
            KeyCode::Char('s') => {
                let place = Order::ALL.iter().position(|order| *order == self.order).unwrap_or(0);
                self.order = Order::ALL[(place + 1) % Order::ALL.len()];
                self.sort();
            }
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.sort();
            }
            _ => {}
        }
        true
    }

    /// The bar's place in the table: at the port that it was put on, wherever that is now.
    fn bar(&self) -> Option<usize> {
        let place = self.ports.iter().position(|port| Some(&port.name) == self.selected.as_ref());
        place.or((!self.ports.is_empty()).then_some(0))
    }

    fn step(&mut self, by: isize) {
        let Some(place) = self.bar() else { return };
        let place = place.saturating_add_signed(by).min(self.ports.len() - 1);
        self.selected = Some(self.ports[place].name.clone());
    }

    fn summary(&self) -> String {
        let sum = |read: fn(&Port) -> f64| self.ports.iter().map(read).sum::<f64>();
        format!(
            "{} ports  in {} pps {}bit/s  out {} pps {}bit/s  dropped {}/s",
            self.ports.len(),
            short(sum(|port| port.rx_pps)),
            short(sum(|port| port.rx_bps)),
            short(sum(|port| port.tx_pps)),
            short(sum(|port| port.tx_bps)),
            short(sum(|port| port.drops_ps)),
        )
    }

    fn worker_lines(&self) -> Vec<String> {
        let line = |worker: &Worker| {
            format!(
                "core {:<3} busy {:5.1} %  {:>5} pps  batch {:5.1}  {:>5} cycles/packet  {} queues",
                worker.core,
                worker.busy_share * 100.0,
                short(worker.pps),
                worker.batch_mean,
                short(worker.cycles_per_packet),
                worker.queues,
            )
        };
        let mut lines: Vec<_> = self.workers.iter().take(WORKERS_SHOWN).map(line).collect();
        if let Some(more @ 1..) = self.workers.len().checked_sub(WORKERS_SHOWN) {
            lines.push(format!("and {more} more workers: shuntctl worker/show"));
        }
        lines
    }

    /// All of it as lines, for what is no terminal.
    pub(super) fn plain(&self) -> String {
        let mut text = self.summary() + "\n";
        self.worker_lines().into_iter().for_each(|line| text += &(line + "\n"));
        let _ = writeln!(text, "\n{}", plain_row(HEADINGS.map(str::to_owned)));
        for port in &self.ports {
            let _ = writeln!(text, "{}", plain_row(cells(port)));
        }
        if !self.samples[1].flows.is_empty() {
            let _ = writeln!(text, "\n{}", self.samples[1].flows.join("\n"));
        }
        text
    }

    /// Draws the screen.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let workers = self.worker_lines();
        let flows = &self.samples[1].flows;
        let has_flows = !flows.is_empty() && !self.is_detailed;
        let [head, load, body, below, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(workers.len() as u16 + 1),
            Constraint::Min(3),
            Constraint::Length(if has_flows { FLOWS_SHOWN } else { 0 }),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        match &self.problem {
            Some(problem) => frame.render_widget(Line::styled(problem.clone(), Modifier::REVERSED), head),
            None => frame.render_widget(Line::styled(self.summary(), Modifier::BOLD), head),
        }
        frame.render_widget(Paragraph::new(workers.join("\n")), load);
        match self.bar().map(|place| &self.ports[place]).filter(|_| self.is_detailed) {
            Some(port) => draw_reasons(frame, body, port),
            None => self.draw_ports(frame, body),
        }
        if has_flows {
            frame.render_widget(Paragraph::new(flows.join("\n")), below);
        }
        let help = match self.is_detailed {
            true => "q quit  Esc back to the ports".to_owned(),
            false => {
                let reversed = if self.is_reversed { ", reversed" } else { "" };
                let order = self.order.name();
                format!("q quit  up/down select  Enter why it drops  s sort ({order}{reversed})  r reverse")
            }
        };
        frame.render_widget(Line::styled(help, Modifier::DIM), keys);
    }

    fn draw_ports(&self, frame: &mut Frame<'_>, area: Rect) {
        let right = |text: String| Cell::from(Line::from(text).right_aligned());
        let row = |cells: [String; COLUMNS]| {
            Row::new(cells.into_iter().enumerate().map(|(n, text)| if n < 2 { Cell::from(text) } else { right(text) }))
        };
        let widths = WIDTHS.map(|width| Constraint::Length(width as u16));
        let table = Table::new(self.ports.iter().map(|port| row(cells(port))), widths)
            .header(row(HEADINGS.map(str::to_owned)).style(Modifier::UNDERLINED))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::new().with_selected(self.bar());
        frame.render_stateful_widget(table, area, &mut state);
    }
}

const COLUMNS: usize = 8;
const HEADINGS: [&str; COLUMNS] = ["PORT", "BRIDGE", "RX pps", "bit/s", "TX pps", "bit/s", "DROP/s", "DROPPED"];
/// Together with a space between them at most 80.
const WIDTHS: [usize; COLUMNS] = [16, 16, 7, 7, 7, 7, 6, 7];

fn cells(port: &Port) -> [String; COLUMNS] {
    let rates = [port.rx_pps, port.rx_bps, port.tx_pps, port.tx_bps, port.drops_ps, port.dropped as f64].map(short);
    let [rx_pps, rx_bps, tx_pps, tx_bps, drops_ps, dropped] = rates;
    [port.name.clone(), port.bridge.clone(), rx_pps, rx_bps, tx_pps, tx_bps, drops_ps, dropped]
}

fn plain_row(cells: [String; COLUMNS]) -> String {
    let mut line = String::new();
    for (n, (text, width)) in cells.into_iter().zip(WIDTHS).enumerate() {
        let _ = if n < 2 { write!(line, "{text:<width$} ") } else { write!(line, "{text:>width$} ") };
    }
    line.trim_end().to_owned()
}

/// One port: why it drops, and what to do.
fn draw_reasons(frame: &mut Frame<'_>, area: Rect, port: &Port) {
    let mut lines = vec![
        Line::styled(format!("{} on {}", port.name, port.bridge), Modifier::BOLD),
        Line::from(format!(
            "in {} pps {}bit/s  out {} pps {}bit/s",
            short(port.rx_pps),
            short(port.rx_bps),
            short(port.tx_pps),
            short(port.tx_bps)
        )),
        Line::default(),
    ];
    if port.reasons.is_empty() {
        lines.push("It has dropped nothing.".into());
    }
    for (name, packets, rate) in &port.reasons {
        lines.push(Line::styled(format!("{name}: {packets} packets, {}/s", short(*rate)), Modifier::BOLD));
        if let Some(reason) = Reason::ALL.iter().find(|reason| reason.name() == name) {
            lines.push(format!("  {}", reason.text()).into());
            lines.push(format!("  Likely: {}", reason.likely_cause()).into());
            lines.push(format!("  To do:  {}", reason.remedy()).into());
        }
    }
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), area);
}

#[cfg(test)]
mod tests;
