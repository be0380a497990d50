//! How do tables look: as lists, aligned columns, CSV, JSON or HTML, exactly as `ovs-vsctl` prints them?

use crate::datum::{Atom, Datum, parse_uuid};
use crate::schema::ColumnType;
use serde_json::Value;
use std::fmt::Write;

/// The layout of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One `column : value` a line, an empty line between records.
    List,
    /// Aligned columns.
    Table,
    /// Comma-separated.
    Csv,
    /// One object with `headings` and `data`.
    Json,
    /// `<table>`
    Html,
}

impl Format {
    /// By its name.
    pub fn parse(name: &str) -> Option<Format> {
        let all = [
            ("list", Format::List),
            ("table", Format::Table),
            ("csv", Format::Csv),
            ("json", Format::Json),
            ("html", Format::Html),
        ];
        all.into_iter().find(|(known, _)| *known == name).map(|(_, format)| format)
    }
}

/// The form of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataFormat {
    /// With brackets, braces and, where needed, quotes.
    String,
    /// Without.
    Bare,
    /// As on the wire.
    Json,
}

impl DataFormat {
    /// By its name.
    pub fn parse(name: &str) -> Option<DataFormat> {
        match name {
            "string" => Some(DataFormat::String),
            "bare" => Some(DataFormat::Bare),
            "json" => Some(DataFormat::Json),
            _ => None,
        }
    }
}

/// The options about output.
#[derive(Clone, Debug)]
pub struct Style {
    /// Layout.
    pub format: Format,
    /// Values.
    pub data: DataFormat,
    /// Whether column names are printed.
    pub headings: bool,
    /// Whether JSON is indented.
    pub pretty: bool,
    /// In characters; 0 is unlimited.
    pub column_width_max: usize,
}

impl Default for Style {
    fn default() -> Style {
        Style { format: Format::List, data: DataFormat::String, headings: true, pretty: false, column_width_max: 0 }
    }
}

/// One value with the type that decides about brackets.
pub struct Cell {
    /// The value.
    pub value: Datum,
    /// Its column's type.
    pub kind: ColumnType,
}

/// What `list` and `find` print.
pub struct Table {
    /// Names of the columns.
    pub headings: Vec<String>,
    /// Records.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The text; `first` says that no table was printed before.
    pub fn format(&self, style: &Style, first: bool) -> String {
        let gap = if first { "" } else { "\n" };
        match style.format {
            Format::List => gap.to_owned() + &self.list(style),
            Format::Table => gap.to_owned() + &self.aligned(style),
            Format::Csv => gap.to_owned() + &self.csv(style),
            Format::Json => self.json(style),
            Format::Html => self.html(style),
        }
    }

    fn texts(&self, style: &Style) -> Vec<Vec<String>> {
        let text = |cell: &Cell| match style.data {
            DataFormat::String => cell.value.to_text(&cell.kind),
            DataFormat::Bare => cell.value.to_bare(),
            DataFormat::Json => cell.value.to_json().to_string(),
        };
        self.rows.iter().map(|row| row.iter().map(text).collect()).collect()
    }

    fn list(&self, style: &Style) -> String {
        let record = |row: Vec<String>| -> String {
            let line = |(heading, text): (&String, String)| match style.headings {
                true => format!("{heading:<20}: {text}\n"),
                false => format!("{text}\n"),
            };
            self.headings.iter().zip(row).map(line).collect()
        };
        let records: Vec<String> = self.texts(style).into_iter().map(record).collect();
        records.join("\n")
    }

    fn aligned(&self, style: &Style) -> String {
        let mut rows = self.texts(style);
        let mut widths = vec![0; self.headings.len()];
        for row in &rows {
            for (width, text) in widths.iter_mut().zip(row) {
                *width = (*width).max(text.chars().count());
            }
        }
        if style.column_width_max > 0 {
            widths.iter_mut().for_each(|width| *width = (*width).min(style.column_width_max));
        }
        if style.headings {
            for (width, heading) in widths.iter_mut().zip(&self.headings) {
                *width = (*width).max(heading.chars().count());
            }
            rows.insert(0, widths.iter().map(|width| "-".repeat(*width)).collect());
            rows.insert(0, self.headings.clone());
        }
        let mut out = String::new();
        for row in rows {
            let cell = |(text, width): (&String, &usize)| {
                let cut: String = text.chars().take(*width).collect();
                format!("{cut:<width$}")
            };
            let cells: Vec<String> = row.iter().zip(&widths).map(cell).collect();
            out += cells.join(" ").trim_end_matches(' ');
            out.push('\n');
        }
        out
    }

    fn csv(&self, style: &Style) -> String {
        let mut rows = self.texts(style);
        if style.headings {
            rows.insert(0, self.headings.clone());
        }
        let cell = |text: &String| match text.contains(['\n', '"', ',']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text.clone(),
        };
        let line = |row: &Vec<String>| row.iter().map(cell).collect::<Vec<_>>().join(",") + "\n";
        rows.iter().map(line).collect()
    }

    fn json(&self, style: &Style) -> String {
        let row = |row: &Vec<Cell>| row.iter().map(|cell| cell.value.to_json()).collect::<Value>();
        let data: Value = self.rows.iter().map(row).collect();
        let json = serde_json::json!({"data": data, "headings": self.headings});
        json_text(&json, style.pretty) + "\n"
    }

    fn html(&self, style: &Style) -> String {
        let mut out = String::from("<table border=1>\n");
        if style.headings {
            out += "  <tr>\n";
            for heading in &self.headings {
                let _ = writeln!(out, "    <th>{}</th>", html_text(heading));
            }
            out += "  </tr>\n";
        }
        for row in self.texts(style) {
            out += "  <tr>\n";
            for (heading, text) in self.headings.iter().zip(row) {
                let _ = match heading == "_uuid" {
                    true => writeln!(out, "    <td><a name=\"{text}\">{}</a></td>", text.get(..8).unwrap_or(&text)),
                    false => writeln!(out, "    <td>{}</td>", html_text(&text)),
                };
            }
            out += "  </tr>\n";
        }
        out + "</table>\n"
    }
}

/// Escaped, with a link for each UUID.
fn html_text(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(uuid) = rest.get(..36).filter(|part| parse_uuid(part).is_some()) {
            let _ = write!(out, "<a href=\"#{uuid}\">{}</a>", &uuid[..8]);
            rest = &rest[36..];
            continue;
        }
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            _ => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// An atom as JSON has it: a number, `true`, `false` or a string.
pub fn plain_atom(atom: &Atom) -> Value {
    match atom {
        Atom::Uuid(uuid) => uuid.to_string().into(),
        other => other.to_json(),
    }
}

/// A set as a list, a map as an object.
pub fn plain(value: &Datum) -> Value {
    let key = |atom: &Atom| match atom {
        Atom::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Datum::Set(set) => set.iter().map(plain_atom).collect(),
        Datum::Map(map) => map.iter().map(|(k, v)| (key(k), plain_atom(v))).collect::<serde_json::Map<_, _>>().into(),
    }
}

/// As [`plain`]; what can be one value at most is that value, or `null`.
pub fn plain_column(value: &Datum, kind: &ColumnType) -> Value {
    match value {
        Datum::Set(_) if kind.max == 1 => value.scalar().map_or(Value::Null, plain_atom),
        _ => plain(value),
    }
}

/// On one line, or indented with the closing brackets behind the last element.
pub fn json_text(json: &Value, pretty: bool) -> String {
    match pretty {
        true => indented(json, 1),
        false => json.to_string(),
    }
}

fn indented(json: &Value, depth: usize) -> String {
    let (open, close, items): (char, char, Vec<String>) = match json {
        Value::Array(elements) => {
            let items = elements.iter().map(|value| indented(value, depth + 1));
            ('[', ']', items.collect())
        }
        Value::Object(members) => {
            let item = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(name.as_str()), indented(value, depth + 1))
            };
            ('{', '}', members.iter().map(item).collect())
        }
        scalar => return scalar.to_string(),
    };
    if items.is_empty() {
        return format!("{open}{close}");
    }
    let margin = format!("\n{}", "  ".repeat(depth));
    format!("{open}{margin}{}{close}", items.join(&format!(",{margin}")))
}
