//! How does a schema look on the wire (RFC 7047 §3.2)? Written for `get_schema`, read by clients.

use super::{
    AtomType, BaseType, ColumnSchema, ColumnType, DatabaseSchema, Reference, SchemaError, TableSchema, UNLIMITED,
};
use crate::datum::{Atom, Datum, no_names};
use serde_json::{Map, Value, json};

impl DatabaseSchema {
    /// The JSON form.
    pub fn to_json(&self) -> Value {
        let tables: Map<String, Value> =
            self.tables.iter().map(|(name, table)| (name.clone(), table_to_json(table))).collect();
        json!({"name": self.name, "version": self.version, "tables": tables})
    }

    /// Reads the JSON form, and checks that references and indexes name what exists.
    pub fn from_json(json: &Value) -> Result<DatabaseSchema, SchemaError> {
        let name = text(json, "name", "database")?;
        let version = json.get("version").and_then(Value::as_str).unwrap_or("0.0.0").to_owned();
        let mut schema = DatabaseSchema { name, version, tables: Default::default() };
        for (name, table) in object(json, "tables", "database")? {
            schema.tables.insert(name.clone(), table_from_json(name, table)?);
        }
        // Schemas older than the notion of a root: every table is one (RFC 7047 §3.2).
        if !schema.tables.values().any(|table| table.is_root) {
            schema.tables.values_mut().for_each(|table| table.is_root = true);
        }
        for table in schema.tables.values() {
            for column in table.columns() {
                if let Some(reference) = column.kind.references().find(|r| !schema.tables.contains_key(&r.table)) {
                    return error(
                        &format!("{}.{}", table.name, column.name),
                        &format!("refers to table \"{}\", which does not exist", reference.table),
                    );
                }
            }
        }
        Ok(schema)
    }
}

fn table_to_json(table: &TableSchema) -> Value {
    let columns: Map<String, Value> =
        table.columns().iter().map(|column| (column.name.clone(), column_to_json(column))).collect();
    let mut out = json!({"columns": columns});
    if table.rows_max != UNLIMITED {
        out["maxRows"] = table.rows_max.into();
    }
    if table.is_root {
        out["isRoot"] = true.into();
    }
    if !table.indexes.is_empty() {
        let names = |index: &Vec<usize>| index.iter().map(|i| table.columns()[*i].name.clone()).collect::<Value>();
        out["indexes"] = table.indexes.iter().map(names).collect();
    }
    out
}

fn column_to_json(column: &ColumnSchema) -> Value {
    let mut out = json!({"type": type_to_json(&column.kind)});
    if !column.mutable {
        out["mutable"] = false.into();
    }
    if column.ephemeral {
        out["ephemeral"] = true.into();
    }
    out
}

fn type_to_json(kind: &ColumnType) -> Value {
    let key = base_to_json(&kind.key);
    if kind.is_scalar() && key.is_string() {
        return key;
    }
    let mut out = json!({"key": key});
    if let Some(value) = &kind.value {
        out["value"] = base_to_json(value);
    }
    if kind.min != 1 {
        out["min"] = kind.min.into();
    }
    if kind.max == UNLIMITED {
        out["max"] = "unlimited".into();
    } else if kind.max != 1 {
        out["max"] = kind.max.into();
    }
    out
}

fn base_to_json(base: &BaseType) -> Value {
    let mut out = json!({"type": base.kind.name()});
    let mut put = |wanted: bool, name: &str, value: Value| {
        if wanted {
            out[name] = value;
        }
    };
    let allowed: Vec<Value> = base.allowed.iter().map(Atom::to_json).collect();
    put(!allowed.is_empty(), "enum", json!(["set", allowed]));
    put(base.integer_min != i64::MIN, "minInteger", base.integer_min.into());
    put(base.integer_max != i64::MAX, "maxInteger", base.integer_max.into());
    put(base.real_min != f64::MIN, "minReal", base.real_min.into());
    put(base.real_max != f64::MAX, "maxReal", base.real_max.into());
    put(base.length_min != 0, "minLength", base.length_min.into());
    put(base.length_max != UNLIMITED, "maxLength", base.length_max.into());
    if let Some(reference) = &base.reference {
        put(true, "refTable", reference.table.clone().into());
        put(reference.weak, "refType", "weak".into());
    }
    if out.as_object().is_some_and(|members| members.len() == 1) { base.kind.name().into() } else { out }
}

fn table_from_json(name: &str, json: &Value) -> Result<TableSchema, SchemaError> {
    let columns = object(json, "columns", name)?
        .iter()
        .map(|(column, json)| column_from_json(&format!("{name}.{column}"), column, json))
        .collect::<Result<Vec<_>, _>>()?;
    let mut table = TableSchema::new(name, columns);
    table.rows_max = count(json, "maxRows", UNLIMITED, name)?;
    table.is_root = flag(json, "isRoot", false, name)?;
    if let Some(indexes) = json.get("indexes") {
        let column = |value: &Value| table.column_index(value.as_str()?);
        let index = |value: &Value| value.as_array()?.iter().map(column).collect::<Option<Vec<_>>>();
        let parsed = indexes.as_array().and_then(|list| list.iter().map(index).collect::<Option<Vec<_>>>());
        match parsed {
            Some(indexes) => table.indexes = indexes,
            None => return error(name, "\"indexes\" must be lists of the table's columns"),
        }
    }
    Ok(table)
}

fn column_from_json(place: &str, name: &str, json: &Value) -> Result<ColumnSchema, SchemaError> {
    let Some(kind) = json.get("type") else {
        return error(place, "has no \"type\"");
    };
    Ok(ColumnSchema {
        name: name.to_owned(),
        kind: type_from_json(place, kind)?,
        mutable: flag(json, "mutable", true, place)?,
        ephemeral: flag(json, "ephemeral", false, place)?,
    })
}

fn type_from_json(place: &str, json: &Value) -> Result<ColumnType, SchemaError> {
    if json.is_string() {
        return Ok(ColumnType { key: base_from_json(place, json)?, value: None, min: 1, max: 1 });
    }
    let Some(key) = json.get("key") else {
        return error(place, "its type has no \"key\"");
    };
    let max = match json.get("max") {
        Some(Value::String(word)) if word == "unlimited" => UNLIMITED,
        _ => count(json, "max", 1, place)?,
    };
    let kind = ColumnType {
        key: base_from_json(place, key)?,
        value: json.get("value").map(|value| base_from_json(place, value)).transpose()?,
        min: count(json, "min", 1, place)?,
        max,
    };
    if kind.min > 1 || kind.max == 0 || kind.min > kind.max {
        return error(place, "\"min\" must be 0 or 1, and \"max\" at least 1");
    }
    Ok(kind)
}

fn base_from_json(place: &str, json: &Value) -> Result<BaseType, SchemaError> {
    let name = match json {
        Value::String(name) => name.clone(),
        _ => text(json, "type", place)?,
    };
    let kinds = [AtomType::Integer, AtomType::Real, AtomType::Boolean, AtomType::String, AtomType::Uuid];
    let Some(kind) = kinds.into_iter().find(|kind| kind.name() == name) else {
        return error(place, &format!("\"{name}\" is not a type"));
    };
    let mut base = BaseType::of(kind);
    if let Some(allowed) = json.get("enum") {
        let list = ColumnType { key: BaseType::of(kind), value: None, min: 0, max: UNLIMITED };
        match Datum::from_json(allowed, &list, &no_names) {
            Ok(Datum::Set(set)) => base.allowed = set,
            _ => return error(place, "\"enum\" must be a set of values of its type"),
        }
    }
    let integer = |name: &str, default| json.get(name).map_or(Some(default), Value::as_i64);
    let real = |name: &str, default| json.get(name).map_or(Some(default), Value::as_f64);
    let bounds = || {
        Some((
            (integer("minInteger", i64::MIN)?, integer("maxInteger", i64::MAX)?),
            (real("minReal", f64::MIN)?, real("maxReal", f64::MAX)?),
        ))
    };
    let Some((integers, reals)) = bounds() else {
        return error(place, "its bounds must be numbers");
    };
    (base.integer_min, base.integer_max) = integers;
    (base.real_min, base.real_max) = reals;
    base.length_min = count(json, "minLength", 0, place)?;
    base.length_max = count(json, "maxLength", UNLIMITED, place)?;
    if let Some(table) = json.get("refTable") {
        let Some(table) = table.as_str() else {
            return error(place, "\"refTable\" must be a name");
        };
        let weak = match json.get("refType").map_or(Some("strong"), Value::as_str) {
            Some("strong") => false,
            Some("weak") => true,
            _ => return error(place, "\"refType\" must be \"strong\" or \"weak\""),
        };
        base.reference = Some(Reference { table: table.to_owned(), weak });
    }
    Ok(base)
}

fn error<T>(place: &str, problem: &str) -> Result<T, SchemaError> {
    Err(SchemaError { place: place.to_owned(), problem: problem.to_owned() })
}

fn text(json: &Value, name: &str, place: &str) -> Result<String, SchemaError> {
    match json.get(name).and_then(Value::as_str) {
        Some(text) => Ok(text.to_owned()),
        None => error(place, &format!("\"{name}\" must be a string")),
    }
}

fn object<'a>(json: &'a Value, name: &str, place: &str) -> Result<&'a Map<String, Value>, SchemaError> {
    match json.get(name).and_then(Value::as_object) {
        Some(object) => Ok(object),
        None => error(place, &format!("\"{name}\" must be an object")),
    }
}

fn flag(json: &Value, name: &str, default: bool, place: &str) -> Result<bool, SchemaError> {
    match json.get(name).map_or(Some(default), Value::as_bool) {
        Some(flag) => Ok(flag),
        None => error(place, &format!("\"{name}\" must be true or false")),
    }
}

fn count(json: &Value, name: &str, default: u32, place: &str) -> Result<u32, SchemaError> {
    let read = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    match json.get(name).map_or(Some(default), read) {
        Some(count) => Ok(count),
        None => error(place, &format!("\"{name}\" must be a number from 0 to {UNLIMITED}")),
    }
}
