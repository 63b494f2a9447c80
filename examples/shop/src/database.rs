//! SQLite shared by the instances of a service, in different processes, and kept off the async thread.
//!
//! Write-ahead logging lets readers go on while one writes; `busy_timeout` makes writers queue for each other
//! instead of failing. Each process keeps a few connections and never more work in SQLite than it has of them.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;

use crate::problem::Problem;
use crate::spans;

/// Connections per process, and so the number of statements running at once.
const CONNECTIONS_MAX: usize = 4;
/// How long a writer waits for the writers of other processes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A cheap handle to one service's database.
#[derive(Clone)]
pub(crate) struct Database {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("cannot use the data folder {folder}: {source}; make it writable or set SHOP_DATA")]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error("cannot open the database {file}: {source}")]
    Sqlite { file: PathBuf, source: rusqlite::Error },
}

impl Database {
    /// Opens `folder/name.db`, making both where missing, and applies `schema`, which must be repeatable.
    ///
    /// `prepare` runs once within the same lock, for seeds.
    pub(crate) fn open(
        folder: &Path,
        name: &str,
        schema: &str,
        prepare: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<Self, OpenError> {
        let _lock = lock(folder, name)?;
        let file = folder.join(format!("{name}.db"));
        let connections = (|| {
            let mut connections = Vec::with_capacity(CONNECTIONS_MAX);
            for _ in 0..CONNECTIONS_MAX {
                connections.push(connect(&file)?);
            }
            let first = connections[0].transaction_with_behavior(TransactionBehavior::Immediate)?;
            first.execute_batch(schema)?;
            prepare(&first)?;
            first.commit()?;
            Ok(connections)
        })()
        .map_err(|source| OpenError::Sqlite { file: file.clone(), source })?;
        Ok(Self {
            idle: Arc::new(Mutex::new(connections)),
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        })
    }

    /// Reads: runs `work` with a connection on a blocking thread.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        spans::step("database read", self.with(move |connection| work(connection))).await
    }

    /// Changes: runs `work` in a transaction that holds the write lock from its first statement on, so that
    /// what it reads is still so when it writes. Commits when `work` returns `Ok`.
    pub(crate) async fn change<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let work = self.with(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let outcome = work(&transaction)?;
            transaction.commit()?;
            Ok(outcome)
        });
        spans::step("database change", work).await
    }

    async fn with<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.expect("the semaphore is never closed");
        let idle = Arc::clone(&self.idle);
        let running = tokio::task::spawn_blocking(move || {
            let _permit = permit; // held in here, so that a caller who went away frees no permit too early
            work(Lent::take(idle).connection())
        });
        match running.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => Err(problem_of(&error)),
            Err(panicked) => Err(Problem::internal(&panicked)),
        }
    }

    /// Whether the database answers.
    pub(crate) async fn check(&self) -> Result<(), Problem> {
        self.read(|connection| connection.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(())))
            .await
    }
}

/// A connection out of the pool; it goes back even when the work with it panics.
struct Lent {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Lent {
    fn take(idle: Arc<Mutex<Vec<Connection>>>) -> Self {
        let connection = idle.lock().expect("nobody panics while holding the idle connections").pop();
        Self { connection, idle }
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("there are as many connections as permits")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(connection), Ok(mut idle)) = (self.connection.take(), self.idle.lock()) {
            idle.push(connection);
        }
    }
}

fn problem_of(error: &rusqlite::Error) -> Problem {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            Problem::unavailable("The database is busy; try again.")
        }
        _ => Problem::internal(error),
    }
}

/// Changing to write-ahead logging and creating tables must not race between instances that start together.
/// The lock ends with the file handle.
pub(crate) fn lock(folder: &Path, name: &str) -> Result<File, OpenError> {
    let locked = (|| {
        // Password hashes and a signing key live here: nobody else's business.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let file = File::create(folder.join(format!("{name}.lock")))?;
        file.lock()?;
        Ok(file)
    })();
    locked.map_err(|source| OpenError::Folder { folder: folder.to_owned(), source })
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL: what was acknowledged (an order, a charge) survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}
