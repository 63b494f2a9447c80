//! The account with the authority: opened once, kept in the folder, shared by all machines that have the folder. Where the
//! folder cannot be written it lives as long as the process does, so that no order opens another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use terrace_instruments::{Event, Level, Log};

use crate::config::Authority;
use crate::disk::Disk;
use crate::error::OrderError;
use crate::http::Http;
use crate::lock::{Lock, Watched};

/// The lock under which an account is opened; no certificate is called so.
const LOCK: &str = "account";
/// From one look to the next while another machine opens it.
const LOOK: Duration = Duration::from_secs(1);

/// An account as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// Where the authority may write to, as it was told last.
    #[serde(default)]
    email: Option<String>,
    credentials: AccountCredentials,
}

/// What is needed to come by the account. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    pub(crate) disk: Disk,
    pub(crate) log: Log,
    /// As JSON, when it could not be written.
    unsaved: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Accounts {
    pub(crate) fn new(disk: Disk, log: Log) -> Self {
        Self { disk, log, unsaved: Arc::default() }
    }

    /// The account; opened if there is none yet.
    ///
    /// # Errors
    /// The authority's, or the network's.
    pub(crate) async fn open(&self, authority: &Authority, http: &Http) -> Result<Account, OrderError> {
        let mut watched = Watched::default();
        let mut lock = None;
        loop {
            if let Some(kept) = self.read().await {
                return self.resume(kept, authority, http).await;
            }
            if lock.is_some() {
                return self.create(authority, http).await;
            }
            match Lock::take(&self.disk, LOCK, &mut watched).await {
                // It may have come while the lock was another's: it is looked for once more.
                Ok(Some(taken)) => lock = Some(taken),
                Ok(None) => tokio::time::sleep(LOOK).await,
                // The worst that can happen without is a second account.
                Err(_) => return self.create(authority, http).await,
            }
        }
    }

    async fn read(&self) -> Option<Kept> {
        let on_disk = self.disk.run(|store| store.account()).await.ok().flatten();
        let unsaved = || self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let json = match on_disk {
            Some(json) => json,
            None => unsaved()?,
        };
        match serde_json::from_slice(&json) {
            Ok(kept) => Some(kept),
            Err(_) => {
                let event = Event::new(Level::Warn, "acme.account_unreadable");
                self.log.emit(
                    event.message("account.json is damaged; it is set aside and another account is opened"),
                );
                let _set_aside = self.disk.run(|store| store.retire_account()).await;
                None
            }
        }
    }

    async fn resume(&self, kept: Kept, authority: &Authority, http: &Http) -> Result<Account, OrderError> {
        let wrong = |error, noted| OrderError::of(error, noted, &[]);
        let json = serde_json::to_value(&kept.credentials).unwrap_or_default();
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let account = builder.from_credentials(kept.credentials).await;
        let account = account.map_err(|error| wrong(error, http.noted()))?;
        if kept.email == authority.email {
            return Ok(account);
        }
        let contacts = contacts(authority);
        let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let told = account.update_contacts(&contacts).await;
        told.map_err(|error| wrong(error, http.noted()))?;
        self.save(&serde_json::json!({ "email": authority.email, "credentials": json })).await;
        Ok(account)
    }

    async fn create(&self, authority: &Authority, http: &Http) -> Result<Account, OrderError> {
        let contacts = contacts(authority);
        let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let external = authority.external_account.as_ref();
        let external = external.map(|known| ExternalAccountKey::new(known.id.clone(), &known.key));
        let wish = NewAccount {
            contact: &contacts,
            // The file has `agree = true`, or there would be no authority.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let builder = Account::builder_with_http(Box::new(http.clone()));
        let opened = builder.create(&wish, authority.directory.clone(), external.as_ref()).await;
        let (account, credentials) =
            opened.map_err(|error| as_account(OrderError::of(error, http.noted(), &[])))?;
        self.log.emit(
            Event::new(Level::Info, "acme.account_opened")
                .field("directory", authority.directory.as_str())
                .field("account", account.id()),
        );
        self.save(&serde_json::json!({ "email": authority.email, "credentials": credentials })).await;
        Ok(account)
    }

    /// Keeps the account; in memory alone when the folder does not take it.
    async fn save(&self, kept: &serde_json::Value) {
        let json = serde_json::to_vec_pretty(kept).unwrap_or_default();
        let written = json.clone();
        let saved = self.disk.run(move |store| store.save_account(&written)).await;
        *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = match saved {
            Ok(()) => None,
            Err(error) => {
                let event = Event::new(Level::Warn, "acme.folder").field("problem", error.to_string());
                let folder = self.disk.store.root().display().to_string();
                self.log.emit(event.field("folder", folder).message("the account could not be kept"));
                Some(json)
            }
        };
    }

    /// Sets the account aside: the authority does not know it any more.
    pub(crate) async fn forget(&self) {
        *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _was_never_written = self.disk.run(|store| store.retire_account()).await;
    }
}

/// Before there is an account, what is refused is the account.
fn as_account(error: OrderError) -> OrderError {
    match error {
        OrderError::Refused { said, .. } => OrderError::Account(said),
        error => error,
    }
}

fn contacts(authority: &Authority) -> Vec<String> {
    authority.email.iter().map(|email| format!("mailto:{email}")).collect()
}
