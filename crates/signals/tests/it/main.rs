//! What is known of the past and what follows from it, as those who rely on it meet it, in simulated time.

mod alerts;
mod promtool;
mod series;
mod text;
