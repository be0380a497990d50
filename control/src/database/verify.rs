//! Does everything hold that must hold between rows? Looks at all of them, for tests.

use super::{Database, RowId};
use crate::database::Table;
use std::collections::BTreeMap;

/// Which rows refer to each row, and how often, as the rows themselves say.
type Found = BTreeMap<RowId, BTreeMap<RowId, usize>>;

impl Database {
    /// Values within their columns' limits, strong references to rows that exist, no weak ones to others, no rows that nobody refers
    /// to, indexes unique, no more rows than allowed, and counts and indexes that match the rows. The error says what does not hold.
    pub fn verify(&self) -> Result<(), String> {
        let (mut strong, mut weak) = (Found::new(), Found::new());
        for (id, table) in self.tables.iter().enumerate() {
            self.verify_rows(id, table, &mut strong, &mut weak)?;
        }
        for (id, table) in self.tables.iter().enumerate() {
            let name = &table.schema.name;
            for uuid in table.rows.keys() {
                let row = RowId { table: id, uuid: *uuid };
                if !strong.contains_key(&row) && !table.schema.is_root {
                    return Err(format!("nobody refers to {name} {uuid}"));
                }
                for (kind, found, kept) in [("strong", &strong, &table.strong), ("weak", &weak, &table.weak)] {
                    if found.get(&row) != kept.get(uuid) {
                        return Err(format!("{name} {uuid}: {kind} references are not those of the rows"));
                    }
                }
            }
            if table.strong.len() + table.weak.len() > strong.len() + weak.len() {
                return Err(format!("{name}: counts of rows that are gone"));
            }
        }
        Ok(())
    }

    fn verify_rows(&self, id: usize, table: &Table, strong: &mut Found, weak: &mut Found) -> Result<(), String> {
        let name = &table.schema.name;
        if table.rows.len() > table.schema.rows_max as usize {
            return Err(format!("{name} has {} rows", table.rows.len()));
        }
        for (index, map) in table.indexes.iter().enumerate() {
            let unique = table.rows.values().all(|row| map.get(&table.index_key(index, row)) == Some(&row.uuid));
            if !unique || map.len() != table.rows.len() {
                return Err(format!("{name}: index {index} is not that of the rows"));
            }
        }
        for row in table.rows.values() {
            let from = RowId { table: id, uuid: row.uuid };
            for (column, datum) in table.schema.columns().iter().zip(&row.columns) {
                column.kind.check(datum).map_err(|e| format!("{name} {} {}: {e}", row.uuid, column.name))?;
            }
            for link in &table.links {
                for target in link.targets(&row.columns[link.column], None) {
                    if self.shared(target).is_none() {
                        return Err(format!("{name} {} refers to {}, which is not there", row.uuid, target.uuid));
                    }
                    if link.weak {
                        *weak.entry(target).or_default().entry(from).or_default() += 1;
                    } else if target != from {
                        *strong.entry(target).or_default().entry(from).or_default() += 1;
                    }
                }
            }
        }
        Ok(())
    }
}
