//! The folder in which account and certificates are kept, and which several machines may have in common:
//!
//! ```text
//! FOLDER/AUTHORITY/                        AUTHORITY: the directory's host and path, so that a staging one is apart
//!     account.json                         the account's address and key
//!     certificates/HOST-FINGERPRINT.pem    key and chain in one file, so that no reader meets one without the other
//!     challenges/http-01/TOKEN             what an authority is told, whichever machine it happens to ask
//!     challenges/tls-alpn-01/HOST
//!     locks/NAME.lock                      see `lock`
//! ```
//!
//! Files are their owner's alone, and are written whole: a reader sees the old one or the new one, also after a crash. All
//! here blocks; [`Disk`](crate::disk::Disk) keeps it away from those who must not wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::digest;
use rustls::crypto::ring as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::Challenge;
use crate::x509::Facts;

/// Bytes of a file that are read.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Certificates that are looked at.
const CERTIFICATES_MAX: usize = 10_000;
/// Answers left behind by a machine that died are removed when they are older than that.
const ANSWER_KEPT: Duration = Duration::from_secs(86_400);

/// A certificate with its key, as it is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// Key and chain in PEM.
    pub(crate) pem: Secret,
    pub(crate) facts: Facts,
    /// The names of hosts in it, in lower case.
    pub(crate) hosts: BTreeSet<String>,
}

/// Bytes that are never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Secret({} bytes)", self.0.len())
    }
}

/// Why a file is not a certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("there is no certificate in it")]
    NoCertificate,
    #[error("there is no private key in it")]
    NoKey,
    #[error("the key does not belong to the certificate")]
    Mismatch,
    #[error("the certificate names no host")]
    NoHost,
}

impl Stored {
    /// Reads key and chain; whatever else stands in the text is passed over.
    pub(crate) fn read(name: &str, pem: Vec<u8>) -> Result<Self, Unreadable> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|_| Unreadable::NoCertificate)?;
        let own = chain.first().ok_or(Unreadable::NoCertificate)?;
        let facts = Facts::read(own).ok_or(Unreadable::NoCertificate)?;
        let hosts = webpki::EndEntityCert::try_from(own).map_err(|_| Unreadable::NoCertificate)?;
        let hosts: BTreeSet<String> = hosts.valid_dns_names().map(str::to_ascii_lowercase).collect();
        if hosts.is_empty() {
            return Err(Unreadable::NoHost);
        }
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| Unreadable::NoKey)?;
        let key = provider::sign::any_supported_type(&key).map_err(|_| Unreadable::NoKey)?;
        CertifiedKey::new(chain, key).keys_match().map_err(|_| Unreadable::Mismatch)?;
        Ok(Self { name: name.to_owned(), pem: Secret(pem), facts, hosts })
    }

    /// What tells it from every other: who signed it, and its number.
    pub(crate) fn fingerprint(&self) -> (Vec<u8>, Vec<u8>) {
        (self.facts.authority_key.clone().unwrap_or_default(), self.facts.serial.clone())
    }
}

/// How the file with the certificate of these hosts is called; the same hosts in any order have the same.
pub(crate) fn name_of(hosts: &[String]) -> String {
    let mut sorted: Vec<&str> = hosts.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let fingerprint = digest::digest(&digest::SHA256, sorted.join("\n").as_bytes());
    let hex: String = fingerprint.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hex}", sorted.first().unwrap_or(&""))
}

/// The folder of one authority. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Store {
    root: Arc<Path>,
}

/// What was found when the folder was last looked through, by the file's name.
pub(crate) type Seen = BTreeMap<String, (Version, Result<Arc<Stored>, Unreadable>)>;

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl Store {
    /// The folder of the authority with that directory, which need not exist.
    pub(crate) fn new(folder: &Path, directory: &str) -> Self {
        Self { root: folder.join(slug(directory)).into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn place(&self, parts: &[&str]) -> PathBuf {
        parts.iter().fold(self.root.to_path_buf(), |path, part| path.join(part))
    }

    /// The account as it was written.
    pub(crate) fn account(&self) -> io::Result<Option<Vec<u8>>> {
        absent_is_none(read(&self.place(&["account.json"])))
    }

    pub(crate) fn save_account(&self, json: &[u8]) -> io::Result<()> {
        self.write(&[], "account.json", json)
    }

    /// Sets an account aside that the authority does not know any more.
    pub(crate) fn retire_account(&self) -> io::Result<()> {
        fs::rename(self.place(&["account.json"]), self.place(&["account.json.refused"]))
    }

    pub(crate) fn save(&self, stored: &Stored) -> io::Result<()> {
        self.write(&["certificates"], &format!("{}.pem", stored.name), &stored.pem.0)
    }

    /// The certificate of that name, if it is there and can be read.
    pub(crate) fn certificate(&self, name: &str) -> io::Result<Option<Stored>> {
        let found = absent_is_none(read(&self.place(&["certificates", &format!("{name}.pem")])))?;
        Ok(found.and_then(|pem| Stored::read(name, pem).ok()))
    }

    /// Looks through the certificates. What has not changed since `before` is not read again. Files that cannot be read
    /// are left out this time, and are tried again the next.
    pub(crate) fn look(&self, before: &Seen) -> io::Result<Seen> {
        let mut seen = Seen::new();
        let entries = match fs::read_dir(self.place(&["certificates"])) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(seen),
            entries => entries?,
        };
        for entry in entries.take(CERTIFICATES_MAX) {
            let entry = entry?;
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".pem")) else { continue };
            let (false, Ok(metadata)) = (name.starts_with('.'), fs::metadata(entry.path())) else { continue };
            let version = version(&metadata);
            let known = before.get(name).filter(|(known, _)| *known == version);
            let found = match known {
                Some((_, found)) => found.clone(),
                None => match read(&entry.path()) {
                    Ok(pem) => Stored::read(name, pem).map(Arc::new),
                    Err(_) => continue,
                },
            };
            seen.insert(name.to_owned(), (version, found));
        }
        Ok(seen)
    }

    /// Keeps what an authority is to be told, for whichever machine it asks. `name`: the token, or the host.
    pub(crate) fn save_answer(&self, challenge: Challenge, name: &str, text: &str) -> io::Result<()> {
        let folder = ["challenges", challenge.as_str()];
        self.write(&folder, name, text.as_bytes())?;
        self.sweep_answers(&self.place(&folder), name)
    }

    /// What an authority is to be told, if any machine has it to be told.
    pub(crate) fn answer(&self, challenge: Challenge, name: &str) -> io::Result<Option<String>> {
        if !is_file_name(name) {
            return Ok(None);
        }
        let found = absent_is_none(read(&self.place(&["challenges", challenge.as_str(), name])))?;
        Ok(found.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    pub(crate) fn remove_answer(&self, challenge: Challenge, name: &str) -> io::Result<()> {
        fs::remove_file(self.place(&["challenges", challenge.as_str(), name]))
    }

    /// Removes what is a day older than the file just written. Both times are of the folder's own clock.
    fn sweep_answers(&self, folder: &Path, newest: &str) -> io::Result<()> {
        let now = fs::metadata(folder.join(newest))?.modified()?;
        for entry in fs::read_dir(folder)?.take(CERTIFICATES_MAX) {
            let entry = entry?;
            let age =
                entry.metadata().and_then(|metadata| metadata.modified()).map(|at| now.duration_since(at));
            if matches!(age, Ok(Ok(age)) if age > ANSWER_KEPT) {
                // Another machine may be doing the same.
                let _gone_already = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// The path of a lock, whose folder exists then.
    pub(crate) fn lock_path(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.place(&["locks"]);
        make_folder(&folder)?;
        Ok(folder.join(format!("{name}.lock")))
    }

    /// Writes a file whole.
    fn write(&self, folder: &[&str], name: &str, bytes: &[u8]) -> io::Result<()> {
        if !is_file_name(name) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let folder = self.place(folder);
        make_folder(&folder)?;
        let partial = folder.join(format!(".{name}.{:016x}.partial", terrace_runtime::random::u64()));
        let written = write_new(&partial, bytes).and_then(|()| fs::rename(&partial, folder.join(name)));
        if written.is_err() {
            let _nothing_was_made = fs::remove_file(&partial);
        }
        written?;
        // Without it a crash of the machine may lose the new name, and with it a certificate.
        File::open(&folder)?.sync_all()
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn absent_is_none<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn version(metadata: &fs::Metadata) -> Version {
    Version { modified: metadata.modified().ok(), bytes: metadata.len(), inode: metadata.ino() }
}

/// Whether it leads nowhere but to a file in its folder that is shown.
fn is_file_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && !name.starts_with('.') && name.len() <= 255 && name.bytes().all(is_plain)
}

/// An authority's directory as the name of a folder: its host, port and path.
fn slug(directory: &str) -> String {
    let rest = directory.split_once("://").map_or(directory, |(_, rest)| rest);
    let plain = |char: char| if char.is_ascii_alphanumeric() || char == '.' { char } else { '-' };
    let slug: String = rest.chars().take(120).map(|char| plain(char.to_ascii_lowercase())).collect();
    slug.trim_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use terrace_testkit::Folder;

    use super::*;
    use crate::testing::certificate;

    fn store() -> (Folder, Store) {
        let folder = Folder::new();
        let store = Store::new(&folder.path().join("acme"), "https://acme.example.com:14000/dir");
        (folder, store)
    }

    fn stored(hosts: &[&str]) -> Stored {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Stored::read(&name_of(&hosts), certificate(&hosts, 0..90)).expect("readable")
    }

    #[test]
    fn a_certificate_is_found_again_and_its_file_is_its_owners_alone() {
        let (_folder, store) = store();
        assert!(store.root().ends_with("acme/acme.example.com-14000-dir"), "{}", store.root().display());
        assert!(store.look(&Seen::new()).expect("no folder yet").is_empty());
        let written = stored(&["b.example", "a.example"]);
        store.save(&written).expect("written");
        let seen = store.look(&Seen::new()).expect("readable");
        let (_, found) = &seen[&written.name];
        let found = found.as_ref().expect("readable");
        assert_eq!((&found.hosts, &found.pem), (&written.hosts, &written.pem));
        let path = store.place(&["certificates", &format!("{}.pem", written.name)]);
        assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(store.root()).expect("there").permissions().mode() & 0o777, 0o700);
        let again = store.look(&seen).expect("readable");
        assert!(
            Arc::ptr_eq(again[&written.name].1.as_ref().expect("readable"), found),
            "it is not read twice"
        );
        assert_eq!(written.name, name_of(&["a.example".to_owned(), "b.example".to_owned()]), "in any order");
    }

    #[test]
    fn a_file_that_was_spoilt_is_told_apart_from_the_good_ones() {
        let (_folder, store) = store();
        let (good, other) = (stored(&["a.example"]), stored(&["b.example"]));
        store.save(&good).expect("written");
        let pem = String::from_utf8(other.pem.0.clone()).expect("text");
        let key_of_another = String::from_utf8(good.pem.0.clone()).expect("text");
        let (key, _) = key_of_another.split_once("-----BEGIN CERT").expect("both");
        let (_, chain) = pem.split_once("-----BEGIN CERT").expect("both");
        for (name, text, why) in [
            ("empty", String::new(), Unreadable::NoCertificate),
            ("half", pem[..pem.len() - 200].to_owned(), Unreadable::NoCertificate),
            ("keyless", format!("-----BEGIN CERT{chain}"), Unreadable::NoKey),
            ("mixed", format!("{key}-----BEGIN CERT{chain}"), Unreadable::Mismatch),
        ] {
            store.write(&["certificates"], &format!("{name}.pem"), text.as_bytes()).expect("written");
            let seen = store.look(&Seen::new()).expect("readable");
            assert_eq!(seen[name].1.as_ref().expect_err("spoilt"), &why, "{name}");
            assert!(seen[&good.name].1.is_ok());
        }
        fs::write(store.place(&["certificates", "huge.pem"]), vec![b'x'; 300 << 10]).expect("written");
        assert!(!store.look(&Seen::new()).expect("readable").contains_key("huge"));
    }

    #[test]
    fn an_answer_is_there_for_every_machine_until_it_is_removed_or_old() {
        let (_folder, store) = store();
        store.save_answer(Challenge::Http01, "left-behind", "old").expect("written");
        let old = File::open(store.place(&["challenges", "http-01", "left-behind"])).expect("there");
        old.set_modified(SystemTime::UNIX_EPOCH).expect("ours");
        store.save_answer(Challenge::Http01, "token", "token.thumbprint").expect("written");
        let told = |name| store.answer(Challenge::Http01, name).expect("readable");
        assert_eq!(told("token").as_deref(), Some("token.thumbprint"));
        assert_eq!(told("left-behind"), None, "who left it behind is gone");
        assert_eq!(store.answer(Challenge::TlsAlpn01, "token").expect("readable"), None);
        store.remove_answer(Challenge::Http01, "token").expect("removed");
        assert_eq!(told("token"), None);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let (_folder, store) = store();
        store.save_account(b"{}").expect("written");
        for name in ["", ".", "..", "../../account.json", "a/b", ".hidden", "a\0", &"a".repeat(256)] {
            assert_eq!(store.answer(Challenge::Http01, name).expect("nothing"), None, "{name}");
            assert!(store.save_answer(Challenge::TlsAlpn01, name, "x").is_err(), "{name}");
        }
        assert_eq!(slug("https://../../etc/passwd"), "etc-passwd");
    }

    #[test]
    fn a_link_left_at_a_files_name_leads_nowhere() {
        let (folder, store) = store();
        let victim = folder.path().join("victim");
        fs::write(&victim, "precious").expect("writable");
        store.save_account(b"{}").expect("written");
        fs::remove_file(store.place(&["account.json"])).expect("there");
        std::os::unix::fs::symlink(&victim, store.place(&["account.json"])).expect("writable");
        store.save_account(b"{\"new\":1}").expect("written");
        assert_eq!(fs::read_to_string(&victim).expect("still there"), "precious");
        assert_eq!(store.account().expect("readable").as_deref(), Some(&b"{\"new\":1}"[..]));
    }
}
