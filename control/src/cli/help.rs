//! How does the user learn the commands? `--help`, the listings for programs, and completion scripts, all from the table.

use super::commands::Stop;
use super::table::{self, COMMANDS, GlobalOption, OPTIONS, Spec, Takes};
use super::{DB_DEFAULT, DB_VARIABLE};
use std::fmt::Write;

/// Where the explanations begin.
const INDENT: usize = 34;

/// A term and what it means; a long term has a line of its own.
fn entry(out: &mut String, term: &str, meaning: &str) {
    let _ = match term.len() < INDENT - 3 {
        true => writeln!(out, "  {term:<width$}{meaning}", width = INDENT - 2),
        false => writeln!(out, "  {term}\n{:INDENT$}{meaning}", ""),
    };
}

fn usage(spec: &Spec) -> String {
    let options = spec.options().map(|option| match option.strip_suffix('=') {
        Some("--id") => "[--id=@NAME] ".to_owned(),
        Some(name) => format!("[{name}=VALUE] "),
        None => format!("[{option}] "),
    });
    let options: String = options.collect();
    format!("{options}{} {}", spec.name, spec.args).trim_end().to_owned()
}

/// `--help`
pub(super) fn page(program: &str) -> String {
    let mut out = format!(
        "{program} - configure and observe the packet switch shuntd\n\n\
         Usage:\n  \
         {program} [OPTION]... [--] COMMAND [ARG]... [-- COMMAND [ARG]...]...\n  \
         {program} [OPTION]... RUN-TIME-COMMAND [ARG]...\n\n\
         All configuration commands of one call form one transaction: either all of them take\n\
         effect or none does. The call returns when the data plane works as configured. A\n\
         command's own options stand before its name. Configuration survives a restart.\n"
    );
    let mut group = "";
    for spec in COMMANDS {
        if spec.group != group {
            group = spec.group;
            let _ = writeln!(out, "\n{group}:");
        }
        entry(&mut out, &usage(spec), spec.help);
    }
    out += "\nRecords in database commands can be named by:\n";
    for table in crate::schema::vswitch::schema().tables.keys() {
        entry(&mut out, table, &super::commands::describe_namings(table));
    }
    out += "\nConditions of find and wait-until are COLUMN[:KEY]OPERATOR VALUE with one of\n  \
            = != < > <= >=  or, for sets,  {=} {!=} {<} {>} {<=} {>=} {in} {not-in}\n\
            Values: 5, eth0, \"with space\", [1, 2], 10-20 (integers from 10 to 20), {key=value}, [] (nothing).\n\
            Tables, columns and UUIDs may be abbreviated as long as they stay unique.\n\nOptions:\n";
    for option in OPTIONS.iter().filter(|option| !option.help.is_empty()) {
        entry(&mut out, &option_usage(option), option.help);
    }
    out += "\nExit status:\n";
    for (status, meaning) in [
        ("0", "done, and applied by the data plane"),
        ("1", "refused, nothing changed; standard error says why"),
        ("2", "br-exists only: there is no such bridge"),
        ("65", "committed and kept, but part of it could not be applied, or not within the timeout"),
    ] {
        entry(&mut out, status, meaning);
    }
    out += "\nExamples:\n";
    for (command, meaning) in [
        ("add-br br0", "a bridge, with a device br0 for the host"),
        ("add-port br0 eth0.181", "VLAN 181 of eth0 as a port"),
        ("add-port br0 veth1 tag=10", "a container, in VLAN 10"),
        ("set port veth1 vlan_mode=native-untagged trunks=20-29", "several columns of a port"),
        ("-- --if-exists del-port p1 -- add-port br0 p1", "two commands, one transaction"),
        ("--columns=name,error find interface 'error!=[]'", "which devices have trouble"),
        ("fdb/show br0 --format=json", "learned addresses, for a program"),
        ("add-svi br0 vlan10 tag=10 address=192.168.10.1/24", "the gateway of VLAN 10"),
        ("route add default via 192.168.10.254", "a static route"),
    ] {
        entry(&mut out, &format!("{program} {command}"), meaning);
    }
    out += "\nEnvironment:\n";
    entry(&mut out, DB_VARIABLE, "the socket, where --db is not given");
    out += "\nFiles:\n";
    entry(&mut out, DB_DEFAULT.trim_start_matches("unix:"), "the daemon's socket");
    entry(&mut out, "/var/lib/shunt/conf.db", "the configuration, kept by the daemon");
    out
}

fn option_usage(option: &GlobalOption) -> String {
    let short = option.short.map_or(String::new(), |short| format!("-{short}, "));
    let value = match option.takes {
        Takes::Nothing => String::new(),
        Takes::Value => format!("={}", option.value),
        Takes::Optional => format!("[={}]", option.value),
    };
    format!("{short}--{}{value}", option.long)
}

/// `--commands`: one line each, `[OPTION]... ,NAME,ARGS`.
pub(super) fn commands() -> String {
    let line = |spec: &Spec| {
        let options: String = spec.options().map(|option| format!("[{option}] ")).collect();
        format!("{options},{},{}\n", spec.name, spec.args)
    };
    COMMANDS.iter().map(line).collect()
}

/// `--options`: one line each.
pub(super) fn options() -> String {
    let mut out = String::new();
    for option in OPTIONS {
        let _ = match option.takes {
            Takes::Value => writeln!(out, "--{}=ARG", option.long),
            _ => writeln!(out, "--{}", option.long),
        };
        if let Some(short) = option.short {
            let _ = writeln!(out, "-{short}");
        }
    }
    out
}

/// How a completion script asks for the bridges.
const LIST: &str = "shuntctl --timeout=1 list-br 2>/dev/null";

/// The first words of all commands, each once, and what they mean: of those with a second word, which these are.
fn first_words() -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = vec![];
    for spec in COMMANDS {
        let (first, meaning) = match spec.name.split_once(' ') {
            Some((first, _)) => (first, table::second_words(first).join(", ")),
            None => (spec.name, spec.help.to_owned()),
        };
        if !all.iter().any(|(known, _)| *known == first) {
            all.push((first, meaning));
        }
    }
    all
}

/// First words that take a second one, and these.
fn pairs() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let is_first =
        |word: &&str| COMMANDS.iter().any(|spec| spec.name.split_once(' ').is_some_and(|(one, _)| one == *word));
    first_words().into_iter().map(|(word, _)| word).filter(is_first).map(|word| (word, table::second_words(word)))
}

/// A script that completes options, commands and, where the daemon runs, names of bridges and ports.
pub(super) fn completion(shell: &str) -> Result<String, Stop> {
    let names: Vec<&str> = first_words().into_iter().map(|(word, _)| word).collect();
    let mut options: Vec<String> = OPTIONS.iter().map(|option| format!("--{}", option.long)).collect();
    for option in COMMANDS.iter().flat_map(Spec::options) {
        let option = option.trim_end_matches('=').to_owned();
        if !options.contains(&option) {
            options.push(option);
        }
    }
    let taking = |argument: &str| -> Vec<&str> {
        let first = |spec: &&Spec| spec.args.trim_start_matches('[').split([' ', ']']).next() == Some(argument);
        COMMANDS.iter().filter(first).map(|spec| spec.name).collect()
    };
    let (bridges, tables) = (taking("BRIDGE"), taking("TABLE"));
    let schema = crate::schema::vswitch::schema();
    let table_names: Vec<&str> = schema.tables.keys().map(String::as_str).collect();
    Ok(match shell {
        "bash" => format!(
            "_shuntctl() {{\n  \
               local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}\n  \
               case $before in\n    \
                 {bridges}) COMPREPLY=($(compgen -W \"$({LIST})\" -- \"$word\")); return;;\n    \
                 {tables}) COMPREPLY=($(compgen -W '{table_names}' -- \"$word\")); return;;\n    \
                 completion) COMPREPLY=($(compgen -W 'bash zsh fish' -- \"$word\")); return;;\n\
                 {seconds}  \
               esac\n  \
               case $word in\n    \
                 -*) COMPREPLY=($(compgen -W '{options}' -- \"$word\"));;\n    \
                 *) COMPREPLY=($(compgen -W '{names}' -- \"$word\"));;\n  \
               esac\n}}\n\
             complete -o default -F _shuntctl shuntctl\n",
            bridges = bridges.join("|"),
            tables = tables.join("|"),
            table_names = table_names.join(" "),
            options = options.join(" "),
            names = names.join(" "),
            seconds = pairs()
                .map(|(first, second)| {
                    let second = second.join(" ");
                    format!("    {first}) COMPREPLY=($(compgen -W '{second}' -- \"$word\")); return;;\n")
                })
                .collect::<String>(),
        ),
        "zsh" => {
            let quoted = |text: &str| text.replace('\'', "'\\''").replace(':', "\\:");
            let describe = |(word, help): (&str, String)| format!("    '{word}:{}'\n", quoted(&help));
            format!(
                "#compdef shuntctl\n_shuntctl() {{\n  local -a commands options\n  commands=(\n{commands}  )\n  \
                 options=({options})\n  case ${{words[CURRENT-1]}} in\n    \
                 {bridges}) compadd -- ${{(f)\"$({LIST})\"}}; return;;\n    \
                 {tables}) compadd -- {table_names}; return;;\n    \
                 completion) compadd -- bash zsh fish; return;;\n{seconds}  esac\n  \
                 if [[ $PREFIX == -* ]]; then compadd -- $options; else _describe command commands; _files; fi\n}}\n\
                 compdef _shuntctl shuntctl\n",
                commands = first_words().into_iter().map(describe).collect::<String>(),
                seconds = pairs()
                    .map(|(first, second)| format!("    {first}) compadd -- {}; return;;\n", second.join(" ")))
                    .collect::<String>(),
                options = options.join(" "),
                bridges = bridges.join("|"),
                tables = tables.join("|"),
                table_names = table_names.join(" "),
            )
        }
        "fish" => fish(&bridges, &tables, &table_names),
        other => {
            return Err(Stop::new(format!("completion: no script for \"{other}\""))
                .hint(Some("there is one for bash, zsh and fish")));
        }
    })
}

/// fish has one line for each word; `bridges` and `tables` are the commands that go on with one.
fn fish(bridges: &[&str], tables: &[&str], table_names: &[&str]) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    let mut out = String::new();
    for (word, help) in first_words() {
        let help = quoted(&help);
        let _ = writeln!(out, "complete -c shuntctl -n __fish_use_subcommand -f -a '{word}' -d '{help}'");
    }
    for (first, second) in pairs() {
        let second = second.join(" ");
        let _ = writeln!(out, "complete -c shuntctl -n '__fish_seen_subcommand_from {first}' -f -a '{second}'");
    }
    for option in OPTIONS {
        let short = option.short.map_or(String::new(), |short| format!(" -s {short}"));
        let value = if option.takes == Takes::Value { " -r" } else { "" };
        let help = quoted(option.help);
        let _ = writeln!(out, "complete -c shuntctl -l {}{short}{value} -d '{help}'", option.long);
    }
    let of = |names: &[&str]| format!("__fish_seen_subcommand_from {}", names.join(" "));
    let _ = writeln!(out, "complete -c shuntctl -n '{}' -f -a '({LIST})'", of(bridges));
    let _ = writeln!(out, "complete -c shuntctl -n '{}' -f -a '{}'", of(tables), table_names.join(" "));
    out
}
