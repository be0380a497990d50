//! What can a column hold, and how does it look on the wire (RFC 7047 §5.1)?
//!
//! An [`Atom`] is one value, a [`Datum`] a sorted set of atoms or a map between them. A scalar column is a
//! set of exactly one. The human text form (`[a, b]`, `{k=v}`) is in [`text`].

use crate::schema::{AtomType, BaseType, ColumnType};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use uuid::Uuid;

mod diff;
pub mod text;

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatumError {
    /// The value is not of the column's shape.
    #[error("{0}")]
    Syntax(String),
    /// The value has the right shape but is outside the column's range, enumeration or size.
    #[error("constraint violation: {0}")]
    Constraint(String),
    /// JSON that is not of the column's shape.
    #[error("{problem}: {json}")]
    Json {
        /// What was expected.
        problem: String,
        /// The part that is something else.
        json: Box<Value>,
    },
    /// A set or map has an element twice.
    #[error("{0}")]
    Duplicate(&'static str),
}

impl DatumError {
    fn json(problem: impl Into<String>, json: &Value) -> DatumError {
        DatumError::Json { problem: problem.into(), json: Box::new(json.clone()) }
    }

    /// The text without the `constraint violation` in front.
    pub fn details(&self) -> &str {
        match self {
            DatumError::Syntax(text) | DatumError::Constraint(text) => text,
            DatumError::Json { problem, .. } => problem,
            DatumError::Duplicate(text) => text,
        }
    }
}

/// A finite real number with a total order (JSON has no NaN; minus zero is read as zero).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Real(f64);

impl Real {
    /// `None` for NaN and the infinities.
    pub fn new(value: f64) -> Option<Real> {
        value.is_finite().then_some(Real(value + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Real {}

impl Ord for Real {
    fn cmp(&self, other: &Real) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Real) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// 64-bit signed.
    Integer(i64),
    /// Finite.
    Real(Real),
    /// `true` or `false`.
    Boolean(bool),
    /// UTF-8, without NUL.
    String(String),
    /// A row.
    Uuid(Uuid),
}

impl Atom {
    /// The value that a column of this type starts with.
    pub fn default_of(kind: AtomType) -> Atom {
        match kind {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(Real(0.0)),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(String::new()),
            AtomType::Uuid => Atom::Uuid(Uuid::nil()),
        }
    }

    /// Which of the five types it is.
    pub fn kind(&self) -> AtomType {
        match self {
            Atom::Integer(_) => AtomType::Integer,
            Atom::Real(_) => AtomType::Real,
            Atom::Boolean(_) => AtomType::Boolean,
            Atom::String(_) => AtomType::String,
            Atom::Uuid(_) => AtomType::Uuid,
        }
    }

    /// The wire form.
    pub fn to_json(&self) -> Value {
        match self {
            Atom::Integer(n) => Value::from(*n),
            // A whole number is written as such.
            Atom::Real(Real(r)) if r.fract() == 0.0 && r.abs() < EXACT_MAX => Value::from(*r as i64),
            Atom::Real(r) => Value::from(r.get()),
            Atom::Boolean(b) => Value::from(*b),
            Atom::String(s) => Value::from(s.as_str()),
            Atom::Uuid(u) => Value::from(vec!["uuid".to_owned(), u.to_string()]),
        }
    }

    /// Reads the wire form and checks range and enumeration. `named` gives the row of a `named-uuid`.
    pub fn from_json(json: &Value, base: &BaseType, named: Named<'_>) -> Result<Atom, DatumError> {
        let atom = Atom::of_kind(json, base.kind, named)?;
        base.check(&atom)?;
        Ok(atom)
    }

    /// Reads the wire form of an atom of type `kind`, without constraints.
    pub fn of_kind(json: &Value, kind: AtomType, named: Named<'_>) -> Result<Atom, DatumError> {
        let atom = match kind {
            AtomType::Integer => integer(json).map(Atom::Integer),
            AtomType::Real => json.as_f64().and_then(Real::new).map(Atom::Real),
            AtomType::Boolean => json.as_bool().map(Atom::Boolean),
            AtomType::String => json.as_str().filter(|s| !s.contains('\0')).map(|s| Atom::String(s.to_owned())),
            AtomType::Uuid => return uuid(json, named).map(Atom::Uuid),
        };
        atom.ok_or_else(|| DatumError::json(format!("expected {kind}"), json))
    }
}

/// 2^53: every integer below is exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// An integer, also when written like `3.0`.
fn integer(json: &Value) -> Option<i64> {
    json.as_i64().or_else(|| match json.as_f64() {
        Some(real) if json.is_f64() && real.fract() == 0.0 && real.abs() < EXACT_MAX => Some(real as i64),
        _ => None,
    })
}

fn uuid(json: &Value, named: Named<'_>) -> Result<Uuid, DatumError> {
    if let Value::Array(pair) = json
        && let [Value::String(tag), Value::String(text)] = pair.as_slice()
    {
        match tag.as_str() {
            "uuid" => {
                return parse_uuid(text)
                    .ok_or_else(|| DatumError::json(format!("\"{text}\" is not a valid UUID"), json));
            }
            "named-uuid" => {
                return named(text).ok_or_else(|| DatumError::json("there are no names of rows here", json));
            }
            _ => {}
        }
    }
    Err(DatumError::json("expected [\"uuid\", <string>]", json))
}

/// A UUID in its one canonical form: 36 characters with hyphens, no braces, no prefix.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

/// Finds the row that a `named-uuid` stands for.
pub type Named<'a> = &'a dyn Fn(&str) -> Option<Uuid>;

/// For places where no `named-uuid` is known.
pub fn no_names(_: &str) -> Option<Uuid> {
    None
}

/// The value of one column of one row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Datum {
    /// Also scalars (exactly one) and optional values (at most one).
    Set(BTreeSet<Atom>),
    /// Keys to values.
    Map(BTreeMap<Atom, Atom>),
}

impl Datum {
    /// What a column of this type starts with: empty if it may be, else one default atom, be it allowed or not (RFC 7047 §5.2.1).
    pub fn default_of(column: &ColumnType) -> Datum {
        let key = || Atom::default_of(column.key.kind);
        match &column.value {
            None if column.min == 0 => Datum::Set(BTreeSet::new()),
            None => Datum::Set([key()].into()),
            Some(_) if column.min == 0 => Datum::Map(BTreeMap::new()),
            Some(value) => Datum::Map([(key(), Atom::default_of(value.kind))].into()),
        }
    }

    /// Reads the wire form and checks every constraint of the column.
    pub fn from_json(json: &Value, column: &ColumnType, named: Named<'_>) -> Result<Datum, DatumError> {
        let datum = Datum::from_json_any_size(json, column, named)?;
        column.check_size(datum.len()).map_err(|problem| DatumError::json(problem.details(), json))?;
        Ok(datum)
    }

    /// As [`Datum::from_json`], but for the number of elements (conditions and mutations may have fewer).
    pub fn from_json_any_size(json: &Value, column: &ColumnType, named: Named<'_>) -> Result<Datum, DatumError> {
        match &column.value {
            None => Datum::set_from_json(json, &column.key, named),
            Some(value) => Datum::map_from_json(json, &column.key, value, named),
        }
    }

    fn set_from_json(json: &Value, key: &BaseType, named: Named<'_>) -> Result<Datum, DatumError> {
        let Some(elements) = tagged(json, "set") else {
            if json.get(0).is_some_and(|tag| tag == "set") {
                return Err(DatumError::json("expected [\"set\", <array>]", json));
            }
            return Ok(Datum::Set([Atom::from_json(json, key, named)?].into()));
        };
        let mut set = BTreeSet::new();
        for element in elements {
            if !set.insert(Atom::from_json(element, key, named)?) {
                return Err(DatumError::Duplicate("set contains duplicate"));
            }
        }
        Ok(Datum::Set(set))
    }

    fn map_from_json(json: &Value, key: &BaseType, value: &BaseType, named: Named<'_>) -> Result<Datum, DatumError> {
        let pairs = tagged(json, "map").ok_or_else(|| DatumError::json("expected [\"map\", <array>]", json))?;
        let mut map = BTreeMap::new();
        for pair in pairs {
            let [k, v] = pair.as_array().map_or(&[][..], Vec::as_slice) else {
                return Err(DatumError::json("expected 2-element array", pair));
            };
            let entry = (Atom::from_json(k, key, named)?, Atom::from_json(v, value, named)?);
            if map.insert(entry.0, entry.1).is_some() {
                return Err(DatumError::Duplicate("map contains duplicate key"));
            }
        }
        Ok(Datum::Map(map))
    }

    /// The wire form: a set of one is the bare atom.
    pub fn to_json(&self) -> Value {
        match self {
            Datum::Set(set) if set.len() == 1 => set.iter().next().map_or(Value::Null, Atom::to_json),
            Datum::Set(set) => {
                Value::from(vec![Value::from("set"), Value::Array(set.iter().map(Atom::to_json).collect())])
            }
            Datum::Map(map) => Value::from(vec![
                Value::from("map"),
                map.iter().map(|(k, v)| Value::from(vec![k.to_json(), v.to_json()])).collect(),
            ]),
        }
    }

    /// Number of elements or pairs.
    pub fn len(&self) -> usize {
        match self {
            Datum::Set(set) => set.len(),
            Datum::Map(map) => map.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The only element of a set of one.
    pub fn scalar(&self) -> Option<&Atom> {
        match self {
            Datum::Set(set) if set.len() == 1 => set.first(),
            _ => None,
        }
    }

    /// The only element, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match self.scalar() {
            Some(Atom::String(s)) => Some(s),
            _ => None,
        }
    }

    /// The only element, if it is an integer.
    pub fn as_integer(&self) -> Option<i64> {
        match self.scalar() {
            Some(Atom::Integer(n)) => Some(*n),
            _ => None,
        }
    }

    /// The only element, if it is a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.scalar() {
            Some(Atom::Boolean(b)) => Some(*b),
            _ => None,
        }
    }

    /// The only element, if it is a row.
    pub fn as_uuid(&self) -> Option<Uuid> {
        match self.scalar() {
            Some(Atom::Uuid(u)) => Some(*u),
            _ => None,
        }
    }

    /// The elements of a set; nothing for a map.
    pub fn elements(&self) -> impl Iterator<Item = &Atom> {
        match self {
            Datum::Set(set) => Some(set.iter()),
            Datum::Map(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// The pairs of a map; nothing for a set.
    pub fn pairs(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        match self {
            Datum::Map(map) => Some(map.iter()),
            Datum::Set(_) => None,
        }
        .into_iter()
        .flatten()
    }

    /// Rows in a set.
    pub fn uuids(&self) -> impl Iterator<Item = Uuid> {
        self.elements().filter_map(|atom| match atom {
            Atom::Uuid(u) => Some(*u),
            _ => None,
        })
    }

    /// Integers in a set.
    pub fn integers(&self) -> impl Iterator<Item = i64> {
        self.elements().filter_map(|atom| match atom {
            Atom::Integer(n) => Some(*n),
            _ => None,
        })
    }

    /// Strings in a set.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.elements().filter_map(|atom| match atom {
            Atom::String(s) => Some(s.as_str()),
            _ => None,
        })
    }

    /// The value of a string key in a map of strings, such as `other_config:mac-aging-time`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs().find_map(|(k, v)| match (k, v) {
            (Atom::String(k), Atom::String(v)) if k == key => Some(v.as_str()),
            _ => None,
        })
    }
}

/// The array in `[tag, [...]]`.
fn tagged<'a>(json: &'a Value, tag: &str) -> Option<&'a [Value]> {
    match json.as_array().map(Vec::as_slice) {
        Some([Value::String(found), Value::Array(elements)]) if found == tag => Some(elements),
        _ => None,
    }
}

macro_rules! conversions {
    ($($from:ty, $value:ident => $atom:expr;)*) => {$(
        impl From<$from> for Atom {
            fn from($value: $from) -> Atom {
                $atom
            }
        }
        impl From<$from> for Datum {
            fn from($value: $from) -> Datum {
                Datum::Set([$atom].into())
            }
        }
        /// `None` is the empty set.
        impl From<Option<$from>> for Datum {
            fn from(value: Option<$from>) -> Datum {
                Datum::Set(value.into_iter().map(Atom::from).collect())
            }
        }
    )*};
}

conversions! {
    i64, value => Atom::Integer(value);
    bool, value => Atom::Boolean(value);
    &str, value => Atom::String(value.to_owned());
    String, value => Atom::String(value);
    Uuid, value => Atom::Uuid(value);
}

/// A set.
impl<A: Into<Atom>> FromIterator<A> for Datum {
    fn from_iter<I: IntoIterator<Item = A>>(atoms: I) -> Datum {
        Datum::Set(atoms.into_iter().map(Into::into).collect())
    }
}

/// A map.
impl<K: Into<Atom>, V: Into<Atom>> FromIterator<(K, V)> for Datum {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Datum {
        Datum::Map(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl fmt::Display for Atom {
    /// As `ovs-vsctl` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::format_atom(self, f)
    }
}

#[cfg(test)]
mod tests;
