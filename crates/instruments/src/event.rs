//! A thing that happened, as a name and typed fields.
//!
//! An event is data, not a sentence: `fleet.instance.ready` with a service, an instance and a duration can be
//! counted, filtered and shown. Field values are of a closed set of plain types, none of which a secret's type
//! converts into, so that a secret cannot slip in by `{:?}`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::trace::TraceId;

/// How much a person needs to care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// For whoever looks into Terrace itself.
    Debug,
    /// The normal course of things.
    Info,
    /// Works, but somebody should look.
    Warn,
    /// Something asked for did not happen.
    Error,
}

impl Level {
    /// In lower case, as in the JSON line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What a field of an [`Event`] holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// A signed whole number.
    Int(i64),
    /// An unsigned whole number.
    Uint(u64),
    /// A number; not finite ones are written as `null`.
    Float(f64),
    /// Yes or no.
    Bool(bool),
    /// A span of time; written in seconds.
    Duration(Duration),
}

/// Something that happened. Built in one expression and given to [`Log::emit`](crate::Log::emit).
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When; the log's clock sets it.
    pub time: SystemTime,
    /// How much it matters.
    pub level: Level,
    /// What happened: lower case, dotted, from the crate to the particular.
    pub name: &'static str,
    /// The service concerned.
    pub service: Option<String>,
    /// The instance of it.
    pub instance: Option<String>,
    /// The request concerned.
    pub request: Option<String>,
    /// The trace concerned.
    pub trace: Option<TraceId>,
    /// A sentence, or a line of a program's output.
    pub message: Option<Cow<'static, str>>,
    /// The rest, in the order given.
    pub fields: Vec<(&'static str, Value)>,
}

impl Event {
    /// An event without fields.
    pub fn new(level: Level, name: &'static str) -> Self {
        Self {
            time: SystemTime::UNIX_EPOCH,
            level,
            name,
            service: None,
            instance: None,
            request: None,
            trace: None,
            message: None,
            fields: Vec::new(),
        }
    }

    /// Names the service concerned.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// Names the instance concerned.
    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// Names the request concerned.
    #[must_use]
    pub fn request(mut self, id: impl Into<String>) -> Self {
        self.request = Some(id.into());
        self
    }

    /// Names the trace concerned.
    #[must_use]
    pub fn trace(mut self, id: TraceId) -> Self {
        self.trace = Some(id);
        self
    }

    /// Says it in a sentence, for people.
    #[must_use]
    pub fn message(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.message = Some(text.into());
        self
    }

    /// Adds a field. The key is in snake_case, with its unit last.
    #[must_use]
    pub fn field(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    /// The first field of that name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

macro_rules! value_from {
    ($($from:ty => $value:ident => $to:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($value: $from) -> Self {
                $to
            }
        })*
    };
}

value_from! {
    &str => value => Self::Text(Cow::Owned(value.to_owned()));
    String => value => Self::Text(Cow::Owned(value));
    &String => value => Self::Text(Cow::Owned(value.clone()));
    Cow<'static, str> => value => Self::Text(value);
    bool => value => Self::Bool(value);
    i32 => value => Self::Int(i64::from(value));
    i64 => value => Self::Int(value);
    u16 => value => Self::Uint(u64::from(value));
    u32 => value => Self::Uint(u64::from(value));
    u64 => value => Self::Uint(value);
    usize => value => Self::Uint(value as u64);
    f64 => value => Self::Float(value);
    Duration => value => Self::Duration(value);
    IpAddr => value => Self::Text(Cow::Owned(value.to_string()));
    SocketAddr => value => Self::Text(Cow::Owned(value.to_string()));
}
