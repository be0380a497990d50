//! What does a command line ask for? Options, then commands separated by `--`, as `ovs-vsctl` reads them.

use super::commands::Stop;
use super::output::{DataFormat, Format, Style};
use super::table::{self, Action, COMMANDS, GlobalOption, OPTIONS, Spec, Takes};
use std::collections::BTreeMap;
use std::time::Duration;

/// One command with its options and arguments.
#[derive(Clone)]
pub struct Command {
    /// Its entry in the table.
    pub spec: &'static Spec,
    /// Its name as typed (for methods that are not in the table).
    pub name: String,
    /// `--name` to value.
    pub options: BTreeMap<String, Option<String>>,
    /// What follows the name.
    pub args: Vec<String>,
}

impl Command {
    /// Whether an option such as `--may-exist` was given.
    pub fn has(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// The value of an option such as `--id`.
    pub fn value(&self, option: &str) -> Option<&str> {
        self.options.get(option)?.as_deref()
    }

    /// The words as typed, options first.
    pub fn words(&self) -> String {
        let options = self.options.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        });
        let words: Vec<String> = options.chain([self.name.clone()]).chain(self.args.iter().cloned()).collect();
        words.join(" ")
    }
}

/// What to print instead of running commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// `--help`
    Help,
    /// `--version`
    Version,
    /// `--commands`
    Commands,
    /// `--options`
    Options,
}

/// A whole command line.
pub struct Invocation {
    /// A page to print, and nothing else.
    pub page: Option<Page>,
    /// The socket, if given.
    pub db: Option<String>,
    /// As given: `Some(None)` waits for ever.
    pub timeout: Option<Option<Duration>>,
    /// Wait until the data plane has applied the change.
    pub wait: bool,
    /// Check, but do not commit.
    pub dry_run: bool,
    /// One line of output per command.
    pub oneline: bool,
    /// Keep trying to connect.
    pub retry: bool,
    /// Print what goes over the socket.
    pub verbose: bool,
    /// How tables are printed.
    pub style: Style,
    /// At least one, unless there is a page.
    pub commands: Vec<Command>,
}

/// How long to wait unless told otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Reads the words after the program's name.
pub fn parse(words: &[String]) -> Result<Invocation, Stop> {
    let mut invocation = Invocation {
        page: None,
        db: None,
        timeout: None,
        wait: true,
        dry_run: false,
        oneline: false,
        retry: false,
        verbose: false,
        style: Style::default(),
        commands: vec![],
    };
    let mut local = BTreeMap::new();
    let mut words = words.iter();
    while let Some(word) = words.as_slice().first() {
        if !word.starts_with('-') || word == "-" {
            break;
        }
        words.next();
        if word == "--" {
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let option = find_long(name)?;
            let value = match (option.takes, value) {
                (Takes::Nothing, Some(_)) => {
                    return Stop::fail(format!("option '--{}' doesn't allow an argument", option.name));
                }
                (Takes::Value, None) => {
                    let next = words.next().cloned();
                    let missing = format!("option '--{}' requires an argument", option.name);
                    Some(next.ok_or_else(|| Stop::new(missing))?)
                }
                (_, value) => value,
            };
            match option.global {
                Some(global) => apply(&mut invocation, global.long, value)?,
                None => {
                    local.insert(format!("--{}", option.name), value);
                }
            }
        } else {
            short_options(&mut invocation, &word[1..], &mut words)?;
        }
        if invocation.page.is_some() {
            return Ok(invocation);
        }
    }
    invocation.commands = commands(words.as_slice(), local)?;
    runtime_format(&mut invocation)?;
    Ok(invocation)
}

/// Letters behind one hyphen; the last may take the rest, or the next word, as its value.
fn short_options(
    invocation: &mut Invocation,
    letters: &str,
    words: &mut std::slice::Iter<'_, String>,
) -> Result<(), Stop> {
    let mut rest = letters;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        let Some(option) = OPTIONS.iter().find(|option| option.short == Some(letter)) else {
            return Stop::fail(format!("invalid option -- '{letter}'"));
        };
        let value = match option.takes {
            Takes::Nothing => None,
            Takes::Optional => Some(std::mem::take(&mut rest).to_owned()),
            Takes::Value if rest.is_empty() => {
                let missing = format!("option requires an argument -- '{letter}'");
                Some(words.next().cloned().ok_or_else(|| Stop::new(missing))?)
            }
            Takes::Value => Some(std::mem::take(&mut rest).to_owned()),
        };
        apply(invocation, option.long, value)?;
    }
    Ok(())
}

/// A long option that was recognised.
struct LongOption {
    name: &'static str,
    takes: Takes,
    global: Option<&'static GlobalOption>,
}

/// Finds a long option by its name or a unique beginning of it, among the global ones and those of all commands.
fn find_long(name: &str) -> Result<LongOption, Stop> {
    let mut all: Vec<LongOption> = OPTIONS
        .iter()
        .map(|option| LongOption { name: option.long, takes: option.takes, global: Some(option) })
        .collect();
    for option in COMMANDS.iter().flat_map(Spec::options) {
        let bare = option.trim_start_matches("--").trim_end_matches('=');
        if !all.iter().any(|known| known.name == bare) {
            let takes = match option.ends_with('=') {
                true => Takes::Value,
                false => Takes::Nothing,
            };
            all.push(LongOption { name: bare, takes, global: None });
        }
    }
    if let Some(exact) = all.iter().position(|option| option.name == name) {
        return Ok(all.swap_remove(exact));
    }
    let known: Vec<&str> = all.iter().map(|option| option.name).collect();
    let mut matches: Vec<LongOption> =
        all.into_iter().filter(|option| !name.is_empty() && option.name.starts_with(name)).collect();
    match matches.len() {
        0 => {
            let near = super::nearest(name, known.into_iter()).map(|near| format!("did you mean '--{near}'?"));
            Err(Stop::new(format!("unrecognized option '--{name}'")).hint(near))
        }
        1 => Ok(matches.swap_remove(0)),
        _ => {
            let names: Vec<String> = matches.iter().map(|m| format!("'--{}'", m.name)).collect();
            Stop::fail(format!("option '--{name}' is ambiguous; possibilities: {}", names.join(" ")))
        }
    }
}

fn apply(invocation: &mut Invocation, long: &str, value: Option<String>) -> Result<(), Stop> {
    let text = value.unwrap_or_default();
    match long {
        "db" => invocation.db = Some(text),
        "no-wait" => invocation.wait = false,
        "dry-run" => invocation.dry_run = true,
        "oneline" => invocation.oneline = true,
        "retry" => invocation.retry = true,
        "verbose" => invocation.verbose = true,
        "timeout" => {
            let Ok(seconds) = text.parse::<u32>() else {
                return Stop::fail(format!("value {text} on -t or --timeout is invalid"));
            };
            invocation.timeout = Some((seconds > 0).then(|| Duration::from_secs(seconds.into())));
        }
        "format" => {
            invocation.style.format =
                Format::parse(&text).ok_or_else(|| Stop::new(format!("unknown output format \"{text}\"")))?;
        }
        "data" => {
            invocation.style.data =
                DataFormat::parse(&text).ok_or_else(|| Stop::new(format!("unknown data format \"{text}\"")))?;
        }
        "no-headings" => invocation.style.headings = false,
        "pretty" => invocation.style.pretty = true,
        "bare" => {
            invocation.style.format = Format::List;
            invocation.style.data = DataFormat::Bare;
            invocation.style.headings = false;
        }
        "max-column-width" => invocation.style.column_width_max = text.parse().unwrap_or(0),
        "help" => invocation.page = Some(Page::Help),
        "version" => invocation.page = Some(Page::Version),
        "commands" => invocation.page = Some(Page::Commands),
        "options" => invocation.page = Some(Page::Options),
        "private-key" | "certificate" | "ca-cert" | "bootstrap-ca-cert" | "peer-ca-cert" | "ssl-protocols"
        | "ssl-ciphers" => {
            return Stop::fail(format!(
                "--{long}: TLS is not supported; the daemon listens on a Unix socket (--db=unix:PATH)"
            ));
        }
        _ => {} // accepted for compatibility, without effect
    }
    Ok(())
}

/// Splits at `--` and reads each command. `local` are options found among the global ones: the first command's.
fn commands(words: &[String], mut local: BTreeMap<String, Option<String>>) -> Result<Vec<Command>, Stop> {
    const MISSING: &str = "missing command name (use --help for help)";
    let mut commands = vec![];
    for segment in words.split(|word| word == "--") {
        if !segment.is_empty() {
            commands.push(command(segment, std::mem::take(&mut local))?);
        } else if !local.is_empty() {
            return Stop::fail(MISSING);
        }
    }
    if commands.is_empty() {
        return Stop::fail(MISSING);
    }
    let runtime = commands.iter().find(|command| !matches!(command.spec.action, Action::Config { .. }));
    match runtime {
        Some(runtime) if commands.len() > 1 => Stop::fail(format!(
            "'{}' is not part of a transaction and cannot be chained with \"--\"; run it by itself",
            runtime.name
        )),
        _ => Ok(commands),
    }
}

fn command(words: &[String], mut options: BTreeMap<String, Option<String>>) -> Result<Command, Stop> {
    let count = words.iter().take_while(|word| word.starts_with('-')).count();
    for word in &words[..count] {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        if options.insert(key.to_owned(), value).is_some() {
            return Stop::fail(format!("'{word}' option specified multiple times"));
        }
    }
    let words = &words[count..];
    let Some(name) = words.first() else {
        return Stop::fail("missing command name (use --help for help)");
    };
    let (spec, name, used) = match table::find(words) {
        Some((spec, used)) => (spec, spec.name, used),
        None if name.contains('/') => (&table::OTHER_METHOD, name.as_str(), 1),
        None => return Err(unknown(name)),
    };
    let command = Command { spec, name: name.to_owned(), options, args: words[used..].to_vec() };
    check_options(&command)?;
    check_count(&command)?;
    Ok(command)
}

fn unknown(name: &str) -> Stop {
    let near = super::nearest(name, COMMANDS.iter().map(|spec| spec.name));
    let remedy = match (table::second_words(name).as_slice(), near) {
        ([], near) => near.map(|near| format!("did you mean '{near}'?")),
        (all, _) => Some(format!("it goes on with one of: {}", all.join(", "))),
    };
    Stop::new(format!("unknown command '{name}'; use --help for help")).hint(remedy)
}

fn check_options(command: &Command) -> Result<(), Stop> {
    let name = &command.name;
    for (option, value) in &command.options {
        let takes_value = command
            .spec
            .options()
            .find(|known| known.trim_end_matches('=') == option)
            .map(|known| known.ends_with('='));
        match (takes_value, value) {
            (None, _) => {
                let known = command.spec.options().map(|known| known.trim_end_matches('='));
                let near = super::nearest(option, known).map(|near| format!("did you mean '{near}'?"));
                return Err(Stop::new(format!("'{name}' command has no '{option}' option")).hint(near));
            }
            (Some(true), None) => {
                return Stop::fail(format!("missing argument to '{option}' option on '{name}' command"));
            }
            (Some(false), Some(_)) => {
                return Stop::fail(format!("'{option}' option on '{name}' does not accept an argument"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_count(command: &Command) -> Result<(), Stop> {
    let (name, spec) = (&command.name, command.spec);
    // A run-time command may carry its format behind the name.
    let count = match spec.action {
        Action::Runtime => {
            command.args.iter().filter(|arg| !arg.starts_with("-f") && !arg.starts_with("--format")).count()
        }
        _ => command.args.len(),
    };
    let remedy = Some(format!("usage: {name} {}", spec.args)).filter(|_| !spec.args.is_empty());
    if count < spec.min {
        let message = format!("'{name}' command requires at least {} arguments", spec.min);
        return Err(Stop::new(message).hint(remedy));
    }
    let most = spec.max;
    // The value of "-f json" is one more word, and belongs to the option.
    let split_format =
        matches!(spec.action, Action::Runtime) && command.args.iter().any(|arg| arg == "-f" || arg == "--format");
    if count.saturating_sub(split_format.into()) > most {
        let mut message = format!("'{name}' command takes at most {most} arguments");
        if command.args.iter().any(|arg| arg.starts_with('-')) {
            message += " (note that options must precede command names and follow a \"--\" argument)";
        }
        return Err(Stop::new(message).hint(remedy));
    }
    Ok(())
}

/// Takes `-f json`, `--format json` and `--format=json` out of a run-time command's arguments.
fn runtime_format(invocation: &mut Invocation) -> Result<(), Stop> {
    let Some(command) =
        invocation.commands.first_mut().filter(|command| matches!(command.spec.action, Action::Runtime))
    else {
        return Ok(());
    };
    let mut words = std::mem::take(&mut command.args).into_iter();
    let mut format = None;
    while let Some(word) = words.next() {
        match word.split_once('=').unwrap_or((&word, "")) {
            ("--format", value) if word.contains('=') => format = Some(value.to_owned()),
            ("-f" | "--format", _) => {
                let missing = format!("option '{word}' requires an argument");
                format = Some(words.next().ok_or_else(|| Stop::new(missing))?);
            }
            _ if word.starts_with("-f") => format = Some(word[2..].to_owned()),
            _ => command.args.push(word),
        }
    }
    if let Some(text) = format {
        apply(invocation, "format", Some(text))?;
    }
    Ok(())
}
