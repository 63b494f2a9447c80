//! `terrace fault`: what can be broken on purpose, for whom, and for how long.

use std::time::Duration;

use clap::Args;

use super::seeing::lasts;
use super::{Running, examples};

/// `terrace fault`
#[derive(Args, Clone, Debug, PartialEq)]
#[command(after_help = examples::FAULT)]
pub struct Fault {
    /// The route; `internal:NAME` for the calls of other services to the service NAME
    #[arg(required_unless_present_any = ["list", "end"], conflicts_with_all = ["list", "end"])]
    pub route: Option<String>,
    /// Let requests wait so long, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = lasts, requires = "route")]
    pub delay: Option<Duration>,
    /// Answer requests with this status, 400 to 599
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(400..=599), requires = "route")]
    pub abort: Option<u16>,
    /// For this share of the requests, such as 10%
    #[arg(long, value_name = "SHARE", value_parser = share, default_value = "100%", hide_default_value = true)]
    pub share: f64,
    /// Only for requests with this header; may be given several times
    #[arg(long, value_name = "NAME: VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// For how long, such as 5m: it ends by itself
    #[arg(id = "for", long = "for", value_name = "TIME", value_parser = lasts)]
    #[arg(required_unless_present_any = ["list", "end"])]
    pub lasts: Option<Duration>,
    /// Show what is broken on purpose, by whom and until when
    #[arg(long, conflicts_with = "end")]
    pub list: bool,
    /// End the fault with that number, or all that were begun on that route
    #[arg(long, value_name = "ID")]
    pub end: Option<String>,
    #[expect(missing_docs, reason = "a doc comment here would replace the help of the command")]
    #[command(flatten)]
    pub running: Running,
}

/// A share as the file writes it: `10%`, above nothing and at most all.
fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("write it like 10%, above 0% and at most 100%".to_owned()),
    }
}

/// `X-Test: 1`
fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it like \"X-Test: 1\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_more_than_nothing_and_at_most_all() {
        assert_eq!(share("10%"), Ok(0.1));
        assert_eq!(share("100 %"), Ok(1.0));
        for wrong in ["10", "0%", "-1%", "101%", "x%", "NaN%", "%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_has_a_name_and_a_value() {
        assert_eq!(header("X-Test: a: b"), Ok(("X-Test".to_owned(), "a: b".to_owned())));
        assert!(header("X-Test").is_err() && header(": b").is_err());
    }
}
