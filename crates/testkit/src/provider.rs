//! A certified OpenID provider of other people's making (npm's oidc-provider), where people log in.
//!
//! It runs as long as this value lives, on a free port of loopback. Besides what providers do it can be told to forget what it
//! granted, and to be down.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::browser::{Browser, Page};

/// A provider that runs.
#[derive(Debug)]
pub struct Provider {
    child: Child,
    issuer: String,
}

impl Provider {
    /// The client that shows its secret in `Authorization`.
    pub const CLIENT: &str = "shop";
    /// Its secret.
    pub const SECRET: &str = "a secret with: + and %";

    /// Starts one. `settings`: `redirect_uris`, `post_logout_redirect_uris`, `access_s` (how long tokens live), `refresh`
    /// (whether there are refresh tokens).
    ///
    /// # Panics
    /// When it does not start; `scripts/prepare.sh test` installs it.
    #[track_caller]
    #[must_use]
    pub fn start(settings: &Value) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let modules = prepared(&root.join("target/provider/node_modules"));
        let mut child = Command::new("node")
            .arg(root.join("crates/auth/tests/provider/provider.mjs"))
            .arg(modules)
            .arg(settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("readable");
        let issuer = line.trim().to_owned();
        assert!(issuer.starts_with("http://"), "the provider did not start");
        Self { child, issuer }
    }

    /// Who it is: `iss` of its tokens, and its address.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Logs `who` in on the page that a browser was led to, agrees to what is asked for, and goes wherever that leads.
    ///
    /// # Panics
    /// When the page has no form of the provider's.
    #[track_caller]
    pub fn log_in(&self, browser: &mut Browser, page: Page, who: &str) -> Page {
        let form = format!("prompt=login&login={who}&password=x");
        let page = self.send_form(browser, page, &form);
        self.agree(browser, page)
    }

    /// Agrees to what is asked for, where something is.
    ///
    /// # Panics
    /// When the page has no form of the provider's.
    #[track_caller]
    pub fn agree(&self, browser: &mut Browser, page: Page) -> Page {
        match page.url.starts_with(&self.issuer) {
            true => self.send_form(browser, page, "prompt=consent"),
            false => page,
        }
    }

    /// Sends the one form of a page, with these values.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn send_form(&self, browser: &mut Browser, page: Page, form: &str) -> Page {
        let text = page.response.text();
        let action = text.split("action=\"").nth(1).and_then(|rest| rest.split('"').next());
        let action = action.unwrap_or_else(|| panic!("no form at {}: {text}", page.url)).to_owned();
        let response = browser.submit(&action, form, "same-origin");
        browser.follow(&action, response)
    }

    /// How often it was asked for tokens by which grant.
    #[track_caller]
    #[must_use]
    pub fn counts(&self) -> Value {
        Browser::new().open(&format!("{}/test/counts", self.issuer)).json()
    }

    /// Makes it forget all refresh tokens.
    #[track_caller]
    pub fn forget(&self) {
        self.tell("forget");
    }

    /// Makes it answer 503, or not any more.
    #[track_caller]
    pub fn set_down(&self, is_down: bool) {
        self.tell(if is_down { "down" } else { "up" });
    }

    #[track_caller]
    fn tell(&self, what: &str) {
        let told = Browser::new().send("POST", &format!("{}/test/{what}", self.issuer), Some(""), &[]);
        assert_eq!((told.status, told.json()), (200, json!({})));
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn prepared(path: &Path) -> PathBuf {
    assert!(path.exists(), "{} is missing: run scripts/prepare.sh test", path.display());
    path.to_owned()
}
