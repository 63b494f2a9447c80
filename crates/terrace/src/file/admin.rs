//! `[admin]`: probes, metrics and the admin API.

use std::net::SocketAddr;

use super::problem::Finding;
use super::read::{Read, Reader, Switch, table};
use super::tree::Node;
use super::values::{Secret, SecretSource};

table! {
    /// Probes, metrics and the admin API. The command line needs none of this: it talks over the state folder's socket.
    pub(crate) struct AdminTable {
        /// Loopback address of the admin API; off by default. Each request must carry the token.
        "address" address: Option<SocketAddr>, example "127.0.0.1:9900";
        /// The token that the admin API asks for, as `Authorization: Bearer …`; at least 16 characters.
        "token" token: Option<SecretSource>, with "address", example { env = "TERRACE_TOKEN" };
        /// Address of `/livez`, `/readyz` and `/metrics`. `false`: off.
        "probes" probes: Switch<SocketAddr> = "127.0.0.1:9901";
    }
}

/// Probes, metrics and the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The admin API; `None`: off.
    pub api: Option<AdminApi>,
    /// Address of `/livez`, `/readyz` and `/metrics`; `None`: off.
    pub probes: Option<SocketAddr>,
}

/// The admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminApi {
    /// On loopback.
    pub address: SocketAddr,
    /// What each request must carry.
    pub token: Secret,
}

/// Shorter than this, a token can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

pub(crate) fn resolve(node: &Node, reader: &mut Reader<'_>) -> Option<Admin> {
    let table = AdminTable::read(node, reader)?;
    let api = match (table.address, table.token) {
        (None, _) => None,
        (Some(address), Some(source)) => Some(resolve_api(address, &source, node, reader)?),
        (Some(_), None) => {
            let finding = Finding::new(node.key_origin_of("address"), "the admin API needs a `token`");
            return reader.refuse(finding.help("add token = { env = \"TERRACE_TOKEN\" }"));
        }
    };
    Some(Admin { api, probes: table.probes.on() })
}

fn resolve_api(
    address: SocketAddr,
    source: &SecretSource,
    node: &Node,
    reader: &mut Reader<'_>,
) -> Option<AdminApi> {
    if !address.ip().is_loopback() {
        let finding = Finding::new(node.origin_of("address"), "the admin API listens on loopback only");
        return reader.refuse(finding.help(format!("write \"127.0.0.1:{}\"", address.port())));
    }
    let origin = node.origin_of("token");
    let token = reader.secret(source, origin)?;
    if token.reveal().chars().count() < TOKEN_CHARS_MIN {
        let message = format!("this token is shorter than {TOKEN_CHARS_MIN} characters");
        return reader.refuse(Finding::new(origin, message));
    }
    Some(AdminApi { address, token })
}
