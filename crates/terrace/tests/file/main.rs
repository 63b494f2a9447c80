//! `terrace.toml` as its authors meet it: what a wrong file is answered with, and what a good one comes to.
//!
//! Each case in `wrong/` and `good/` is a file beside the text that it must produce. A case with several files has
//! a line `#=== NAME` before each; with a `terrace.production.toml` among them it is read as `--env production`. The
//! files of `side/` are there in every case. `BLESS=1` writes the texts anew; read the difference before you commit it.

mod cases;
mod changes;
mod chaos;
mod docs;
mod gateway;
mod merging;
mod reference;
mod world;
