//! The embedded backend: one SQLite file that holds current state only.
//!
//! WAL with synchronous=FULL: a committed batch survives power loss. The lock is exclusive, so a
//! second server on the file is told so at once, and SQLite needs no shared memory file.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::backend::{Backend, BackendError, Change};

pub(crate) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    pub(crate) fn open(path: &Path) -> Result<Self, BackendError> {
        let connection = Connection::open(path)?;
        // Another server does not go away by waiting: say so at once.
        connection.busy_timeout(std::time::Duration::ZERO)?;
        // Nothing is read back in normal operation, so the page cache is kept small: it is memory
        // of the server at rest. The WAL is cut back to 4 MiB after a burst (k3s#4044).
        connection.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA auto_vacuum = INCREMENTAL;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA temp_store = MEMORY;
             PRAGMA cache_size = -1024;
             PRAGMA journal_size_limit = 4194304;
             CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS resources (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
             CREATE TABLE IF NOT EXISTS objects (
                 resource INTEGER NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
                 rv INTEGER NOT NULL, body BLOB NOT NULL,
                 UNIQUE (resource, namespace, name));",
        )?;
        Ok(Self { connection })
    }
}

impl Backend for Sqlite {
    fn resource_id(&mut self, resource: &str) -> Result<u32, BackendError> {
        self.connection.execute("INSERT OR IGNORE INTO resources (name) VALUES (?)", [resource])?;
        let id = "SELECT id FROM resources WHERE name = ?";
        Ok(self.connection.query_row(id, [resource], |row| row.get(0))?)
    }

    fn load(&mut self, resource: u32, each: &mut dyn FnMut(Bytes)) -> Result<(), BackendError> {
        let mut statement =
            self.connection.prepare("SELECT body FROM objects WHERE resource = ?")?;
        let mut rows = statement.query([resource])?;
        while let Some(row) = rows.next()? {
            each(Bytes::from(row.get::<_, Vec<u8>>(0)?));
        }
        Ok(())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), BackendError> {
        let transaction = self.connection.transaction()?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO objects (resource, namespace, name, rv, body) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET rv = excluded.rv, body = excluded.body",
            )?;
            let mut delete = transaction.prepare_cached(
                "DELETE FROM objects WHERE resource = ? AND namespace = ? AND name = ?",
            )?;
            for change in changes {
                match change {
                    Change::Put { resource, key, revision, body } => put.execute(params![
                        resource,
                        &*key.namespace,
                        &*key.name,
                        revision.cast_signed(),
                        body.as_ref()
                    ])?,
                    Change::Delete { resource, key } => {
                        delete.execute(params![resource, &*key.namespace, &*key.name])?
                    }
                };
            }
        }
        Ok(transaction.commit()?)
    }

    fn reserved(&mut self) -> Result<u64, BackendError> {
        let query = "SELECT value FROM meta WHERE name = 'reserved'";
        let value: Option<i64> =
            self.connection.query_row(query, [], |row| row.get(0)).optional()?;
        Ok(value.unwrap_or(0).cast_unsigned())
    }

    fn reserve(&mut self, revision: u64) -> Result<(), BackendError> {
        self.connection.execute(
            "INSERT INTO meta (name, value) VALUES ('reserved', ?)
             ON CONFLICT DO UPDATE SET value = excluded.value",
            [revision.cast_signed()],
        )?;
        Ok(())
    }
}

impl From<rusqlite::Error> for BackendError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            _ => Self::Other(error.to_string()),
        }
    }
}
