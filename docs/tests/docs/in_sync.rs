//! Does the documentation say what the code does? Each list in it is compared with the one in the code.
//!
//! Tables that only repeat a list of the code stand between `<!-- from FILE -->` and `<!-- end -->`. After a change there,
//! `SHUNT_BLESS=1 cargo test -p shunt-docs` writes them anew.

use crate::tree::{code, files, none, read, root, test_part};
use shunt_control::cli::table::{self, Takes};
use shunt_control::commands;
use shunt_control::metrics::Kind;
use shunt_control::metrics::list::METRICS;
use shunt_control::schema::{ColumnType, vswitch};
use shunt_switch::reason::{Reason, Side};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The tables of which columns take effect.
const SERVED: [&str; 9] =
    ["Open_vSwitch", "Bridge", "Port", "Interface", "Mirror", "sFlow", "SVI", "Route", "Neighbor"];

#[test]
fn reasons_are_those_of_the_code() {
    for (side, block) in [(Side::Ingress, "ingress"), (Side::Egress, "egress")] {
        let mut expected =
            String::from("\n| Reason | Meaning | Likely cause | What to do | sFlow |\n|---|---|---|---|---|\n");
        for reason in Reason::ALL.iter().filter(|reason| reason.side() == side) {
            let (name, meaning, cause, remedy) = (reason.name(), reason.text(), reason.likely_cause(), reason.remedy());
            let _ = writeln!(expected, "| `{name}` | {meaning} | {cause} | {remedy} | {} |", reason.sflow_code());
        }
        same_block("docs/reasons.md", &format!("switch/src/reason.rs {block}"), &expected);
    }
}

/// Each reason is made by at least one test.
#[test]
fn every_reason_is_tested() {
    let tests: String = files(&[".rs"])
        .iter()
        .filter(|(path, _)| !path.starts_with("docs/"))
        .map(|(path, text)| test_part(path, text))
        .collect();
    let stories: String = files(&[".sh"]).into_values().collect();
    let untested = Reason::ALL.iter().filter(|reason| {
        let variant = format!("{reason:?}");
        !tests.split("Reason::").any(|rest| rest.starts_with(&variant))
            && !tests.contains(reason.name())
            && !stories.contains(reason.name())
    });
    none(untested.map(|reason| format!("no test makes {reason:?}")).collect());
}

/// What is said to be shown by a test is shown by one that there is.
#[test]
fn faults_of_other_exporters_have_tests() {
    let tests: String = files(&[".rs"]).iter().map(|(path, text)| test_part(path, text)).collect();
    let stories = files(&[".sh"]);
    let text = read("docs/sflow.md");
    let rows = crate::tree::table(&text, "Fault");
    assert_eq!(rows.len(), 12);
    let named: Vec<_> = rows.iter().flat_map(|row| quoted(&row[2])).collect();
    assert!(named.len() >= rows.len(), "a row without a test");
    let is_there = |name: &str| {
        tests.contains(&format!("fn {name}()")) || stories.contains_key(&format!("control/tests/netns/{name}.sh"))
    };
    none(named.iter().filter(|name| !is_there(name)).map(|name| format!("no test or story is named {name}")).collect());
}

#[test]
fn schema_columns_are_those_of_the_code() {
    let text = read("docs/schema.md");
    let schema = vswitch::schema();
    let mut complaints = Vec::new();
    let without_effect = crate::tree::table(&text, "Table");
    for name in SERVED {
        let section = section(&text, name);
        let acting = crate::tree::table(section, "Column");
        let idle: Vec<_> = without_effect.iter().filter(|row| row[0] == name).flat_map(|row| quoted(&row[1])).collect();
        let table = schema.table(name).expect("a table that is served");
        for column in table.columns() {
            let quoted = format!("`{}`", column.name);
            match (acting.iter().find(|row| row[0] == quoted), idle.contains(&column.name)) {
                (Some(row), false) if row[1] != kind(&column.kind) => {
                    complaints.push(format!("{name}.{} is {}", column.name, kind(&column.kind)))
                }
                (Some(_), false) | (None, true) => {}
                (Some(_), true) => complaints.push(format!("{name}.{} is in both lists", column.name)),
                (None, false) => complaints.push(format!("{name}.{} is missing", column.name)),
            }
        }
        let documented = acting.iter().map(|row| row[0].trim_matches('`').to_owned()).chain(idle);
        complaints.extend(
            documented
                .filter(|column| table.column(column).is_none())
                .map(|column| format!("{name} has no column {column}")),
        );
    }
    for name in schema.tables.keys().filter(|name| !SERVED.contains(&name.as_str())) {
        complaints.extend((!text.contains(&format!("`{name}`"))).then(|| format!("table {name} is missing")));
    }
    none(complaints);
}

/// A column's type in words.
fn kind(kind: &ColumnType) -> String {
    if kind.is_optional() { format!("{}, optional", kind.key.kind) } else { kind.to_string() }
}

/// What is said to take effect is at least named by code outside of the schema.
#[test]
fn documented_columns_and_keys_are_used_by_the_code() {
    let text = read("docs/schema.md");
    let sources: String = files(&[".rs"])
        .iter()
        .filter(|(path, _)| path.starts_with("control/src/") && !path.contains("/schema") && !path.contains("/cli/"))
        .map(|(path, text)| before_tests(path, text))
        .collect();
    let mut complaints = Vec::new();
    // For the user's own use; used by the client; what they keep alive is their effect.
    let elsewhere = ["external_ids", "next_cfg", "fake_bridge", "bridges"];
    for name in SERVED {
        for row in crate::tree::table(section(&text, name), "Column") {
            let column = row[0].trim_matches('`');
            let used = sources.contains(&format!("\"{column}\"")) || elsewhere.contains(&column);
            complaints.extend((!used).then(|| format!("nothing reads or writes {name}.{column}")));
        }
    }
    for heading in ["Key of `other_config`", "Key of `options`", "Key of `status`"] {
        for row in crate::tree::table(&text, heading) {
            let key = row[0].trim_matches('`');
            complaints.extend(
                (!sources.contains(&format!("\"{key}\""))).then(|| format!("nothing reads or writes the key {key}")),
            );
        }
    }
    none(complaints);
}

/// Every key that the model reads out of a map is documented.
#[test]
fn keys_in_the_code_are_documented() {
    let text = read("docs/schema.md");
    let model = before_tests("control/src/model/rows.rs", &read("control/src/model/rows.rs"));
    let reads = ["other.get(\"", "options.get(\"", "get(\"other_config\").get(\"", "number(row, \"", "number(root, \""];
    let keys = reads.iter().flat_map(|read| model.split(read).skip(1)).filter_map(|rest| rest.split('"').next());
    let missing: BTreeSet<_> = keys.filter(|key| !text.contains(&format!("| `{key}` |"))).collect();
    none(missing.into_iter().map(|key| format!("docs/schema.md does not tell of the key {key}")).collect());
}

#[test]
fn commands_are_those_of_the_client() {
    let mut expected = String::new();
    let mut group = "";
    for spec in table::COMMANDS {
        if spec.group != group {
            group = spec.group;
            let _ = write!(expected, "\n### {group}\n\n| Command | Options | What it does |\n|---|---|---|\n");
        }
        let usage = [spec.name, spec.args].join(" ");
        let options =
            spec.options().map(|option| format!("`{}`", option.replace('=', "=…"))).collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            expected,
            "| `{}` | {options} | {} |",
            usage.trim_end().replace('|', "\\|"),
            spec.help.replace('|', "\\|")
        );
    }
    same_block("docs/cli.md", "control/src/cli/table.rs commands", &expected);
}

#[test]
fn options_are_those_of_the_client() {
    let mut expected = String::from("\n| Option | What it does |\n|---|---|\n");
    for option in table::OPTIONS.iter().filter(|option| !option.help.is_empty()) {
        let short = option.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let value = match option.takes {
            Takes::Nothing => String::new(),
            Takes::Value => format!("={}", option.value),
            Takes::Optional => format!("[={}]", option.value),
        };
        let _ = writeln!(expected, "| {short}`--{}{value}` | {} |", option.long, option.help);
    }
    same_block("docs/cli.md", "control/src/cli/table.rs options", &expected);
}

/// The client's table of run-time commands and the daemon's are two lists, in two processes: they must agree.
#[test]
fn the_client_knows_the_daemons_commands() {
    let client: BTreeSet<_> =
        table::COMMANDS.iter().filter(|spec| spec.group.starts_with("Run-time")).map(table::Spec::method).collect();
    let daemon: BTreeSet<_> = commands::COMMANDS.iter().map(|command| command.name.to_owned()).collect();
    assert_eq!(client, daemon);
}

#[test]
fn daemon_options_are_those_of_the_code() {
    let source = read("control/src/bin/shuntd.rs");
    let text = read("docs/cli.md");
    let rows = crate::tree::table(&text, "Option of shuntd");
    let mut options = Vec::new();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("#[arg(") {
            let field =
                lines.find(|line| line.contains(": ") && !line.starts_with('#')).expect("a field below its attribute");
            options.push((field.split(':').next().unwrap_or("").replace('_', "-"), line.to_owned()));
        }
    }
    assert!(options.len() > 5, "the options of shuntd were not found");
    let mut complaints = Vec::new();
    for (name, attribute) in &options {
        let Some(row) = rows.iter().find(|row| row[0].contains(&format!("--{name}"))) else {
            complaints.push(format!("--{name} is missing"));
            continue;
        };
        let default = attribute.split("default_value = \"").nth(1).and_then(|rest| rest.split('"').next());
        let default = default.or_else(|| attribute.split("default_value_t = ").nth(1)?.split([',', ')']).next());
        // What is computed cannot be compared as text.
        let default = default.filter(|default| !default.contains("::"));
        complaints.extend(
            default
                .filter(|default| !row[1].contains(*default))
                .map(|default| format!("--{name} has the default {default}")),
        );
    }
    complaints
        .extend((rows.len() != options.len()).then(|| format!("{} rows for {} options", rows.len(), options.len())));
    none(complaints);
}

#[test]
fn metrics_are_those_of_the_code() {
    let mut expected = String::from("\n| Metric | Kind | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let _ = writeln!(expected, "| `{}` | {kind} | {} | {labels} | {} |", metric.name, metric.unit, metric.help);
    }
    same_block("docs/observability.md", "control/src/metrics/list.rs", &expected);
}

/// What texts, dashboard and alerts name is there, and the other way round.
#[test]
fn named_metrics_and_reasons_exist() {
    let is_metric = |name: &str| {
        METRICS.iter().any(|metric| match metric.kind {
            Kind::Histogram => {
                name.strip_prefix(metric.name).is_some_and(|end| ["", "_bucket", "_sum", "_count"].contains(&end))
            }
            _ => name == metric.name,
        })
    };
    let mut complaints = Vec::new();
    for path in ["docs/observability.md", "docs/grafana-shunt.json", "docs/prometheus-rules.yml"] {
        let text = read(path);
        let words: BTreeSet<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let metrics = words.iter().filter(|word| word.starts_with("shunt_") || word.starts_with("process_"));
        complaints.extend(metrics.filter(|word| !is_metric(word)).map(|word| format!("{path}: no metric {word}")));
        let marked = ["reason=~\"", "reason=\""].iter().flat_map(|mark| text.split(mark).skip(1));
        for name in marked.filter_map(|rest| rest.split('"').next()).flat_map(|reasons| reasons.split('|')) {
            let is_known = Reason::ALL.iter().any(|reason| reason.name() == name);
            complaints.extend((!is_known).then(|| format!("{path}: no reason {name}")));
        }
    }
    none(complaints);
}

/// Each alert is explained, and nothing else is.
#[test]
fn alerts_are_those_of_the_rules() {
    let rules = read("docs/prometheus-rules.yml");
    let alerts: BTreeSet<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect();
    let text = read("docs/observability.md");
    let told: BTreeSet<_> =
        crate::tree::table(&text, "Alert").into_iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(told, alerts);
}

/// The dashboard is JSON, and Prometheus' own checker, where it is installed, takes its expressions and the rules.
#[test]
fn dashboard_and_rules_are_sound() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("docs/grafana-shunt.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expressions: Vec<_> =
        targets.map(|target| target["expr"].as_str().expect("a text").replace("$__rate_interval", "5m")).collect();
    assert!(expressions.len() > 20, "{expressions:?}");
    let mut groups = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (n, expression) in expressions.iter().enumerate() {
        let _ = writeln!(groups, "      - {{record: r{n}, expr: {}}}", serde_json::Value::from(expression.as_str()));
    }
    let file = std::env::temp_dir().join(format!("shunt-dashboard-{}.yml", std::process::id()));
    std::fs::write(&file, groups).expect("a file");
    for rules in [file.clone(), root().join("docs/prometheus-rules.yml")] {
        let Ok(checked) = std::process::Command::new("promtool").args(["check", "rules"]).arg(&rules).output() else {
            break;
        };
        assert!(checked.status.success(), "{}: {}", rules.display(), String::from_utf8_lossy(&checked.stderr));
    }
    let _ = std::fs::remove_file(file);
}

/// The picture's boxes are the calls in `Worker::turn`, in their order.
#[test]
fn the_picture_of_the_road_is_the_turn() {
    let source = code(&read("switch/src/worker.rs"));
    let body =
        source.split("pub fn turn(").nth(1).and_then(|rest| rest.split("\n    }\n").next()).expect("Worker::turn");
    let calls: Vec<_> = body
        .lines()
        .filter_map(|line| {
            let (call, _) = line.split_once("::run(").or_else(|| line.split_once("::one("))?;
            call.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()
        })
        .collect();
    let text = read("docs/architecture.md");
    let picture = text
        .split("<!-- the road -->")
        .nth(1)
        .and_then(|rest| rest.split("<!-- end -->").next())
        .expect("the road's picture");
    let steps: Vec<_> = picture
        .lines()
        .filter_map(|line| line.split_once("path/")?.1.split_once(".rs").map(|(step, _)| step))
        .collect();
    assert!(calls.len() > 5, "{calls:?}");
    assert_eq!(steps, calls, "docs/architecture.md (left) and switch/src/worker.rs (right)");
    let modules = read("switch/src/path/mod.rs");
    none(
        calls
            .iter()
            .filter(|call| !modules.contains(&format!("pub mod {call};")))
            .map(|call| format!("{call} is no file of path/"))
            .collect(),
    );
}

/// A file or folder that a text names in code style exists.
#[test]
fn named_files_exist() {
    let folders = ["switch/", "control/", "ffi/", "perf/", "docs/", "scripts/", ".ci/"];
    let mut complaints = Vec::new();
    for (path, text) in files(&[".md"]) {
        for name in quoted(&text).into_iter().filter(|name| folders.iter().any(|folder| name.starts_with(folder))) {
            let name = name.split([' ', ':']).next().unwrap_or("");
            let plain = !name.contains(['*', '{', '…', '<', '[']);
            if plain && !root().join(name).exists() {
                complaints.push(format!("{path}: {name} does not exist"));
            }
        }
    }
    none(complaints);
}

#[test]
fn links_resolve() {
    let mut complaints = Vec::new();
    for (path, text) in files(&[".md"]) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { root().join(&path) } else { root().join(folder).join(file) };
            match std::fs::read_to_string(&file) {
                Ok(text) if !anchor.is_empty() && !anchors(&text).any(|known| known == anchor) => {
                    complaints.push(format!("{path}: {target}: no such heading"))
                }
                Err(_) if !file.is_dir() => complaints.push(format!("{path}: {target} does not exist")),
                _ => {}
            }
        }
    }
    none(complaints);
}

/// Each decision says when, why, what and at what cost, and architecture.md lists it.
#[test]
fn decisions_are_whole_and_listed() {
    let architecture = read("docs/architecture.md");
    let mut complaints = Vec::new();
    for (path, text) in files(&[".md"]).iter().filter(|(path, _)| path.starts_with("docs/decisions/")) {
        for part in ["\nDate: 20", "\n## Context\n", "\n## Choice\n", "\n## Cost\n"] {
            complaints.extend((!text.contains(part)).then(|| format!("{path} lacks {}", part.trim())));
        }
        let file = path.strip_prefix("docs/").expect("in docs");
        complaints.extend(
            (!architecture.contains(&format!("]({file})")))
                .then(|| format!("docs/architecture.md does not list {file}")),
        );
        let number = file.split(['/', '-']).nth(1).and_then(|number| number.parse::<u32>().ok());
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")?.split('.').next()?.parse().ok());
        complaints
            .extend((number.is_none() || number != title).then(|| format!("{path}: its title has another number")));
    }
    none(complaints);
}

/// Each command of the client is told in a namespace story or in the demonstration, or used by another test.
#[test]
fn every_command_is_tested() {
    let mut texts: String = files(&[".sh", "scripts/demo", "_lines.txt"]).into_values().collect();
    texts.extend(
        files(&[".rs"])
            .iter()
            .filter(|(path, _)| path.starts_with("control/"))
            .map(|(path, text)| test_part(path, text)),
    );
    let words: BTreeSet<_> = texts.split(|c: char| !c.is_alphanumeric() && !"-_/".contains(c)).collect();
    let is_used =
        |spec: &&table::Spec| words.contains(spec.name) || spec.name.contains(' ') && texts.contains(spec.name);
    let unused = table::COMMANDS.iter().filter(|spec| !is_used(spec));
    none(unused.map(|spec| format!("no test uses {}", spec.name)).collect());
}

/// Each block that is meant for a story is run by one.
#[test]
fn every_block_for_a_story_is_used() {
    let stories: String = files(&[".sh"]).into_values().collect();
    let text = read("docs/routing.md");
    let blocks: Vec<_> = text.split("<!-- story: ").skip(1).filter_map(|rest| rest.split(" -->").next()).collect();
    assert!(!blocks.is_empty(), "docs/routing.md has no block for a story");
    none(
        blocks.iter().filter(|block| !stories.contains(*block)).map(|block| format!("no story runs {block}")).collect(),
    );
}

/// The text between the marker that names `source` and the next end marker; written anew if asked to.
fn same_block(path: &str, source: &str, expected: &str) {
    let text = read(path);
    let marker = format!("<!-- from {source} -->\n");
    let (before, rest) = text.split_once(&marker).unwrap_or_else(|| panic!("{path} lacks {marker}"));
    let (block, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{path}: no end after {marker}"));
    let expected = format!("{expected}\n");
    if block == expected {
        return;
    }
    if std::env::var_os("SHUNT_BLESS").is_some() {
        std::fs::write(root().join(path), format!("{before}{marker}{expected}<!-- end -->{after}"))
            .expect("the tree can be written");
        return;
    }
    let (ours, theirs) = (block.lines().chain(["<!-- end -->"]), expected.lines().chain(["<!-- end -->"]));
    let (ours, theirs) = ours.zip(theirs).find(|(ours, theirs)| ours != theirs).expect("they differ");
    panic!("{path} differs from {source}; SHUNT_BLESS=1 writes it anew.\n  there is:  {ours}\n  should be: {theirs}");
}

/// The part of a text under the second-level heading that begins with `name`.
fn section<'a>(text: &'a str, name: &str) -> &'a str {
    let rest =
        text.split("\n## ").find(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_').next() == Some(name));
    rest.unwrap_or_else(|| panic!("no section {name}"))
}

/// What stands between backquotes, fenced blocks left out.
fn quoted(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// GitHub's names for a text's headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase());
    headings.map(|heading| {
        heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).collect::<String>().replace(' ', "-")
    })
}

fn before_tests(path: &str, text: &str) -> String {
    text.lines().take(crate::tree::lines_before_tests(path, text)).map(|line| format!("{line}\n")).collect()
}
