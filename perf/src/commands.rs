//! Which cells does each command measure, and which figures does its table show?

use anyhow::{Result, ensure};

use crate::arguments::{Changes, Common, Exchange, Latency, Tcp, Throughput};
use crate::dut::Kind;
use crate::load::{Load, Size, Vlan};
use crate::measure::Measure;
use crate::report::{self, Column};
use crate::session::{Cell, Session, Work};
use crate::stream::Stream;

/// `shunt-perf throughput`.
pub fn throughput(settings: &Throughput) -> Result<()> {
    let mut measures = vec![settings.rate.map_or(Measure::Overload, Measure::Paced)];
    if settings.no_loss {
        measures.push(Measure::NoLoss);
    }
    let columns = [
        Column { figure: "mpps_received", title: "Mpps received", digits: 3 },
        Column { figure: "mpps_offered", title: "Mpps offered", digits: 3 },
        Column { figure: "loss", title: "loss", digits: 4 },
    ];
    frames(&settings.common, &settings.size, settings.load, &measures, &columns)
}

/// `shunt-perf latency`.
pub fn latency(settings: &Latency) -> Result<()> {
    let of_share = |share: &u32| if *share == 0 { Measure::WakeUp } else { Measure::Latency(*share) };
    let measures = match settings.rate {
        Some(rate) => vec![Measure::PacedLatency(rate)],
        None => settings.share.iter().map(of_share).collect(),
    };
    let columns = [
        Column { figure: "rtt_p50_us", title: "median RTT, µs", digits: 1 },
        Column { figure: "rtt_p99_us", title: "99 %", digits: 1 },
        Column { figure: "rtt_p999_us", title: "99.9 %", digits: 1 },
        Column { figure: "mpps_offered", title: "Mpps offered", digits: 3 },
        Column { figure: "loss", title: "loss", digits: 4 },
    ];
    frames(&settings.common, &settings.size, settings.load, &measures, &columns)
}

/// `shunt-perf idle`.
pub fn idle(common: &Common) -> Result<()> {
    let columns = [
        Column { figure: "idle_cpu_percent", title: "% of a core", digits: 2 },
        Column { figure: "resident_mib", title: "MiB", digits: 1 },
    ];
    // What is part of the kernel has no processor time of its own to tell.
    let common =
        Common { dut: common.dut.iter().copied().filter(|kind| kind.is_program()).collect(), ..common.clone() };
    frames(&common, &[Size::Octets(64)], Load::default(), &[Measure::Idle], &columns)
}

/// `shunt-perf changes`.
pub fn changes(settings: &Changes) -> Result<()> {
    let columns = [
        Column { figure: "lost_per_change", title: "frames lost a change", digits: 1 },
        Column { figure: "loss", title: "loss", digits: 6 },
        Column { figure: "loss_quiet", title: "without changes", digits: 6 },
        Column { figure: "overload_mpps_changing", title: "Mpps flat out", digits: 3 },
        Column { figure: "change_ms", title: "ms a change", digits: 1 },
    ];
    let load = Load { ports: 3, ..Load::default() };
    frames(&settings.common, &[load.size], load, &[Measure::Changes(settings.rate)], &columns)
}

/// `shunt-perf tcp`.
pub fn tcp(settings: &Tcp) -> Result<()> {
    let mut session = Session::start(&settings.common)?;
    let of_exchange = |exchange: Exchange| match exchange {
        Exchange::RequestResponse => vec![Stream { exchange, streams: 1 }],
        Exchange::Tcp | Exchange::Udp => {
            settings.streams.iter().map(|streams| Stream { exchange, streams: *streams }).collect()
        }
    };
    let mut streams: Vec<Stream> = settings.exchange.iter().copied().flat_map(of_exchange).collect();
    streams.retain(|stream| match stream.missing() {
        Some(program) => {
            eprintln!("shunt-perf: {} skipped: {program} is not installed; run scripts/setup", stream.name());
            false
        }
        None => true,
    });
    let mut wanted = settings.common.dut.clone();
    // It passes on checksums that nobody has completed.
    wanted.retain(|kind| *kind != Kind::XdpRedirect);
    let duts = session.installed(&wanted)?;
    let mut cells = Vec::new();
    for mtu in &settings.mtu {
        cells.extend(duts.iter().map(|dut| Cell {
            dut: *dut,
            variant: None,
            work: Work::Streams(*mtu, streams.clone()),
        }));
    }
    let records = session.run(&cells, |_| Ok(()))?;
    let columns = [
        Column { figure: "gbps_received", title: "Gbit/s", digits: 2 },
        Column { figure: "tcp_rtt_p50_us", title: "TCP median RTT, µs", digits: 1 },
        Column { figure: "tcp_rtt_p99_us", title: "99 %", digits: 1 },
        Column { figure: "udp_rtt_p50_us", title: "UDP median RTT, µs", digits: 1 },
    ];
    report::print(&records, &columns, settings.common.base, settings.common.json);
    session.finish()
}

fn frames(common: &Common, sizes: &[Size], load: Load, measures: &[Measure], columns: &[Column]) -> Result<()> {
    let mut session = Session::start(common)?;
    let mut wanted = common.dut.clone();
    if load.vlan != Vlan::None || load.ports > 2 {
        wanted.retain(|kind| kind.is_switch());
    }
    let duts = session.installed(&wanted)?;
    if let Some(base) = common.base {
        ensure!(duts.contains(&base), "--base={} is not among the devices measured", base.name());
    }
    let mut cells = Vec::new();
    for size in sizes {
        let load = Load { size: *size, ..load };
        cells.extend(duts.iter().map(|dut| Cell {
            dut: *dut,
            variant: None,
            work: Work::Frames(load, measures.to_vec()),
        }));
    }
    let records = session.run(&cells, |_| Ok(()))?;
    report::print(&records, columns, common.base, common.json);
    session.finish()
}
