//! The state folder: what Terrace must find again after a restart. Small files, written whole, readable by the owner
//! alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use terrace_edge::Pair;
use terrace_upstream::IdentityKey;

use crate::file::Service;

const IDENTITY_KEY: &str = "identity.key";
const INTERNAL_ADDRESSES: &str = "internal.json";
const OTLP_ADDRESS: &str = "otlp.json";
const ADMIN_TOKEN: &str = "admin.token";
const DEV_CERTIFICATE: &str = "dev-certificate.pem";
const DEV_KEY: &str = "dev-key.pem";
const DEV_NAMES: &str = "dev-names.json";

/// The state folder.
#[derive(Debug, Clone)]
pub(crate) struct State {
    folder: PathBuf,
}

impl State {
    /// Opens the folder, making it when it is not there. One in which nothing can be kept is found out here, and not in the
    /// middle of something.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let state = Self { folder: folder.canonicalize()? };
        let probe = state.folder.join(format!("probe-{}", std::process::id()));
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe);
        let written = opened.and_then(|mut file| file.write_all(b"can this be kept?\n"));
        let removed = fs::remove_file(probe);
        written.and(removed).map(|()| state)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key of endpoint ids, so that sticky cookies outlive a restart.
    pub(crate) fn identity_key(&self) -> io::Result<IdentityKey> {
        let path = self.folder.join(IDENTITY_KEY);
        if let Ok(Ok(key)) = fs::read(&path).map(<[u8; 16]>::try_from) {
            return Ok(IdentityKey(key));
        }
        let mut key = [0; 16];
        key[..8].copy_from_slice(&terrace_runtime::random::u64().to_le_bytes());
        key[8..].copy_from_slice(&terrace_runtime::random::u64().to_le_bytes());
        self.write(IDENTITY_KEY, &key)?;
        Ok(IdentityKey(key))
    }

    /// The token that opens the dashboard to an operator when the file names none: 256 random bits, made once.
    pub(crate) fn admin_token(&self) -> io::Result<String> {
        match fs::read_to_string(self.folder.join(ADMIN_TOKEN)) {
            Ok(text) if text.trim().len() >= 16 => return Ok(text.trim().to_owned()),
            // An empty one is what a full disk leaves; it would be no token.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let token = terrace_admin::Token::random_text();
        self.write(ADMIN_TOKEN, format!("{token}\n").as_bytes())?;
        Ok(token)
    }

    /// Where each routed service's internal listener is: where the file says, else where it was before, else somewhere
    /// free. `open` are addresses that this process listens on already.
    pub(crate) fn internal_addresses(
        &self,
        services: &BTreeMap<String, Service>,
        open: &BTreeMap<String, SocketAddr>,
    ) -> io::Result<BTreeMap<String, SocketAddr>> {
        let before = self.read_addresses();
        let mut addresses = BTreeMap::new();
        for service in services.values().filter(|service| service.is_routed()) {
            let address = match (service.internal.port(), open.get(&service.name)) {
                (0, Some(open)) => *open,
                (0, None) => free_address(service.internal, before.get(&service.name).copied())?,
                (_, _) => service.internal,
            };
            addresses.insert(service.name.clone(), address);
        }
        let text: BTreeMap<&String, String> =
            addresses.iter().map(|(name, address)| (name, address.to_string())).collect();
        self.write(INTERNAL_ADDRESSES, &serde_json::to_vec_pretty(&text)?)?;
        Ok(addresses)
    }

    /// Where the app's own telemetry is taken in: where the file says, else where it was before, since the instances that
    /// live on were told so, else somewhere free. `open` is where this process listens already.
    pub(crate) fn otlp_address(&self, any: SocketAddr, open: Option<SocketAddr>) -> io::Result<SocketAddr> {
        let address = match (any.port(), open) {
            (0, Some(open)) if open.ip() == any.ip() => return Ok(open),
            (0, _) => {
                let before = fs::read(self.folder.join(OTLP_ADDRESS)).unwrap_or_default();
                let before: Option<String> = serde_json::from_slice(&before).ok();
                free_address(any, before.and_then(|text| text.parse().ok()))?
            }
            _ => any,
        };
        self.write(OTLP_ADDRESS, &serde_json::to_vec(&address.to_string())?)?;
        Ok(address)
    }

    fn read_addresses(&self) -> BTreeMap<String, SocketAddr> {
        let read = fs::read(self.folder.join(INTERNAL_ADDRESSES)).unwrap_or_default();
        let text: BTreeMap<String, String> = serde_json::from_slice(&read).unwrap_or_default();
        text.into_iter().filter_map(|(name, address)| Some((name, address.parse().ok()?))).collect()
    }

    /// A self-signed certificate for development, kept so that browsers need to be told only once. A name that it does
    /// not hold yet makes a new one, which holds the former names too: a route that comes and goes makes no third.
    pub(crate) fn dev_pair(&self, mut names: Vec<String>) -> Result<Pair, Box<dyn std::error::Error>> {
        let read = |name| fs::read(self.folder.join(name));
        let held: Vec<String> =
            serde_json::from_slice(&read(DEV_NAMES).unwrap_or_default()).unwrap_or_default();
        if let (Ok(certificates_pem), Ok(key_pem)) = (read(DEV_CERTIFICATE), read(DEV_KEY))
            && names.iter().all(|name| held.contains(name))
        {
            return Ok(Pair { certificates_pem, key_pem });
        }
        names.extend(held);
        names.sort();
        names.dedup();
        let pair = terrace_edge::dev_pair(names.clone())?;
        self.write(DEV_CERTIFICATE, &pair.certificates_pem)?;
        self.write(DEV_KEY, &pair.key_pem)?;
        self.write(DEV_NAMES, &serde_json::to_vec(&names)?)?;
        Ok(pair)
    }

    /// Writes a file whole: a crash leaves the old one or the new one. What lies at the partial file's name is not
    /// written into but replaced: it may be a link that leads elsewhere, or a file that others may read.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let partial = self.folder.join(format!("{name}.partial"));
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(partial, self.folder.join(name))
    }
}

/// The address used before when it is still free, else a free one.
fn free_address(any: SocketAddr, before: Option<SocketAddr>) -> io::Result<SocketAddr> {
    let before = before.filter(|address| address.ip() == any.ip());
    if let Some(Ok(listener)) = before.map(TcpListener::bind) {
        return listener.local_addr();
    }
    TcpListener::bind(any)?.local_addr()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_app_finds_the_collector_where_it_was_before() {
        let folder = terrace_testkit::Folder::new();
        let state = State::open(folder.path()).expect("a folder of our own");
        let any = "127.0.0.1:0".parse().expect("an address");
        let first = state.otlp_address(any, None).expect("a free port");
        assert_eq!(state.otlp_address(any, None).expect("the same"), first, "after a restart");
        assert_eq!(state.otlp_address(any, Some(first)).expect("open"), first, "after a reload");
        let _taken = TcpListener::bind(first).expect("free");
        assert_ne!(state.otlp_address(any, None).expect("another"), first, "somebody else has it by now");
    }

    #[test]
    fn the_token_of_the_dashboard_is_made_once_and_is_the_owners_alone() {
        let folder = terrace_testkit::Folder::new();
        let state = State::open(folder.path()).expect("a folder of our own");
        let token = state.admin_token().expect("made");
        assert_eq!(token.len(), 64);
        assert_eq!(state.admin_token().expect("read"), token, "it is found again");
        let mode = fs::metadata(state.folder().join(ADMIN_TOKEN)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(state.folder().join(ADMIN_TOKEN), "").expect("writable");
        assert_ne!(state.admin_token().expect("made anew"), "", "an empty file is no token");
    }

    #[test]
    fn a_link_left_in_the_state_folder_leads_nowhere_and_a_readable_leftover_shows_nothing() {
        let folder = terrace_testkit::Folder::new();
        let state = State::open(&folder.path().join("state")).expect("a folder of our own");
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").expect("writable");
        symlink(&victim, state.folder().join("identity.key.partial")).expect("writable");
        fs::write(state.folder().join("dev-key.pem.partial"), "left by a crash").expect("writable");

        let key = state.identity_key().expect("written");
        assert_eq!(fs::read_to_string(&victim).expect("still there"), "precious");
        assert_eq!(state.identity_key().expect("read").0, key.0, "it is found again");

        state.dev_pair(vec!["localhost".to_owned()]).expect("made");
        let mode = fs::metadata(state.folder().join(DEV_KEY)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "a private key is its owner's alone");
    }
}
