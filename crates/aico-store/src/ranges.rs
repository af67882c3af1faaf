//! Statements of a step, and those that go over a table range by range.
//!
//! What one statement changes is kept for its undoing until it ends, in memory, since nothing of it
//! may lie on the disk in clear. A statement that changes every row of a table would take what the
//! table has. So it names a range of keys, and is run for one after the other, within the step's
//! transaction: what is kept is let go after each, and the changed pages lie in the log, encrypted.

use rusqlite::{Batch, Statement, Transaction, fallible_iterator::FallibleIterator, ffi, params};

use crate::error::StoreError;

/// Keys of a range that are there.
const ROWS: i64 = 256;
const FIRST: &str = ":first_";
const LAST: &str = ":last_";

/// Runs the statements of a step. `goes_on` is asked after each range.
pub(crate) fn run(
    tx: &Transaction<'_>,
    sql: &str,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(), StoreError> {
    let mut statements = Batch::new(tx, sql);
    while let Some(mut statement) = statements.next()? {
        match table(&statement)? {
            Some(table) => over(tx, &mut statement, &table, goes_on)?,
            None => to_its_end(&mut statement)?,
        }
        if tx.is_autocommit() {
            return Err(StoreError::Aborted);
        }
    }
    Ok(())
}

/// The table whose keys a statement names a range of: it has the parameters `:first_TABLE` and
/// `:last_TABLE`, and no other.
fn table(statement: &Statement<'_>) -> Result<Option<String>, StoreError> {
    let name = |index, before| {
        let name: Option<&str> = statement.parameter_name(index);
        name.and_then(|name| name.strip_prefix(before))
    };
    let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match statement.parameter_count() {
        0 => Ok(None),
        2 => match (name(1, FIRST), name(2, LAST)) {
            (Some(first), Some(last)) if first == last && plain(first) => {
                Ok(Some(first.to_owned()))
            }
            _ => Err(MISTAKE),
        },
        _ => Err(MISTAKE),
    }
}

const MISTAKE: StoreError = StoreError::Sql {
    code: ffi::SQLITE_MISUSE,
    offset: None,
};

fn to_its_end(statement: &mut Statement<'_>) -> Result<(), StoreError> {
    let mut rows = statement.raw_query();
    while rows.next()?.is_some() {}
    Ok(())
}

/// Up to the last key that is there at the beginning: a statement may add some.
fn over(
    tx: &Transaction<'_>,
    statement: &mut Statement<'_>,
    table: &str,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(), StoreError> {
    let newest = format!("SELECT max(rowid) FROM \"{table}\"");
    let Some(newest) = tx.query_row(&newest, [], |row| row.get::<_, Option<i64>>(0))? else {
        return Ok(());
    };
    let mut range = tx.prepare(&format!(
        "SELECT min(key), max(key) FROM
             (SELECT rowid AS key FROM \"{table}\" WHERE rowid BETWEEN ?1 AND ?2
              ORDER BY rowid LIMIT ?3)"
    ))?;
    let mut next = i64::MIN;
    loop {
        let bounds = range.query_row(params![next, newest, ROWS], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
        let (Some(first), Some(last)) = bounds else {
            return Ok(());
        };
        statement.raw_bind_parameter(1, first)?;
        statement.raw_bind_parameter(2, last)?;
        to_its_end(statement)?;
        if !goes_on() {
            return Err(StoreError::Cancelled);
        }
        match last.checked_add(1) {
            Some(after) => next = after,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    fn ran(sql: &str) -> (Result<(), StoreError>, usize, Vec<(i64, i64)>) {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "CREATE TABLE a (id INTEGER PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0);
             INSERT INTO a (id) VALUES (-9223372036854775808), (-7), (9223372036854775807);
             WITH RECURSIVE c (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM c WHERE i < 1000)
             INSERT INTO a (id) SELECT i * 3 FROM c;
             CREATE TABLE empty (id INTEGER PRIMARY KEY);",
        )
        .unwrap();
        let tx = db.transaction().unwrap();
        let mut ranges = 0;
        let done = run(&tx, sql, &mut || {
            ranges += 1;
            true
        });
        let mut rows = tx
            .prepare("SELECT n, count(*) FROM a GROUP BY n ORDER BY n")
            .unwrap();
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows = rows.unwrap().map(Result::unwrap).collect();
        (done, ranges, rows)
    }

    #[test]
    fn each_row_is_changed_once_whatever_its_key() {
        let (done, ranges, rows) = ran(
            "UPDATE a SET n = n + 1 WHERE id BETWEEN :first_a AND :last_a;
             UPDATE empty SET id = 1 WHERE id BETWEEN :first_empty AND :last_empty;
             UPDATE a SET n = n + 10 WHERE id = 3;",
        );
        done.unwrap();
        // 1003 rows.
        assert_eq!(ranges, 4);
        assert_eq!(rows, [(1, 1002), (11, 1)]);
    }

    #[test]
    fn rows_that_it_adds_itself_are_not_met_again() {
        let (done, ranges, rows) = ran("DELETE FROM a WHERE id = 9223372036854775807;
             INSERT INTO a SELECT id + 100000, 2 FROM a WHERE id > 0 AND
                 id BETWEEN :first_a AND :last_a;");
        done.unwrap();
        assert_eq!(ranges, 4);
        assert_eq!(rows, [(0, 1002), (2, 1000)]);
    }

    #[test]
    fn other_parameters_are_a_mistake() {
        for sql in [
            "UPDATE a SET n = ?1;",
            "UPDATE a SET n = 1 WHERE id BETWEEN :first_a AND :last_b;",
            "UPDATE a SET n = 1 WHERE id BETWEEN :last_a AND :first_a;",
            "UPDATE a SET n = :n WHERE id BETWEEN :first_a AND :last_a;",
        ] {
            let (done, ranges, _) = ran(sql);
            assert!(matches!(done, Err(StoreError::Sql { .. })), "{done:?}");
            assert_eq!(ranges, 0);
        }
    }
}
