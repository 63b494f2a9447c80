//! Certificates for a test: an authority of its own, and what it signs. Made by openssl, as their users make them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Signs certificates that only this test believes in.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    /// Its own certificate.
    pub certificate: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one, with its files in `folder`.
    ///
    /// # Panics
    /// When openssl cannot.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let certificate = folder.join("authority.pem");
        let extensions = ["-addext", "basicConstraints=critical,CA:TRUE"];
        make(folder, "authority", "/CN=Terrace test authority", &extensions);
        Self { folder: folder.to_owned(), certificate }
    }

    /// Signs a certificate for these host names, in files that bear `file`'s name. The same name again replaces them.
    ///
    /// # Panics
    /// When openssl cannot.
    pub fn sign(&self, file: &str, hosts: &[&str]) -> Leaf {
        let names: Vec<String> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
        let names = format!("subjectAltName={}", names.join(","));
        let signer = ["-CA", "authority.pem", "-CAkey", "authority.key"];
        let extensions = [&signer[..], &["-addext", "basicConstraints=CA:FALSE", "-addext", &names]].concat();
        let subject = format!("/CN={}", hosts[0]);
        make(&self.folder, file, &subject, &extensions)
    }
}

fn make(folder: &Path, file: &str, subject: &str, more: &[&str]) -> Leaf {
    let (certificate, key) = (format!("{file}.pem"), format!("{file}.key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-days", "30", "-subj", subject, "-keyout", &key, "-out", &certificate]).args(more);
    let output =
        command.current_dir(folder).output().expect("openssl is installed (scripts/prepare.sh test)");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Leaf { certificate: folder.join(certificate), key: folder.join(key) }
}
