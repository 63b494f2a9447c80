//! Where the admin API listens, and for whom. Values that would open it to strangers cannot be made.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ring::rand::{SecureRandom, SystemRandom};

/// Everything the admin API needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The state folder; made with mode 0700 when missing, refused when others may write into it. The socket `admin.sock`, the lock `terrace.lock` and
    /// `audit.log` lie in it.
    pub state: PathBuf,
    /// The loopback face, if any.
    pub loopback: Option<Loopback>,
    /// Where `/livez`, `/readyz` and `/metrics` are served, if anywhere.
    pub probes: Option<SocketAddr>,
}

/// The loopback face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loopback {
    address: SocketAddr,
    token: Token,
    viewer_token: Option<Token>,
    any_port: bool,
    second_factor: bool,
}

/// What somebody may do who came through the loopback face.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Look at everything, change nothing.
    Viewer,
    /// All that can be done from here.
    Operator,
}

impl Role {
    /// As it is written in requests and in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

/// The address is not on the loopback interface: the user's to put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the admin API refuses to listen on {0}: it listens on loopback only, such as 127.0.0.1:{port}; reach it from elsewhere through SSH", port = .0.port())]
pub struct NotLoopback(pub SocketAddr);

impl Loopback {
    /// The API at `address`, which must be a loopback one, for whoever has `token`.
    pub fn new(address: SocketAddr, token: Token) -> Result<Self, NotLoopback> {
        if !address.ip().to_canonical().is_loopback() {
            return Err(NotLoopback(address));
        }
        Ok(Self { address, token, viewer_token: None, any_port: false, second_factor: false })
    }

    /// Takes a free port when another program has this one: for an address that nobody chose.
    #[must_use]
    pub fn or_any_port(mut self) -> Self {
        self.any_port = true;
        self
    }

    /// Asks for a one-time code besides the token. Then a token alone opens nothing here, the API neither: programs have the
    /// Unix socket.
    #[must_use]
    pub fn with_second_factor(mut self, is_on: bool) -> Self {
        self.second_factor = is_on;
        self
    }

    /// Lets whoever has this other token look, but change nothing.
    #[must_use]
    pub fn with_viewer_token(mut self, token: Token) -> Self {
        self.viewer_token = Some(token);
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `given` opens; both tokens are always compared, so that the time does not tell which was nearer.
    pub(crate) fn role_of(&self, given: &[u8]) -> Option<Role> {
        let is_operator = self.token.is(given);
        let is_viewer = self.viewer_token.as_ref().is_some_and(|token| token.is(given));
        match (is_operator, is_viewer) {
            (true, _) => Some(Role::Operator),
            (false, true) => Some(Role::Viewer),
            (false, false) => None,
        }
    }

    /// The secret behind a role's sessions, so that they end when it changes. A viewer without a token of their own (let
    /// in by a code) stands on the operator's.
    pub(crate) fn secret_behind(&self, role: Role) -> &[u8] {
        match (role, &self.viewer_token) {
            (Role::Viewer, Some(token)) => token.0.as_bytes(),
            _ => self.token.0.as_bytes(),
        }
    }

    pub(crate) fn has_second_factor(&self) -> bool {
        self.second_factor
    }

    pub(crate) fn takes_any_port(&self) -> bool {
        self.any_port
    }
}

/// A secret that opens the loopback face. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// The token cannot protect anything: the user's to put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the admin token must have at least {min} visible ASCII characters; `openssl rand -hex 32` makes a good one", min = Token::CHARACTERS_MIN)]
pub struct WeakToken;

impl Token {
    /// Fewer characters could be guessed.
    pub const CHARACTERS_MIN: usize = 16;

    /// A token from its text; white space around it (a file's last newline) is not part of it.
    pub fn new(text: &str) -> Result<Self, WeakToken> {
        let text = text.trim();
        if text.len() < Self::CHARACTERS_MIN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(WeakToken);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text of a new token: 256 random bits of the system's, in hexadecimal. For whoever keeps it where only its owner
    /// can read it.
    pub fn random_text() -> String {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).expect("the system has random numbers once it has booted");
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Compares in a time that does not tell how many characters were right.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let mut difference = u8::from(own.len() != given.len());
        for (index, byte) in given.iter().enumerate() {
            difference |= byte ^ own[index % own.len()];
        }
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_refuses_to_listen_where_strangers_are() {
        let token = Token::new("0123456789abcdef").unwrap();
        for address in ["0.0.0.0:9900", "192.0.2.1:9900", "[::]:9900", "[::ffff:192.0.2.1]:9900"] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(Loopback::new(address, token.clone()), Err(NotLoopback(address)));
        }
        for address in ["127.0.0.1:9900", "127.9.9.9:1", "[::1]:9900", "[::ffff:127.0.0.1]:9900"] {
            assert!(Loopback::new(address.parse().unwrap(), token.clone()).is_ok());
        }
    }

    #[test]
    fn a_token_is_matched_whole_and_never_shown() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for wrong in ["", "0", "0123456789abcdeF", "0123456789abcdef0123456789abcdef", "0123456789abcde"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(redacted)");
        let made = Token::random_text();
        assert!(made.len() == 64 && Token::new(&made).is_ok() && made != Token::random_text());
        assert_eq!(Token::new("short"), Err(WeakToken));
        assert_eq!(Token::new("with a blank inside it"), Err(WeakToken));
    }
}
