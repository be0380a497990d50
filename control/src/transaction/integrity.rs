//! What must hold between rows when a transaction ends, and which rows does that remove (RFC 7047 §3.2)?
//!
//! In this order: strong references point to rows that exist; rows of non-root tables that nobody refers to go, and
//! with them what only they referred to; weak references to rows that are gone go; tables have no more rows than
//! allowed; indexes are unique. Only what the transaction touched is looked at.

use super::{OperationError, Transaction};
use crate::database::{Change, Delta, Link, Row, RowId, TableId};
use crate::datum::Datum;
use crate::schema::UNLIMITED;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub(super) fn finish(mut tx: Transaction<'_>) -> Result<Delta, OperationError> {
    forget_unchanged(&mut tx);
    let mut counts = Counts::default();
    let changed: Vec<RowId> = tx.changes.keys().copied().collect();
    for id in &changed {
        counts.add_changed(&tx, *id)?;
    }
    for id in changed.iter().filter(|id| tx.row(**id).is_none()) {
        counts.check_deleted(&tx, *id)?;
    }
    let mut suspects: BTreeSet<RowId> = changed.into_iter().chain(counts.0.keys().copied()).collect();
    while !suspects.is_empty() {
        collect_garbage(&mut tx, &mut counts, std::mem::take(&mut suspects));
        suspects = drop_weak_references(&mut tx, &mut counts)?;
    }
    forget_unchanged(&mut tx);
    check_row_limits(&tx)?;
    check_indexes(&tx)?;
    Ok(delta(tx))
}

/// Changes that change nothing are none.
fn forget_unchanged(tx: &mut Transaction<'_>) {
    let database = tx.database;
    tx.changes.retain(|id, new| match (database.shared(*id), new) {
        (Some(old), Some(new)) => old.columns != new.columns,
        (None, None) => false,
        _ => true,
    });
}

/// How many strong references each row gained or lost in this transaction, those from itself not counted.
#[derive(Default)]
struct Counts(BTreeMap<RowId, i64>);

impl Counts {
    fn of(&self, tx: &Transaction<'_>, id: RowId) -> i64 {
        let stored = tx.database.tables()[id.table].strong_count(&id.uuid);
        i64::try_from(stored).unwrap_or(i64::MAX) + self.0.get(&id).copied().unwrap_or(0)
    }

    fn add(&mut self, target: RowId, difference: i64) {
        *self.0.entry(target).or_default() += difference;
    }

    /// Counts what the row `id` refers to now and did not before, and the reverse.
    fn add_changed(&mut self, tx: &Transaction<'_>, id: RowId) -> Result<(), OperationError> {
        let old = tx.database.shared(id).map(AsRef::as_ref);
        let new = tx.row(id);
        for link in strong_links(tx, id.table) {
            let before = old.map(|row: &Row| &row.columns[link.column]);
            let after = new.map(|row| &row.columns[link.column]);
            for target in after.map_or(vec![], |after| link.targets(after, before)) {
                if target != id {
                    self.add(target, 1);
                }
                if tx.row(target).is_none() && tx.database.shared(target).is_none() {
                    return Err(nonexistent(tx, id, link, target));
                }
            }
            for target in before.map_or(vec![], |before| link.targets(before, after)) {
                if target != id {
                    self.add(target, -1);
                }
            }
        }
        Ok(())
    }

    /// What is deleted must have no references left.
    fn check_deleted(&self, tx: &Transaction<'_>, id: RowId) -> Result<(), OperationError> {
        let count = self.of(tx, id);
        if count <= 0 {
            return Ok(());
        }
        let name = &tx.schema(id.table).name;
        Err(OperationError::new(
            "referential integrity violation",
            format!("cannot delete {name} row {} because of {count} remaining reference(s)", id.uuid),
        ))
    }
}

fn strong_links<'a>(tx: &Transaction<'a>, table: TableId) -> impl Iterator<Item = &'a Link> + use<'a> {
    tx.database.tables()[table].links.iter().filter(|link| !link.weak)
}

fn nonexistent(tx: &Transaction<'_>, id: RowId, link: &Link, target: RowId) -> OperationError {
    let schema = tx.schema(id.table);
    OperationError::new(
        "referential integrity violation",
        format!(
            "Table {} column {} row {} references nonexistent row {} in table {}.",
            schema.name,
            schema.columns()[link.column].name,
            id.uuid,
            target.uuid,
            tx.schema(link.target).name
        ),
    )
}

/// Deletes rows of non-root tables that have no strong reference, and what loses its last one by that.
fn collect_garbage(tx: &mut Transaction<'_>, counts: &mut Counts, mut suspects: BTreeSet<RowId>) {
    while let Some(id) = suspects.pop_first() {
        if tx.schema(id.table).is_root || counts.of(tx, id) > 0 {
            continue;
        }
        let Some(row) = tx.row(id) else { continue };
        let lost: Vec<RowId> = strong_links(tx, id.table)
            .flat_map(|link| link.targets(&row.columns[link.column], None))
            .filter(|target| *target != id)
            .collect();
        tx.delete(id);
        for target in lost {
            counts.add(target, -1);
            suspects.insert(target);
        }
    }
}

/// Removes weak references to rows that are gone. Yields rows that lost a strong reference by that (a pair of a map may
/// hold one of each kind).
fn drop_weak_references(tx: &mut Transaction<'_>, counts: &mut Counts) -> Result<BTreeSet<RowId>, OperationError> {
    let mut to_check = BTreeSet::new();
    for (id, new) in &tx.changes {
        let table = &tx.database.tables()[id.table];
        if new.is_none() {
            to_check.extend(table.weak_referrers(&id.uuid));
        } else if table.links.iter().any(|link| link.weak) {
            to_check.insert(*id);
        }
    }
    let mut suspects = BTreeSet::new();
    for id in to_check {
        let links = &tx.database.tables()[id.table].links;
        for link in links.iter().filter(|link| link.weak) {
            let Some(row) = tx.row(id) else { break };
            let datum = &row.columns[link.column];
            let targets = link.targets(datum, None);
            let dangling: BTreeSet<RowId> = targets.into_iter().filter(|target| tx.row(*target).is_none()).collect();
            if dangling.is_empty() {
                continue;
            }
            let pruned = without(datum, link, &dangling);
            for strong in strong_links(tx, id.table).filter(|strong| strong.column == link.column) {
                for target in strong.targets(datum, Some(&pruned)).into_iter().filter(|target| *target != id) {
                    counts.add(target, -1);
                    suspects.insert(target);
                }
            }
            let schema = tx.schema(id.table);
            let column = &schema.columns()[link.column];
            if pruned.len() < column.kind.min as usize {
                return Err(too_few(tx, id, &column.name, &dangling));
            }
            if let Some(row) = tx.modify(id) {
                row.columns[link.column] = pruned;
            }
        }
    }
    Ok(suspects)
}

/// The complaint about a column that may not be empty, and refers only to rows that do not exist (any more).
fn too_few(tx: &Transaction<'_>, id: RowId, column: &str, dangling: &BTreeSet<RowId>) -> OperationError {
    let inserted = if tx.database.shared(id).is_none() { " (inserted within this transaction)" } else { "" };
    let (table, row) = (&tx.schema(id.table).name, format!("{}{inserted}", id.uuid));
    if dangling.iter().any(|target| target.uuid.is_nil()) {
        return OperationError::constraint(format!(
            "Weak reference column \"{column}\" in \"{table}\" row {row} contained all-zeros UUID (probably as the default \
             value for this column) but deleting this value caused a constraint volation because this column is not allowed \
             to be empty."
        ));
    }
    OperationError::constraint(format!(
        "Deletion of {} weak reference(s) to deleted (or never-existing) rows from column \"{column}\" in \"{table}\" row \
         {row} caused this column to become empty, but constraints on this column disallow an empty column.",
        dangling.len()
    ))
}

fn without(datum: &Datum, link: &Link, dangling: &BTreeSet<RowId>) -> Datum {
    let keep = |datum: Datum| !link.targets(&datum, None).iter().any(|target| dangling.contains(target));
    match datum {
        Datum::Set(set) => {
            Datum::Set(set.iter().filter(|atom| keep(Datum::Set([(*atom).clone()].into()))).cloned().collect())
        }
        Datum::Map(map) => {
            let pairs = map.iter().map(|(key, value)| (key.clone(), value.clone()));
            Datum::Map(pairs.filter(|pair| keep(Datum::Map([pair.clone()].into()))).collect())
        }
    }
}

fn check_row_limits(tx: &Transaction<'_>) -> Result<(), OperationError> {
    let tables: BTreeSet<TableId> = tx.changes.keys().map(|id| id.table).collect();
    for table in tables {
        let schema = tx.schema(table);
        if schema.rows_max == UNLIMITED {
            continue;
        }
        let count = tx.rows(table).count();
        if count > schema.rows_max as usize {
            return Err(OperationError::constraint(format!(
                "transaction causes \"{}\" table to contain {count} rows, greater than the schema-defined limit of {} \
                 row(s)",
                schema.name, schema.rows_max
            )));
        }
    }
    Ok(())
}

fn check_indexes(tx: &Transaction<'_>) -> Result<(), OperationError> {
    let mut seen: HashMap<(TableId, usize, Vec<Datum>), &Row> = HashMap::new();
    for (id, row) in &tx.changes {
        let Some(row) = row else { continue };
        let table = &tx.database.tables()[id.table];
        for index in 0..table.schema().indexes.len() {
            if tx.database.shared(*id).is_some_and(|old| table.same_key(index, old, row)) {
                continue;
            }
            let key = table.index_key(index, row);
            let stored = table.find(index, &key).map(|uuid| RowId { table: id.table, uuid });
            // A stored row may have got other values, and then it is found in `seen`.
            let stored = stored.and_then(|stored| tx.row(stored)).filter(|stored| table.same_key(index, stored, row));
            let place = (id.table, index, key);
            if let Some(other) = stored.or_else(|| seen.get(&place).copied()) {
                return Err(not_unique(tx, id.table, index, &place.2, other, row));
            }
            seen.insert(place, row);
        }
    }
    Ok(())
}

fn not_unique(
    tx: &Transaction<'_>,
    table: TableId,
    index: usize,
    key: &[Datum],
    first: &Row,
    second: &Row,
) -> OperationError {
    let schema = tx.schema(table);
    let columns: Vec<_> = schema.indexes[index].iter().map(|at| &schema.columns()[*at]).collect();
    let text = |key: &[Datum]| {
        let values = columns.iter().zip(key).map(|(column, datum)| datum.to_text(&column.kind));
        values.collect::<Vec<String>>().join(" and ")
    };
    let names: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
    let origin = |row: &Row| {
        let id = RowId { table, uuid: row.uuid };
        match tx.database.shared(id) {
            None => "was inserted by this transaction".to_owned(),
            Some(old) if tx.changes.contains_key(&id) => {
                let before = text(&tx.database.tables()[table].index_key(index, old));
                format!("had the following index values before the transaction: {before}")
            }
            Some(_) => {
                "existed in the database before this transaction and was not modified by the transaction".to_owned()
            }
        }
    };
    OperationError::constraint(format!(
        "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on column{} {}.  First \
         row, with UUID {}, {}.  Second row, with UUID {}, {}.",
        schema.name,
        text(key),
        if names.len() == 1 { "" } else { "s" },
        names.join(" and "),
        first.uuid,
        origin(first),
        second.uuid,
        origin(second),
    ))
}

fn delta(tx: Transaction<'_>) -> Delta {
    let Transaction { database, changes, fresh } = tx;
    let change = |(id, new): (RowId, Option<Row>)| Change {
        id,
        old: database.shared(id).cloned(),
        new: new.map(|row| Arc::new(Row { version: fresh(), ..row })),
    };
    Delta { changes: changes.into_iter().map(change).collect() }
}
