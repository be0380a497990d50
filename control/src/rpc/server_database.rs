//! What do clients find in the database `_Server`, which describes the server itself?

use crate::database::Database;
use crate::datum::Datum;
use crate::schema::DatabaseSchema;
use crate::transaction::Transaction;
use serde_json::json;
use uuid::Uuid;

/// Its name.
pub(super) const NAME: &str = "_Server";

/// With one row for itself and one for `served`: standalone, connected, leading.
pub(super) fn build(served: &DatabaseSchema) -> Database {
    let optional = |kind: &str| json!({"type": {"key": kind, "min": 0, "max": 1}});
    let model = json!({"type": "string", "enum": ["set", ["standalone", "clustered", "relay"]]});
    let schema = json!({"name": NAME, "version": "1.2.0", "tables": {"Database": {"isRoot": true, "columns": {
        "name": {"type": "string"},
        "model": {"type": {"key": model}},
        "connected": {"type": "boolean"},
        "leader": {"type": "boolean"},
        "schema": optional("string"),
        "cid": optional("uuid"),
        "sid": optional("uuid"),
        "index": optional("integer"),
    }}}});
    let schema = DatabaseSchema::from_json(&schema).unwrap_or_else(|error| unreachable!("our own: {error}"));
    let mut database = Database::new(schema.clone());
    let mut fresh = Uuid::new_v4;
    let mut tx = Transaction::new(&database, &mut fresh);
    for described in [&schema, served] {
        let columns = [
            Datum::from(described.name.as_str()),
            Datum::from("standalone"),
            Datum::from(true),
            Datum::from(true),
            Datum::from(described.to_json().to_string()),
        ];
        let Ok(row) = tx.insert(0, None) else { continue };
        for (name, value) in ["name", "model", "connected", "leader", "schema"].into_iter().zip(columns) {
            if let Some(at) = schema.tables["Database"].column_index(name) {
                row.columns[at] = value;
            }
        }
    }
    if let Ok(delta) = tx.finish() {
        database.apply(&delta);
    }
    database
}
