//! Limits that several machines share, against a real Redis; and quotas over restarts, against a real folder.

mod machine;
mod quotas;
mod shared;
