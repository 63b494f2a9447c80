//! `[notify.NAME]`: whom alerts are told, and how.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use terrace_signals::alerts::Severity;

use super::alert::SeverityWord;
use super::contact::{FieldsTable, MailAddress, MailServer, UrlSetting, secret_url};
use super::problem::Finding;
use super::read::{OneOrMany, Read, Reader, table};
use super::service::{EnvValue, check_command};
use super::tree::Node;
use super::values::{Command, Secret, SecretSource, Words};

table! {
    /// Somebody who is told of alerts, in one of four ways. Alerts that belong together come in one message; what could not
    /// be delivered is tried again. `terrace alerts test` sends everybody a test.
    pub(crate) struct NotifyTable one of "webhook" "slack" "email" "command" {
        /// POST of Alertmanager's webhook body (version 4) to this URL; a secret where who knows the URL may use it.
        "webhook" webhook: Option<UrlSetting>, example "https://oncall.example.com/alerts";
        /// Headers of the webhook's requests: texts or secrets.
        "headers" headers: FieldsTable = {}, with "webhook", example { Authorization = { env = "ONCALL_TOKEN" } };
        /// POST of a text as Slack, Mattermost and Discord (with `/slack` behind its URL) take it. The URL is a secret: who
        /// knows it may post.
        "slack" slack: Option<SecretSource>, example { env = "SLACK_URL" };
        /// A mail.
        "email" email: Option<EmailTable>;
        /// A program that finds the webhook's body on its standard input. A text is split into words as a shell does, but no
        /// shell runs it.
        "command" command: Option<Command>, example "./page.sh";
        /// Only alerts that matter at least so much.
        "severity" severity: SeverityWord = "ticket";
        /// Tell also when an alert is over.
        "resolved" resolved: bool = true;
        /// How long the first alerts of a group wait for others.
        "group-wait" group_wait: Duration = "10s", within "0s" to "1h";
        /// An alert that goes on is told again after that long.
        "repeat" repeat: Duration = "4h", within "1m" to "30d";
    }
}

table! {
    /// A mail, by SMTP.
    pub(crate) struct EmailTable {
        /// The server: `smtps://` (TLS), `smtp+starttls://` (TLS asked for) or `smtp://` (plain), its host and perhaps a port.
        "server" server: MailServer, example "smtps://mail.example.com:465";
        /// To log in with.
        "user" user: Option<Words>, with "password", example "terrace";
        /// To log in with.
        "password" password: Option<SecretSource>, with "user", example { env = "SMTP_PASSWORD" };
        /// The sender.
        "from" from: MailAddress, example "terrace@example.com";
        /// Who gets it: an address, or a list of them.
        "to" to: OneOrMany<MailAddress>, example ["ops@example.com"];
    }
}

/// Whom alerts are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Receiver {
    /// Its name in the file.
    pub name: String,
    /// The way.
    pub way: Way,
    /// Only alerts that matter at least so much.
    pub severity_min: Severity,
    /// Whether it is told when an alert is over.
    pub resolved: bool,
    /// So long the first alerts of a group wait for others.
    pub group_wait: Duration,
    /// An alert that goes on is told again after that long.
    pub repeat: Duration,
}

/// How alerts are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// POST of Alertmanager's webhook body.
    Webhook {
        /// Where to.
        url: EnvValue,
        /// Headers of each request.
        headers: BTreeMap<String, EnvValue>,
    },
    /// POST of a text as Slack takes it.
    Slack {
        /// Where to.
        url: Secret,
    },
    /// A mail.
    Email {
        /// With its port.
        server: String,
        /// To log in.
        login: Option<(String, Secret)>,
        /// The sender.
        from: String,
        /// Never empty.
        to: Vec<String>,
    },
    /// A program with its arguments.
    Command(Vec<String>),
}

impl Receiver {
    /// Every secret that it needs.
    pub fn secrets(&self) -> Vec<&Secret> {
        match &self.way {
            Way::Webhook { url, headers } => {
                headers.values().chain([url]).filter_map(EnvValue::as_secret).collect()
            }
            Way::Slack { url } => vec![url],
            Way::Email { login, .. } => login.iter().map(|(_, password)| password).collect(),
            Way::Command(_) => Vec::new(),
        }
    }
}

/// The receiver called `name`.
pub(crate) fn resolve(name: &str, node: &Node, reader: &mut Reader<'_>) -> Option<Receiver> {
    let table = NotifyTable::read(node, reader)?;
    let way = resolve_way(&table, node, reader)?;
    Some(Receiver {
        name: name.to_owned(),
        way,
        severity_min: table.severity.into(),
        resolved: table.resolved,
        group_wait: table.group_wait,
        repeat: table.repeat,
    })
}

fn resolve_way(table: &NotifyTable, node: &Node, reader: &mut Reader<'_>) -> Option<Way> {
    match (&table.webhook, &table.slack, &table.email, &table.command) {
        (Some(webhook), _, _, _) => {
            let url = webhook.resolve(node.origin_of("webhook"), reader);
            let headers = table.headers.resolve(node.get("headers"), reader);
            Some(Way::Webhook { url: url?, headers: headers? })
        }
        (None, Some(slack), _, _) => {
            Some(Way::Slack { url: secret_url(slack, node.origin_of("slack"), reader)? })
        }
        (None, None, Some(email), _) => resolve_email(email, node.get("email")?, reader),
        (None, None, None, Some(command)) => {
            let words = from_the_files_folder(&command.0, reader);
            check_command(&words, (Path::new(""), None), node.origin_of("command"), reader)?;
            Some(Way::Command(words))
        }
        // Invariant: `NotifyTable` has exactly one of the four.
        (None, None, None, None) => None,
    }
}

/// A program's path is seen from the file's folder, wherever Terrace is started.
fn from_the_files_folder(command: &[String], reader: &Reader<'_>) -> Vec<String> {
    let mut words = command.to_vec();
    if let Some(program) = words.first_mut().filter(|program| program.contains('/')) {
        let path = reader.path(program);
        let path = if path.parent() == Some(Path::new("")) { Path::new(".").join(path) } else { path };
        *program = path.display().to_string();
    }
    words
}

fn resolve_email(table: &EmailTable, node: &Node, reader: &mut Reader<'_>) -> Option<Way> {
    let login = match (&table.user, &table.password) {
        (Some(user), Some(password)) => {
            if !table.server.is_private {
                let message = "over plain SMTP everybody on the way could read the password";
                let finding = Finding::new(node.origin_of("server"), message);
                return reader.refuse(finding.help("write smtps:// or smtp+starttls://"));
            }
            Some((user.0.clone(), reader.secret(password, node.origin_of("password"))?))
        }
        // `with` has told of one without the other.
        _ => None,
    };
    Some(Way::Email {
        server: table.server.url.clone(),
        login,
        from: table.from.0.clone(),
        to: table.to.0.iter().map(|address| address.0.clone()).collect(),
    })
}
