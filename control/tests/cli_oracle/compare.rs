//! When are two outputs the same? UUIDs, the order of a hash table, and what only a daemon can know are set aside.

use serde_json::Value;

/// Splits as a shell does: quotes group words.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (vec![], None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '`') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// UUIDs replaced; lines in alphabetical order where the original has the order of a hash table.
pub(crate) fn normal(text: &[u8], line: &str) -> String {
    let mut text = String::from_utf8(text.to_vec()).unwrap();
    let is_uuid = |part: &str| part.len() == 36 && uuid::Uuid::try_parse(part).is_ok();
    let mut at = 0;
    while at + 8 <= text.len() {
        if text.get(at..at + 36).is_some_and(is_uuid) {
            text.replace_range(at..at + 36, "UUID");
        } else if text
            .get(at..at + 8)
            .is_some_and(|part| line.contains("html") && part.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            text.replace_range(at..at + 8, "UUID8");
        }
        at += 1;
    }
    if !line.contains("--pretty")
        && let Ok(mut json) = serde_json::from_str::<Value>(&text)
        && let Some(data) = json.get_mut("data").and_then(Value::as_array_mut)
    {
        data.sort_by_key(Value::to_string);
        return json.to_string();
    }
    if words(line).iter().any(|word| matches!(word.as_str(), "list" | "find" | "show")) {
        let mut lines: Vec<&str> = text.lines().collect();
        // `show` prints more than the original.
        let shows = words(line).last().is_some_and(|word| word == "show");
        let beyond = ["vlan_mode: ", "link_state: ", "xdp-mode: "];
        lines.retain(|line| !(shows && beyond.iter().any(|column| line.trim_start().starts_with(column))));
        lines.sort_unstable();
        return lines.join("\n");
    }
    text
}

/// The messages, without log lines of the library but for its warnings.
pub(crate) fn messages(stderr: &[u8]) -> Vec<String> {
    let text = String::from_utf8(stderr.to_vec()).unwrap();
    let message = |line: &str| match line.split_once("|WARN|") {
        Some((module, _)) if module.contains("ovsdb_idl") => None,
        Some((_, warning)) => Some(format!("warning: {warning}")),
        None => Some(line.split_once(": ").map_or(line, |(_, message)| message).to_owned()),
    };
    let text = normal(text.as_bytes(), "");
    let mut messages: Vec<String> = text.lines().filter_map(message).collect();
    messages.sort();
    messages
}

/// The same words, or the same words and a remedy.
pub(crate) fn agrees(theirs: &str, ours: &str) -> bool {
    match ours.strip_prefix(theirs) {
        Some("") => true,
        Some(rest) => rest.starts_with(" (") && rest.ends_with(')'),
        None => false,
    }
}

/// Columns whose values are each switch's own.
const DAEMON_COLUMNS: &[&str] = &[
    // Counters of transactions: the clients do not quite agree on which lines change something.
    "cur_cfg",
    "next_cfg",
    // Random, or the kernel's.
    "datapath_id",
    "ifindex",
    "mac_in_use",
    "statistics",
    "link_resets",
    // Drivers differ: a veth's speed is not known to all.
    "duplex",
    "link_speed",
    "status",
    // Who is who.
    "datapath_types",
    "datapath_version",
    "db_version",
    "dpdk_version",
    "iface_types",
    "ovs_version",
    "system_type",
    "system_version",
];

/// What we say behind the words of Open vSwitch.
const REMEDY: &str = ": it is attached as soon as it exists";

/// The values of those columns replaced by `*`.
pub(crate) fn daemon_columns(printed: &str) -> String {
    let printed = printed.replace(REMEDY, "");
    let line = |line: &str| match line.split_once(": ") {
        Some((column, error)) if column.trim() == "error" => format!("{column}: {}", device_words(error)),
        Some((column, _)) if DAEMON_COLUMNS.contains(&column.trim()) => format!("{}: *", column.trim_end()),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = printed.split('\n').map(line).collect();
    lines.join("\n")
}

/// What only one of two texts has, line by line.
pub(crate) fn line_differences(theirs: &str, ours: &str) -> (Vec<String>, Vec<String>) {
    let only = |a: &str, b: &str| {
        let mut rest: Vec<&str> = b.split('\n').collect();
        let mut only = vec![];
        for line in a.split('\n') {
            match rest.iter().position(|other| *other == line) {
                Some(place) => drop(rest.remove(place)),
                None => only.push(line.to_owned()),
            }
        }
        only
    };
    (only(theirs, ours), only(ours, theirs))
}

/// What a switch says about a device, without our remedies and without causes that only we have.
pub(crate) fn device_words(error: &str) -> String {
    if ["bonds are not supported yet", "that is not ours"].iter().any(|cause| error.contains(cause)) {
        return "our own cause".to_owned();
    }
    error.trim_matches('"').replace(REMEDY, "")
}
