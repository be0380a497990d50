//! What does the daemon log, and how is that changed while it runs? (`vlog/list`, `vlog/set`)
//!
//! Everything goes to stderr, which OVS calls the destination `console`; what keeps or forwards it is the business of
//! whoever started the daemon. Levels have OVS's names and are set by module.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Mutex;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// The modules that log, as in `shunt_control::NAME`; the last one is the daemon's command line.
pub const MODULES: &[&str] = &[
    "capture",
    "daemon",
    "dataplane",
    "journal",
    "kernel",
    "metrics",
    "mirrors",
    "reconcile",
    "remembered",
    "routing",
    "rpc",
    "sflow",
    "shuntd",
    "state",
    "store",
];

/// OVS's names of the levels, from least to most.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("OFF", LevelFilter::OFF),
    // There is nothing here that OVS would call an emergency.
    ("EMER", LevelFilter::OFF),
    ("ERR", LevelFilter::ERROR),
    ("WARN", LevelFilter::WARN),
    ("INFO", LevelFilter::INFO),
    ("DBG", LevelFilter::DEBUG),
];
const DESTINATIONS: [&str; 3] = ["console", "syslog", "file"];

/// The levels in force.
pub struct Logging {
    levels: Mutex<BTreeMap<&'static str, usize>>,
    filter: reload::Handle<Targets, Registry>,
}

impl Logging {
    /// Begins to log. `verbosity` 0 is INFO, above that DBG; from 2 on the libraries' messages come too.
    pub fn start(verbosity: u8) -> Self {
        let level = if verbosity == 0 { 4 } else { 5 };
        let levels: BTreeMap<_, _> = MODULES.iter().map(|&module| (module, level)).collect();
        let (filter, handle) = reload::Layer::new(targets(&levels, verbosity > 1));
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        tracing_subscriber::registry().with(lines.with_target(false).with_filter(filter)).init();
        Self { levels: Mutex::new(levels), filter: handle }
    }

    /// A table of modules and levels, in OVS's form.
    pub fn list(&self) -> String {
        let mut text =
            String::from("                 console    syslog    file\n                 -------    ------    ------\n");
        for (module, level) in self.levels().iter() {
            let _ = writeln!(text, "{module:<16}  {:>4}       OFF        OFF", LEVELS[*level].0);
        }
        text
    }

    /// Module and level.
    pub fn all(&self) -> Vec<(&'static str, &'static str)> {
        self.levels().iter().map(|(module, level)| (*module, LEVELS[*level].0)).collect()
    }

    /// Follows `MODULE:DESTINATION:LEVEL`, in any order; each may be left out, for all modules and for DBG. The error is one
    /// line for the user.
    pub fn set(&self, text: &str) -> Result<(), String> {
        let change = parse(text)?;
        let mut levels = self.levels();
        for (module, level) in levels.iter_mut() {
            if change.module.is_none_or(|wanted| wanted == *module) {
                *level = change.level;
            }
        }
        self.filter.reload(targets(&levels, false)).map_err(|error| format!("the levels cannot be changed: {error}"))
    }

    fn levels(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, usize>> {
        self.levels.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

struct Change {
    module: Option<&'static str>,
    level: usize,
}

fn parse(text: &str) -> Result<Change, String> {
    let (mut module, mut level, mut destination) = (None, None, None);
    let words = text.split([' ', ',', ':', '\t']).filter(|word| !word.is_empty());
    for word in words.filter(|word| !word.eq_ignore_ascii_case("any")) {
        let place = |names: &[&str]| names.iter().position(|name| name.eq_ignore_ascii_case(word));
        let twice = |what: &str| format!("cannot specify multiple {what}: \"{text}\" names two");
        if let Some(place) = place(&DESTINATIONS) {
            if destination.replace(DESTINATIONS[place]).is_some() {
                return Err(twice("destinations"));
            }
        } else if let Some(place) = place(&LEVELS.map(|level| level.0)) {
            if level.replace(place).is_some() {
                return Err(twice("levels"));
            }
        } else if let Some(place) = place(MODULES) {
            if module.replace(MODULES[place]).is_some() {
                return Err(twice("modules"));
            }
        } else {
            return Err(format!(
                "no destination, level, or module \"{word}\" (vlog/list prints the modules and levels)"
            ));
        }
    }
    match destination {
        Some(other) if other != "console" => Err(format!(
            "shuntd does not log to {other}, only to stderr: set the level of console, and redirect stderr"
        )),
        _ => Ok(Change { module, level: level.unwrap_or(LEVELS.len() - 1) }),
    }
}

fn targets(levels: &BTreeMap<&'static str, usize>, libraries: bool) -> Targets {
    let ours = levels.iter().map(|(module, level)| {
        let target = if *module == "shuntd" { "shuntd".to_owned() } else { format!("shunt_control::{module}") };
        (target, LEVELS[*level].1)
    });
    Targets::new().with_default(if libraries { LevelFilter::TRACE } else { LevelFilter::WARN }).with_targets(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_modules_that_log_are_listed() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for module in std::fs::read_dir(source).expect("the sources").flatten() {
            let mut files = vec![module.path()];
            while let Some(path) = files.pop() {
                if path.is_dir() {
                    files.extend(path.read_dir().expect("a directory").flatten().map(|entry| entry.path()));
                } else if std::fs::read_to_string(&path).is_ok_and(|text| text.contains("tracing::")) {
                    let name = module.path().file_stem().expect("a name").to_string_lossy().into_owned();
                    let known = ["bin", "logging"].contains(&name.as_str()) || MODULES.contains(&name.as_str());
                    assert!(known, "{name} logs ({})", path.display());
                }
            }
        }
    }

    #[test]
    fn levels_are_said_in_any_order() {
        let change = |text| parse(text).map(|change| (change.module, LEVELS[change.level].0));
        assert_eq!(change("reconcile:console:warn"), Ok((Some("reconcile"), "WARN")));
        assert_eq!(change("ANY::info"), Ok((None, "INFO")));
        assert_eq!(change("dbg"), Ok((None, "DBG")));
        assert_eq!(change("rpc"), Ok((Some("rpc"), "DBG")));
        assert_eq!(change(""), Ok((None, "DBG")));
        for (text, error) in [
            ("netdev:dbg", "no destination, level, or module \"netdev\""),
            ("info:dbg", "multiple levels"),
            ("rpc:state", "multiple modules"),
            ("console:file", "multiple destinations"),
            ("ANY:syslog:dbg", "does not log to syslog"),
        ] {
            assert!(change(text).expect_err(text).contains(error), "{text}");
        }
    }
}
