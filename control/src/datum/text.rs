//! How do people write values? The text form of `ovs-vsctl`: `eth0`, `[1, 2]`, `{key=value}`.
//!
//! A string is bare where it reads back as itself, else quoted as in JSON. The error texts are those of
//! `ovs-vsctl`, which scripts compare.

use super::{Atom, Datum, DatumError, Real, parse_uuid};
use crate::schema::{AtomType, BaseType, ColumnType};
use std::fmt;
use uuid::Uuid;

/// The most values that one range such as `10-20` may stand for.
pub const RANGE_MAX: i64 = 4096;

/// Finds or makes the row that `@name` stands for.
pub type Symbols<'a> = &'a mut dyn FnMut(&str) -> Result<Uuid, String>;

/// Whether a string has to be quoted to be read back as itself.
fn needs_quotes(text: &str) -> bool {
    let mut bytes = text.bytes();
    !bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        || !bytes.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
        || matches!(text, "true" | "false")
        || parse_uuid(text).is_some()
}

/// A string as a JSON string.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Bare if that reads back as itself, else quoted.
pub fn quote_if_needed(text: &str) -> String {
    if needs_quotes(text) { quote(text) } else { text.to_owned() }
}

pub(super) fn format_atom(atom: &Atom, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match atom {
        Atom::Integer(n) => write!(f, "{n}"),
        Atom::Real(r) => write!(f, "{}", r.get()),
        Atom::Boolean(b) => write!(f, "{b}"),
        Atom::String(s) => f.write_str(&quote_if_needed(s)),
        Atom::Uuid(u) => write!(f, "{u}"),
    }
}

/// Without quotes.
fn bare_atom(atom: &Atom) -> String {
    match atom {
        Atom::String(s) => s.clone(),
        other => other.to_string(),
    }
}

impl Datum {
    /// `value`, `[a, b]` or `{k=v, ...}`; a set that can hold at most one is printed without brackets if it does.
    pub fn to_text(&self, column: &ColumnType) -> String {
        match self {
            Datum::Map(map) => {
                let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }
            Datum::Set(set) => {
                let atoms: Vec<String> = set.iter().map(Atom::to_string).collect();
                let text = atoms.join(", ");
                if column.max > 1 || set.is_empty() { format!("[{text}]") } else { text }
            }
        }
    }

    /// For scripts: values separated by spaces, nothing quoted.
    pub fn to_bare(&self) -> String {
        let parts: Vec<String> = match self {
            Datum::Map(map) => map.iter().map(|(k, v)| format!("{}={}", bare_atom(k), bare_atom(v))).collect(),
            Datum::Set(set) => set.iter().map(bare_atom).collect(),
        };
        parts.join(" ")
    }

    /// Reads what a user typed for a column: `a`, `a,b`, `[a, b]`, `k=v,k=v`, `{k=v}`; integer sets also `10-20`.
    pub fn parse(text: &str, column: &ColumnType, symbols: Symbols<'_>) -> Result<Datum, DatumError> {
        let datum = Datum::parse_any_size(text, column, symbols)?;
        let count = datum.len();
        let complaint = |what: &str, bound: u32| {
            let elements = if column.is_map() { "pair(s)" } else { "value(s)" };
            Err(DatumError::Syntax(format!("{text}: {count} {elements} specified but the {what} number is {bound}")))
        };
        if count < column.min as usize {
            complaint("minimum", column.min)
        } else if count > column.max as usize {
            complaint("maximum", column.max)
        } else {
            Ok(datum)
        }
    }

    /// As [`Datum::parse`], but for the number of elements (conditions and mutations may have fewer).
    pub fn parse_any_size(text: &str, column: &ColumnType, symbols: Symbols<'_>) -> Result<Datum, DatumError> {
        let (open, close) = if column.is_map() { ('{', '}') } else { ('[', ']') };
        let mut cursor = Cursor { text, rest: text, column };
        cursor.spaces();
        let bracketed = cursor.take(open);
        let mut items = Vec::new();
        cursor.spaces();
        let ends = |rest: &str| rest.is_empty() || (bracketed && rest.starts_with(close));
        while !ends(cursor.rest) {
            cursor.item(&mut items, symbols)?;
            cursor.spaces();
            cursor.take(',');
            cursor.spaces();
        }
        if bracketed && !cursor.take(close) {
            return cursor.error(&format!("missing \"{close}\" at end of data"));
        }
        cursor.spaces();
        if !cursor.rest.is_empty() {
            return cursor.error(&format!("trailing garbage after \"{close}\""));
        }
        let count = items.len();
        let (datum, kind) = if column.is_map() {
            (Datum::from_iter(items.into_iter().filter_map(|(k, v)| Some((k, v?)))), "map contains duplicate key")
        } else {
            (Datum::from_iter(items.into_iter().map(|(k, _)| k)), "set contains duplicate value")
        };
        if datum.len() < count { cursor.error(kind) } else { Ok(datum) }
    }
}

impl Atom {
    /// Reads one atom, all of `text`, and checks it against `base`.
    pub fn parse(text: &str, base: &BaseType, symbols: Symbols<'_>) -> Result<Atom, DatumError> {
        let column = ColumnType { key: base.clone(), value: None, min: 1, max: 1 };
        let mut cursor = Cursor { text, rest: text, column: &column };
        let token = cursor.token()?;
        if !cursor.rest.is_empty() {
            return cursor.unexpected();
        }
        atom(&token, base, symbols)
    }
}

/// A word as typed, with its quotes if any.
type Token = String;

struct Cursor<'a> {
    text: &'a str,
    rest: &'a str,
    column: &'a ColumnType,
}

impl Cursor<'_> {
    fn error<T>(&self, problem: &str) -> Result<T, DatumError> {
        Err(DatumError::Syntax(format!("{}: {problem}", self.text)))
    }

    fn unexpected<T>(&self) -> Result<T, DatumError> {
        match self.rest.chars().next() {
            Some(found) => self.error(&format!("unexpected \"{found}\" parsing {}", self.column)),
            None => self.error(&format!("unexpected end of argument parsing {}", self.column)),
        }
    }

    fn spaces(&mut self) {
        self.rest = self.rest.trim_start_matches(' ');
    }

    fn take(&mut self, wanted: char) -> bool {
        let after = self.rest.strip_prefix(wanted);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// One element or pair; a range adds several.
    fn item(&mut self, items: &mut Vec<(Atom, Option<Atom>)>, symbols: Symbols<'_>) -> Result<(), DatumError> {
        let token = self.token()?;
        let Some(value) = &self.column.value else {
            return match range(&token, &self.column.key)? {
                Some(range) => {
                    items.extend(range.map(|n| (Atom::Integer(n), None)));
                    Ok(())
                }
                None => {
                    items.push((atom(&token, &self.column.key, symbols)?, None));
                    Ok(())
                }
            };
        };
        let key = atom(&token, &self.column.key, symbols)?;
        self.spaces();
        if !self.take('=') {
            let found: String = self.rest.chars().take(1).collect();
            return self.error(&format!("syntax error at \"{found}\" expecting \"=\""));
        }
        self.spaces();
        let token = self.token()?;
        items.push((key, Some(atom(&token, value, symbols)?)));
        Ok(())
    }

    /// Up to the next delimiter outside quotes.
    fn token(&mut self) -> Result<Token, DatumError> {
        let (mut quoted, mut escaped) = (false, false);
        let end = self.rest.find(|c| {
            let ends = !quoted && !escaped && ":=, []{}!<>".contains(c);
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        if quoted {
            return Err(DatumError::Syntax(format!("{}: quoted string extends past end of argument", self.rest)));
        }
        if escaped {
            return Err(DatumError::Syntax(format!("{}: backslash at end of argument", self.rest)));
        }
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if word.is_empty() {
            return self.unexpected();
        }
        self.rest = rest;
        Ok(word.to_owned())
    }
}

/// The string that a token stands for: itself, or what its quotes hold.
fn unquote(token: &str) -> Result<String, DatumError> {
    if !token.starts_with('"') {
        return Ok(token.to_owned());
    }
    let error = |problem: &str| Err(DatumError::Syntax(format!("{token}: {problem}")));
    if token.len() < 2 || !token.ends_with('"') {
        return error("missing quote at end of quoted string");
    }
    let mut json = String::with_capacity(token.len());
    for c in token.chars() {
        match c {
            '\0'..'\x20' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => json.push(c),
        }
    }
    match serde_json::from_str::<String>(&json) {
        Ok(text) if text.contains('\0') => error("bad escape: \\u0000 is not allowed"),
        Ok(text) => Ok(text),
        Err(_) => error(&bad_escape(token)),
    }
}

/// What is wrong with a quoted string that is not JSON.
fn bad_escape(token: &str) -> String {
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        match (c == '\\').then(|| chars.next()).flatten() {
            None | Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {}
            Some('u') => return "malformed \\u escape".to_owned(),
            Some(other) => return format!("bad escape \\{other}"),
        }
    }
    "missing quote at end of quoted string".to_owned()
}

/// `FIRST-LAST` where integers go; `None` if it is a single value. Both ends obey the column's limits.
fn range(text: &str, base: &BaseType) -> Result<Option<std::ops::RangeInclusive<i64>>, DatumError> {
    if base.kind != AtomType::Integer || text.parse::<i64>().is_ok() {
        return Ok(None);
    }
    let invalid = || DatumError::Syntax(format!("\"{text}\" is not a valid integer or range"));
    // The hyphen after the first character: the first one may be a sign.
    let hyphen = text.char_indices().skip(1).find(|(_, c)| *c == '-').map(|(at, _)| at).ok_or_else(invalid)?;
    let first: i64 = text[..hyphen].parse().map_err(|_| invalid())?;
    let last: i64 = text[hyphen + 1..].parse().map_err(|_| invalid())?;
    if last < first {
        return Err(DatumError::Syntax(format!("\"{text}\" is not a valid range. Range end cannot be before start.")));
    }
    base.check(&Atom::Integer(first))?;
    base.check(&Atom::Integer(last))?;
    if last.saturating_sub(first) >= RANGE_MAX {
        return Err(DatumError::Constraint(format!(
            "Range \"{first}-{last}\" is too big. Maximum allowed size is {RANGE_MAX}."
        )));
    }
    Ok(Some(first..=last))
}

fn atom(text: &str, base: &BaseType, symbols: Symbols<'_>) -> Result<Atom, DatumError> {
    let invalid = |what: &str| DatumError::Syntax(format!("\"{text}\" is not a valid {what}"));
    let atom = match base.kind {
        AtomType::Integer => Atom::Integer(text.parse().map_err(|_| invalid("integer or range"))?),
        AtomType::Real => Atom::Real(text.parse().ok().and_then(Real::new).ok_or_else(|| invalid("real number"))?),
        AtomType::Boolean => Atom::Boolean(match text {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" => false,
            _ => return Err(invalid("boolean (use \"true\" or \"false\")")),
        }),
        AtomType::String => Atom::from(unquote(text)?),
        AtomType::Uuid if text.starts_with('@') => Atom::Uuid(symbols(text).map_err(DatumError::Syntax)?),
        AtomType::Uuid => Atom::Uuid(parse_uuid(text).ok_or_else(|| invalid("UUID"))?),
    };
    base.check(&atom)?;
    Ok(atom)
}
