//! Numbered steps from an empty file to the schema of today, and the refusal of a newer one.
//!
//! A step that has been released is never edited: a change is a new file with the next number.
//! `user_version` of the database is the number of the last step taken; each step and its number
//! are one transaction, so an interrupted start leaves a whole older version.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// All steps, in order; the first leads to version 1.
const STEPS: [(&str, &str); 3] = [
    (
        "0001_connections",
        include_str!("migrations/0001_connections.sql"),
    ),
    ("0002_tokens", include_str!("migrations/0002_tokens.sql")),
    (
        "0003_agent_keys",
        include_str!("migrations/0003_agent_keys.sql"),
    ),
];

/// The version that this program reads and writes.
pub(super) const LATEST: u32 = STEPS.len() as u32;

/// Brings the database up to [`LATEST`].
///
/// # Errors
/// [`StoreError::Newer`] when a later program has been here; [`StoreError::Sqlite`] when a step
/// fails, which leaves the version before it.
pub(super) fn migrate(database: &mut Connection) -> Result<(), StoreError> {
    migrate_up_to(database, LATEST)
}

fn migrate_up_to(database: &mut Connection, target: u32) -> Result<(), StoreError> {
    let found = version(database)?;
    if found > LATEST {
        return Err(StoreError::Newer {
            found,
            known: LATEST,
        });
    }
    for (number, (name, sql)) in (1..=target).zip(STEPS) {
        if number <= found {
            continue;
        }
        let failed = |source| StoreError::sqlite(name, source);
        let step = database
            .transaction_with_behavior(TransactionBehavior::Exclusive)
            .map_err(failed)?;
        step.execute_batch(sql).map_err(failed)?;
        step.pragma_update(None, "user_version", number)
            .map_err(failed)?;
        step.commit().map_err(failed)?;
    }
    Ok(())
}

fn version(database: &Connection) -> Result<u32, StoreError> {
    let number: i64 = database
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| StoreError::sqlite("read the version", source))?;
    // A negative number was never written by this program: treat it as from another world.
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(database: &Connection) -> Vec<String> {
        let mut statement = database
            .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn every_older_version_arrives_at_the_same_schema_as_an_empty_file() {
        let mut fresh = Connection::open_in_memory().unwrap();
        migrate(&mut fresh).unwrap();
        assert!(schema(&fresh).len() > 4);
        for older in 0..=LATEST {
            let mut database = Connection::open_in_memory().unwrap();
            migrate_up_to(&mut database, older).unwrap();
            assert_eq!(version(&database).unwrap(), older);
            migrate(&mut database).unwrap();
            assert_eq!(version(&database).unwrap(), LATEST);
            assert_eq!(schema(&database), schema(&fresh));
        }
    }

    #[test]
    fn rows_of_the_first_version_survive() {
        let mut database = Connection::open_in_memory().unwrap();
        migrate_up_to(&mut database, 1).unwrap();
        database
            .execute(
                "INSERT INTO connection (id, name, local_name, remote_name, description, created_at)
                 VALUES (randomblob(16), 'a_to_b', 'a', 'b', '', 1)",
                [],
            )
            .unwrap();
        migrate(&mut database).unwrap();
        let name: String = database
            .query_row("SELECT name FROM connection", [], |row| row.get(0))
            .unwrap();
        assert_eq!(name, "a_to_b");
    }

    #[test]
    fn a_newer_database_is_refused_untouched() {
        let mut database = Connection::open_in_memory().unwrap();
        database
            .pragma_update(None, "user_version", LATEST + 1)
            .unwrap();
        assert!(matches!(
            migrate(&mut database),
            Err(StoreError::Newer { found, known }) if found == LATEST + 1 && known == LATEST
        ));
        assert!(schema(&database).is_empty());
    }

    #[test]
    fn every_step_has_a_file_and_every_file_is_a_step() {
        let directory =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/relay/store/migrations");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let steps: Vec<String> = STEPS
            .iter()
            .map(|(name, _)| format!("{name}.sql"))
            .collect();
        assert_eq!(files, steps);
    }
}
