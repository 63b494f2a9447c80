//! Opaque API keys: what they look like, where they are kept, and who has one.
//!
//! A key is a name tag and a secret in one word, `tk_<id>_<secret>`. We keep only its hash, so that whoever reads our files
//! cannot use what they read; and since the secret has 256 random bits, a plain SHA-256 is as good as a slow hash would be
//! and costs a request less than a microsecond. The id says which hash to compare with. The last six characters are a checksum:
//! a typo is told from a wrong key, and a scanner that finds a leaked one knows that it is no accident of other text.
//!
//! The file `keys.json` in the state folder is the truth, and several machines may share it. Whoever changes it holds a lock,
//! writes it whole and waits for the disk; all others see it within a second. When a key was last used is noted in a file of its own,
//! now and then, since it matters little and a request must not wait for it.

mod file;
mod live;
mod method;
mod record;
mod text;

pub use file::{KeyFileError, KeyStore};
pub use live::{KeyRefused, Keys};
pub use method::Config as KeyConfig;
pub use record::{KeyRecord, NewKey, NewKeyError};
pub use text::{KeyText, NotAKey};

pub(crate) use method::KeyMethod;
pub(crate) use text::read as read_text;
