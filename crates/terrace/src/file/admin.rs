//! `[admin]`: probes, metrics, the dashboard and the admin API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::problem::Finding;
use super::read::{Read, Reader, Switch, table};
use super::source::Origin;
use super::tree::Node;
use super::values::{Secret, SecretSource};

table! {
    /// Probes, metrics, the dashboard and the admin API. The command line needs none of this: it talks over the state
    /// folder's socket.
    pub(crate) struct AdminTable {
        /// Loopback address of the dashboard and the admin API. Default: `"127.0.0.1:9900"`, or another port when that one is
        /// taken; `terrace dashboard` says which. `false`: off.
        "address" address: Option<Switch<SocketAddr>>, example "127.0.0.1:9900";
        /// The token that opens them to an operator, who may change things; at least 16 characters. Default: made once and
        /// kept in the state folder, as `admin.token`.
        "token" token: Option<SecretSource>, example { env = "TERRACE_TOKEN" };
        /// A second token, for viewers, who may look and change nothing. Default: none.
        "viewer-token" viewer_token: Option<SecretSource>, example { env = "TERRACE_VIEWER_TOKEN" };
        /// Ask for a code of an authenticator app too when somebody logs in at the dashboard (RFC 6238); `terrace totp` shows the
        /// secret for the app.
        "totp" totp: bool = false;
        /// Address of `/livez`, `/readyz` and `/metrics`. `false`: off.
        "probes" probes: Switch<SocketAddr> = "127.0.0.1:9901";
    }
}

/// Probes, metrics, the dashboard and the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The dashboard and the admin API; `None`: off.
    pub api: Option<AdminApi>,
    /// Address of `/livez`, `/readyz` and `/metrics`; `None`: off.
    pub probes: Option<SocketAddr>,
}

/// The dashboard and the admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminApi {
    /// On loopback. `None`: nobody has chosen, so [`DEFAULT_ADDRESS`] where it is free.
    pub address: Option<SocketAddr>,
    /// What an operator's requests must carry; `None`: Terrace makes one.
    pub token: Option<Secret>,
    /// What a viewer's requests must carry; `None`: there are no viewers.
    pub viewer_token: Option<Secret>,
    /// Whether the dashboard asks for a code of an authenticator app too.
    pub totp: bool,
}

/// Where the dashboard is when nobody says where.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// Shorter than this, a token can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

pub(crate) fn resolve(node: &Node, reader: &mut Reader<'_>) -> Option<Admin> {
    let table = AdminTable::read(node, reader)?;
    let token = resolve_token(table.token.as_ref(), node.origin_of("token"), reader);
    let viewer_token = resolve_token(table.viewer_token.as_ref(), node.origin_of("viewer-token"), reader);
    let address = match table.address {
        Some(Switch::Off) if table.totp => {
            let finding =
                Finding::new(node.key_origin_of("totp"), "there is no dashboard that could ask for a code");
            return reader.refuse(finding.other(node.origin_of("address"), "it is off"));
        }
        Some(Switch::Off) => return Some(Admin { api: None, probes: table.probes.on() }),
        Some(Switch::On(address)) => Some(on_loopback(address, node, reader)?),
        None => None,
    };
    let (token, viewer_token) = (token?, viewer_token?);
    if let (Some(operator), Some(viewer)) = (&token, &viewer_token)
        && operator.reveal() == viewer.reveal()
    {
        let finding = Finding::new(
            node.origin_of("viewer-token"),
            "this is the operators' token: every viewer would be one",
        );
        return reader.refuse(finding.other(node.origin_of("token"), "the same as this"));
    }
    Some(Admin {
        api: Some(AdminApi { address, token, viewer_token, totp: table.totp }),
        probes: table.probes.on(),
    })
}

fn on_loopback(address: SocketAddr, node: &Node, reader: &mut Reader<'_>) -> Option<SocketAddr> {
    if address.ip().is_loopback() {
        return Some(address);
    }
    let finding = Finding::new(node.origin_of("address"), "the admin API listens on loopback only");
    reader.refuse(finding.help(format!("write \"127.0.0.1:{}\"", address.port())))
}

fn resolve_token(
    source: Option<&SecretSource>,
    origin: Origin,
    reader: &mut Reader<'_>,
) -> Option<Option<Secret>> {
    let Some(source) = source else { return Some(None) };
    let token = reader.secret(source, origin)?;
    if token.reveal().chars().count() < TOKEN_CHARS_MIN {
        let message = format!("this token is shorter than {TOKEN_CHARS_MIN} characters");
        return reader.refuse(Finding::new(origin, message));
    }
    Some(Some(token))
}
