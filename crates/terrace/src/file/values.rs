//! The values a key takes: a duration, a size, an address, a secret. Each is read from one form of text only.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::problem::Finding;
use super::read::{Read, Reader, Scalar, Wrong, choice, table};
use super::spec::{Form, Shape};
use super::tree::{Node, Value};
use super::words::SplitError;

const DURATION_UNITS: &[(&str, u64)] = &[
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl Scalar for Duration {
    const FORM: Form = Form { noun: "a duration", example: "250ms", pattern: "^[0-9]+(us|ms|s|m|h|d)$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, unit) = quantity(text, "s", DURATION_UNITS)?;
        let Some((_, nanoseconds)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit(unit, DURATION_UNITS));
        };
        match number.checked_mul(*nanoseconds) {
            Some(nanoseconds) => Ok(Self::from_nanos(nanoseconds)),
            None => Err(Wrong::because("is too long a time")),
        }
    }

    fn for_number(number: i64) -> Option<String> {
        Some(format!("\"{number}s\""))
    }

    fn between(&self, low: &Self, high: &Self) -> bool {
        (low..=high).contains(&self)
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) struct Size(pub(crate) u64);

const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

impl Scalar for Size {
    const FORM: Form = Form { noun: "a size", example: "1MiB", pattern: "^[0-9]+([KMGT]i?)?B$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (number, unit) = quantity(text, "B", SIZE_UNITS)?;
        let Some((_, bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit(unit, SIZE_UNITS));
        };
        match number.checked_mul(*bytes) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(Wrong::because("is too large")),
        }
    }

    fn for_number(number: i64) -> Option<String> {
        Some(format!("\"{number}B\""))
    }

    fn between(&self, low: &Self, high: &Self) -> bool {
        (low..=high).contains(&self)
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) struct ByteRate(pub(crate) u64);

impl Scalar for ByteRate {
    const FORM: Form =
        Form { noun: "a rate of bytes", example: "256B/s", pattern: "^[0-9]+([KMGT]i?)?B/(s|m|h|d)$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some((size, per)) = text.split_once('/') else {
            return Err(match Size::parse(text) {
                Ok(_) => Wrong::write(format!("{text}/s")),
                Err(_) => Wrong::form(),
            });
        };
        let seconds = match per {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(Wrong::because("ends in none of /s, /m, /h, /d")),
        };
        Ok(Self(Size::parse(size)?.0.div_ceil(seconds)))
    }

    fn for_number(number: i64) -> Option<String> {
        Some(format!("\"{number}B/s\""))
    }
}

/// The number and the unit of `text`. `usual`: the unit to suggest where there is none.
fn quantity<'t>(text: &'t str, usual: &str, units: &[(&str, u64)]) -> Result<(u64, &'t str), Wrong> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let Ok(value) = number.parse() else {
        return Err(if number.is_empty() { Wrong::form() } else { Wrong::because("is too large") });
    };
    match unit {
        "" => Err(Wrong::write(format!("{number}{usual}"))),
        unit if unit.starts_with(' ') => Err(match units.iter().any(|(name, _)| *name == unit.trim()) {
            true => Wrong::write(format!("{number}{}", unit.trim())),
            false => unknown_unit(unit.trim(), units),
        }),
        unit if unit.starts_with('.') => Err(Wrong::because("is no whole number; use a smaller unit")),
        unit => Ok((value, unit)),
    }
}

fn unknown_unit(unit: &str, units: &[(&str, u64)]) -> Wrong {
    let known: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
    let meant = known.iter().find(|name| name.eq_ignore_ascii_case(unit));
    let hint = match meant {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => String::new(),
    };
    let shown: String = unit.chars().take(12).collect();
    Wrong::because(format!("has the unknown unit `{shown}` (known: {}){hint}", known.join(", ")))
}

/// A share from 0 to 1, written as percent.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Share(pub(crate) f64);

impl Scalar for Share {
    const FORM: Form = Form { noun: "a share", example: "60%", pattern: "^[0-9]+(\\.[0-9]+)?%$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some(number) = text.strip_suffix('%') else {
            return Err(match text.parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => Wrong::write(percent(share)),
                Ok(_) => Wrong::write(format!("{text}%")),
                Err(_) => Wrong::form(),
            });
        };
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let share = if plain { hundredth(number) } else { None };
        match share {
            Some(share) if share <= 1.0 => Ok(Self(share)),
            Some(_) => Err(Wrong::because("is more than 100%")),
            None => Err(Wrong::form()),
        }
    }

    fn for_number(number: i64) -> Option<String> {
        Some(format!("\"{number}%\""))
    }

    fn for_fraction(number: f64) -> Option<String> {
        match number {
            0.0..=1.0 => Some(format!("{:?}", percent(number))),
            1.0..=100.0 => Some(format!("\"{number}%\"")),
            _ => None,
        }
    }
}

/// The hundredth of a number of digits and a point: read with its point moved, so that 99.9 gives what 0.999 gives; divided, it would be
/// 0.9990000000000001.
fn hundredth(number: &str) -> Option<f64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = format!("00{whole}");
    let (above, below) = digits.split_at(digits.len() - 2);
    format!("{above}.{below}{fraction}").parse().ok()
}

/// `0.075` as `7.5%`, without the noise of binary fractions.
fn percent(share: f64) -> String {
    let hundredths = (share * 10_000.0).round() / 100.0;
    format!("{hundredths}%")
}

/// IP address and port.
impl Scalar for SocketAddr {
    const FORM: Form = Form { noun: "an address", example: "127.0.0.1:8080", pattern: "^.+:[0-9]{1,5}$" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Ok(address) = text.parse() {
            return Ok(address);
        }
        if text.parse::<u16>().is_ok() {
            return Err(Wrong::write(format!("0.0.0.0:{text}")));
        }
        match text.parse() {
            Ok(IpAddr::V6(address)) => return Err(Wrong::write(format!("[{address}]:8080"))),
            Ok(IpAddr::V4(address)) => return Err(Wrong::write(format!("{address}:8080"))),
            Err(_) => {}
        }
        match text.rsplit_once(':') {
            Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
                Err(Wrong::write(format!("0.0.0.0:{port}")))
            }
            Some(("localhost", port)) => Err(Wrong::write(format!("127.0.0.1:{port}"))),
            Some((host, port))
                if host.parse::<IpAddr>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                Err(Wrong::because("has a port above 65535"))
            }
            Some((host, port)) if port.parse::<u16>().is_ok() && host.contains(char::is_alphabetic) => {
                Err(Wrong::because("is a name; an address is an IP address with a port"))
            }
            _ => Err(Wrong::form()),
        }
    }

    fn for_number(number: i64) -> Option<String> {
        match u16::try_from(number) {
            Ok(port) => Some(format!("\"0.0.0.0:{port}\"")),
            Err(_) => None,
        }
    }
}

/// A range of IP addresses, as in RFC 4632: all whose first `prefix_bits` are those of `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its lowest address.
    pub address: IpAddr,
    /// At most 32 for IPv4, 128 for IPv6.
    pub prefix_bits: u8,
}

impl Scalar for Network {
    const FORM: Form = Form { noun: "a network", example: "10.0.0.0/8", pattern: "" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else { return Err(Wrong::form()) };
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix.map(str::parse) {
            None => bits_max,
            Some(Ok(bits)) if bits <= bits_max => bits,
            Some(_) => return Err(Wrong::because(format!("has no prefix from 0 to {bits_max}"))),
        };
        let network = lowest(address, prefix_bits);
        match network == address {
            true => Ok(Self { address, prefix_bits }),
            false => Err(Wrong {
                why: format!("has bits set behind its prefix of {prefix_bits}"),
                write: Some(format!("{network}/{prefix_bits}")),
            }),
        }
    }
}

fn lowest(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Defines a text that is checked but kept as it is.
macro_rules! text {
    ($(#[doc = $doc:literal])+ $name:ident, $noun:literal, $example:literal, $pattern:literal, $check:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(pub(crate) String);

        impl Scalar for $name {
            const FORM: Form = Form { noun: $noun, example: $example, pattern: $pattern };

            fn parse(text: &str) -> Result<Self, Wrong> {
                let check: fn(&str) -> Result<(), Wrong> = $check;
                check(text).map(|()| Self(text.to_owned()))
            }
        }
    };
}

text!(
    /// Any text.
    Words, "a text", "", "", |_| Ok(())
);
text!(
    /// Path of a file or folder, relative to the main file.
    FilePath, "a path", "certs/web.pem", "^.+$", |text| match text {
        "" => Err(Wrong::because("is empty; a path is wanted")),
        text if text.contains('\0') => Err(Wrong::because("has a zero byte, which no path may have")),
        _ => Ok(()),
    }
);
text!(
    /// Path of a URL, perhaps with a query.
    UrlPath, "a path of a URL", "/health", "^/[^\\s#]*$", |text| match text {
        text if !text.starts_with('/') => Err(Wrong::write(format!("/{text}"))),
        text if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') => Ok(()),
        _ => Err(Wrong::because("has characters that a URL must percent-encode")),
    }
);
text!(
    /// Name of an HTTP field or a cookie: an RFC 9110 section 5.6.2 token.
    Token, "a name of HTTP", "X-User", "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", |text| match is_token(text) {
        true => Ok(()),
        false => Err(Wrong::because("has characters that no name of HTTP may have")),
    }
);
text!(
    /// Name of an environment variable.
    Variable, "a name of an environment variable", "PORT", "^[A-Za-z_][A-Za-z0-9_]*$", |text| match is_variable(text) {
        true => Ok(()),
        false => Err(Wrong::because("is no name of an environment variable (letters, digits and _)")),
    }
);

/// An HTTP token, RFC 9110 section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}

/// A name that every shell and program takes as an environment variable.
pub(crate) fn is_variable(text: &str) -> bool {
    let starts_well = !text.is_empty() && !text.as_bytes()[0].is_ascii_digit();
    starts_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

text!(
    /// Method of a request; RFC 9110 section 9: their case matters.
    Method, "a method", "GET", "^[A-Z-]+$", |text| match text {
        text if !is_token(text) => Err(Wrong::form()),
        text if text.bytes().any(|byte| byte.is_ascii_lowercase()) => Err(Wrong::write(text.to_ascii_uppercase())),
        _ => Ok(()),
    }
);
text!(
    /// Name of a user or group of the system.
    Account, "a name of a user or group", "app", "^[A-Za-z_][A-Za-z0-9_.-]*$", |text| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        match !text.is_empty() && !text.starts_with('-') && text.bytes().all(known) {
            true => Ok(()),
            false => Err(Wrong::form()),
        }
    }
);

/// Name and port of a DNS service, or the name of an SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsName {
    /// A and AAAA records of `name`, at `port`.
    Address {
        /// Host name without trailing dot.
        name: String,
        /// Port of every address.
        port: u16,
    },
    /// SRV records (RFC 2782), which carry port and weight.
    Service {
        /// `_service._proto.name`.
        name: String,
    },
}

impl Scalar for DnsName {
    const FORM: Form = Form { noun: "a name with a port", example: "legacy.internal:8080", pattern: "" };

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(name) = text.strip_prefix("srv:") {
            return match is_host(name) && name.starts_with('_') {
                true => Ok(Self::Service { name: name.to_owned() }),
                false => Err(Wrong::because("names no SRV record like \"srv:_http._tcp.legacy.internal\"")),
            };
        }
        if text.starts_with('_') {
            return Err(Wrong::write(format!("srv:{text}")));
        }
        if text.parse::<SocketAddr>().is_ok() {
            return Err(Wrong::because("is an address, not a name; it goes into `hosts`"));
        }
        let Some((name, port)) = text.rsplit_once(':') else {
            return Err(if is_host(text) { Wrong::because("has no port") } else { Wrong::form() });
        };
        match (is_host(name), port.parse()) {
            (true, Ok(port)) if port > 0 => Ok(Self::Address { name: name.to_owned(), port }),
            (true, _) => Err(Wrong::because("has no port from 1 to 65535")),
            (false, _) => Err(Wrong::form()),
        }
    }
}

/// A host name of DNS: labels of at most 63 of letters, digits, `-` and `_`; 253 in all (RFC 1035).
pub(crate) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(known) && !label.starts_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Status codes of responses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// 100 to 599.
    pub from: u16,
    /// Not below `from`, at most 599.
    pub to: u16,
}

impl Scalar for StatusRange {
    const FORM: Form = Form {
        noun: "a status or range of them",
        example: "200-399",
        pattern: "^[1-5]([0-9]{2}(-[1-5][0-9]{2})?|xx)$",
    };

    fn parse(text: &str) -> Result<Self, Wrong> {
        let status = |text: &str| match text.parse::<u16>() {
            Ok(status) if (100..=599).contains(&status) && text.len() == 3 => Some(status),
            _ => None,
        };
        if let Some(hundred) = text.strip_suffix("xx") {
            return match hundred.parse::<u16>() {
                Ok(hundred) if (1..=5).contains(&hundred) => {
                    Ok(Self { from: hundred * 100, to: hundred * 100 + 99 })
                }
                _ => Err(Wrong::form()),
            };
        }
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (status(from), status(to)) {
            (Some(from), Some(to)) if from <= to => Ok(Self { from, to }),
            (Some(_), Some(_)) => Err(Wrong::because("ends before it starts")),
            _ => Err(Wrong::form()),
        }
    }
}

choice! {
    /// A bound that Terrace finds itself.
    pub(crate) enum AutoWord {
        /// Found by measuring.
        "auto" Auto,
    }
}

/// A value, or `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrAuto<T> {
    Auto,
    Is(T),
}

impl<T> OrAuto<T> {
    /// The value; `None`: found by measuring.
    pub(crate) fn fixed(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Is(value) => Some(value),
        }
    }
}

impl<T: Read> Read for OrAuto<T> {
    fn shape() -> Shape {
        Shape::Either(vec![AutoWord::shape(), T::shape()])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match node.text() {
            Some("auto") => Some(Self::Auto),
            _ => Some(Self::Is(T::read(node, reader)?)),
        }
    }

    fn is_within(&self, low: &Self, high: &Self) -> bool {
        match (self, low, high) {
            (Self::Is(value), Self::Is(low), Self::Is(high)) => value.is_within(low, high),
            _ => true,
        }
    }
}

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Vec<String>);

const COMMAND_FORM: Form = Form { noun: "a command", example: "node server.js", pattern: "\\S" };

/// A line is split into words as a shell would; a list is taken as it is.
impl Read for Command {
    fn shape() -> Shape {
        Shape::Either(vec![Shape::Text(COMMAND_FORM), Shape::List(Box::new(Words::shape()))])
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let words = match &node.value {
            Value::Text(line) => match super::words::split(line) {
                Ok(words) => words,
                Err(error) => {
                    let finding = Finding::new(node.origin, error.to_string());
                    let shell = super::print::quoted(line);
                    return reader.refuse(match error {
                        SplitError::NeedsShell(..) => {
                            finding.help(format!("for a shell: [\"sh\", \"-c\", {shell}]"))
                        }
                        SplitError::Open(_) | SplitError::Backslash => finding,
                    });
                }
            },
            Value::List(_) => Vec::<Words>::read(node, reader)?.into_iter().map(|word| word.0).collect(),
            _ => return reader.unexpected(node, "a command: a text, or a list of texts", None),
        };
        if words.first().is_none_or(String::is_empty) {
            return reader.refuse(Finding::new(node.origin, "this command is empty"));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return reader.refuse(Finding::new(node.origin, "a command cannot hold a zero byte"));
        }
        Some(Self(words))
    }
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file, whose one trailing newline does not count.
    File(String),
    /// In an environment variable of Terrace's.
    Env(String),
}

table! {
    /// A secret is never written in the file, only where it is kept.
    pub(crate) struct SecretTable one of "file" "env", whole {
        /// File that holds the secret; one newline at its end does not count. It is watched: a new content takes effect like a change of `terrace.toml`.
        "file" file: Option<FilePath>, example "web.key";
        /// Environment variable of Terrace that holds the secret.
        "env" env: Option<Variable>, example "API_TOKEN";
    }
}

impl Read for SecretSource {
    fn shape() -> Shape {
        SecretTable::shape()
    }

    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        if let (Value::Text(_), super::source::Origin::Text(place)) = (&node.value, node.origin) {
            reader.sources.hide(place);
            let finding = Finding::new(node.origin, "a secret is not written in this file");
            return reader.refuse(finding.help("write { env = \"NAME\" } or { file = \"path\" }"));
        }
        let table = SecretTable::read(node, reader)?;
        match (table.file, table.env) {
            (Some(FilePath(path)), _) => Some(Self::File(path)),
            (None, Some(Variable(name))) => Some(Self::Env(name)),
            (None, None) => None,
        }
    }
}

/// A value that is never shown: its `Debug` names only where it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    source: SecretSource,
}

impl Secret {
    pub(crate) fn new(value: String, source: SecretSource) -> Self {
        Self { value, source }
    }

    /// The secret itself. For the one place that needs it; never for a log, a metric, a trace or an error.
    pub fn reveal(&self) -> &str {
        &self.value
    }

    /// Where it is kept.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            SecretSource::File(path) => write!(f, "Secret(file {path:?})"),
            SecretSource::Env(name) => write!(f, "Secret(env {name})"),
        }
    }
}

/// `250ms`, `5s`, `2h`: the largest unit that says it exactly.
pub(crate) fn show_duration(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let fitting = DURATION_UNITS.iter().rev().find(|(_, unit)| nanoseconds.is_multiple_of(u128::from(*unit)));
    match (nanoseconds, fitting) {
        (0, _) => "0s".to_owned(),
        (_, Some((name, unit))) => format!("{}{name}", nanoseconds / u128::from(*unit)),
        (_, None) => format!("{duration:?}"),
    }
}
