//! What goes wrong on purpose, between the edge, which does it, and the admin API, which is asked for it.

use std::time::UNIX_EPOCH;

use terrace_admin::map::Fault;
use terrace_admin::{ControlError, FaultWanted};
use terrace_edge as edge;
use terrace_edge::{FaultBoard, FaultError, FaultReport};
use terrace_policy::Share;
use terrace_route::HeaderMatch;

/// All that is under way.
pub(crate) fn list(board: &FaultBoard) -> Vec<Fault> {
    board.list().iter().map(shown).collect()
}

/// Begins one.
pub(crate) fn begin(board: &FaultBoard, wanted: FaultWanted) -> Result<Fault, ControlError> {
    let FaultWanted { route, delay, abort, share, headers, lasts } = wanted;
    let exact = |(name, value): (String, String)| (name, HeaderMatch::Exact(value));
    let headers = headers.into_iter().map(exact).collect();
    let fault = edge::Fault::new(delay, abort, Share::from_ratio(share), headers).map_err(refused)?;
    board.begin(&route, fault, lasts).map(|report| shown(&report)).map_err(refused)
}

/// Ends the one with that id, or all that operators began on the route of that name.
pub(crate) fn end(board: &FaultBoard, which: &str) -> Result<Vec<Fault>, ControlError> {
    let ended: Vec<Fault> = match which.parse::<u64>() {
        Ok(id) => board.end(id).iter().map(shown).collect(),
        Err(_) => {
            let ids = board.list().into_iter().filter(|report| report.route == which);
            ids.filter_map(|report| board.end(report.id?)).map(|report| shown(&report)).collect()
        }
    };
    match ended.is_empty() {
        false => Ok(ended),
        true => Err(ControlError::not_found(format!(
            "no fault that an operator began is {which}, or on a route of that name; it may be over"
        ))),
    }
}

fn refused(error: FaultError) -> ControlError {
    match error {
        FaultError::NoRoute(_) => ControlError::not_found(error.to_string()),
        FaultError::TooMany => ControlError::conflict(error.to_string()),
        _ => ControlError::invalid(error.to_string()),
    }
}

fn shown(report: &FaultReport) -> Fault {
    let fault = &report.fault;
    Fault {
        id: report.id,
        route: report.route.clone(),
        delay_seconds: fault.delay().map(|delay| delay.as_secs_f64()),
        abort: fault.abort(),
        share: f64::from(fault.share().ppm()) / 1e6,
        headers: fault.headers().map(header).collect(),
        until: report.until.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
    }
}

/// What is asked of a header, in a word.
fn header((name, wanted): (&str, &HeaderMatch)) -> String {
    match wanted {
        HeaderMatch::Exact(value) => format!("{name}: {value}"),
        HeaderMatch::Prefix(start) => format!("{name}: {start}…"),
        HeaderMatch::Suffix(end) => format!("{name}: …{end}"),
        HeaderMatch::Present => name.to_owned(),
        HeaderMatch::Absent => format!("no {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_header_is_told_in_a_word() {
        let told = |wanted| header(("x-test", &wanted));
        assert_eq!(told(HeaderMatch::Exact("1".to_owned())), "x-test: 1");
        assert_eq!(told(HeaderMatch::Prefix("be".to_owned())), "x-test: be…");
        assert_eq!(told(HeaderMatch::Absent), "no x-test");
    }
}
