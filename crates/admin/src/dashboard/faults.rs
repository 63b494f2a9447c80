//! What goes wrong on purpose: said wherever it could be taken for trouble, so that nobody looks for a cause that a
//! colleague began an hour ago.

use maud::{Markup, html};

use crate::map::Fault;

use super::actions::end_fault_form;
use super::figures::{seconds, share, span};
use super::layout;
use super::visitor::Visitor;

/// Where the faults of a page are.
pub(super) const PLACE: &str = "/alerts#faults";

/// One fault in a sentence: `10 % of the requests to route orders wait 500 ms and are answered 503`.
pub(super) fn sentence(fault: &Fault) -> String {
    let whose = match fault.headers.is_empty() {
        true => String::new(),
        false => format!(" with {}", fault.headers.join(", ")),
    };
    let what = match (fault.delay_seconds, fault.abort) {
        (Some(delay), Some(status)) => format!("wait {} and are answered {status}", seconds(delay)),
        (Some(delay), None) => format!("wait {}", seconds(delay)),
        (None, Some(status)) => format!("are answered {status}"),
        (None, None) => "are as they are".to_owned(),
    };
    format!("{} of the requests to route {}{whose} {what}", share(fault.share), fault.route)
}

/// How much longer it lasts.
pub(super) fn left(fault: &Fault, now: f64) -> String {
    span((fault.until - now).max(0.0) as u64)
}

/// All that goes wrong on purpose, to be ended; nothing where nothing does.
pub(super) fn panel(visitor: &Visitor, faults: &[Fault], now: f64) -> Markup {
    html! {
        @if !faults.is_empty() {
            section.panel id="faults" {
                header {
                    h2 { "Broken on purpose" }
                    p.hint { "Each ends by itself. Nothing of it counts against a service." }
                }
                div.scroll tabindex="0" role="region" aria-label="Faults on purpose" {
                    table.list {
                        caption.visually-hidden { "Faults on purpose" }
                        thead { tr {
                            th scope="col" { "What" } th scope="col" { "For another" } th scope="col" { "By" }
                            th scope="col" { span.visually-hidden { "Actions" } }
                        } }
                        tbody { @for fault in faults { (row(visitor, fault, now)) } }
                    }
                }
            }
        }
    }
}

fn row(visitor: &Visitor, fault: &Fault, now: f64) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/routes/" (layout::escape_query(&fault.route)) } { (sentence(fault)) } }
            td.nowrap { (left(fault, now)) }
            td { (if fault.id.is_some() { "an operator" } else { "the file" }) }
            td { @if let Some(id) = fault.id { (end_fault_form(visitor, id, &fault.route)) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_in_a_sentence() {
        let fault = Fault {
            route: "orders".to_owned(),
            delay_seconds: Some(0.5),
            abort: Some(503),
            share: 0.1,
            headers: vec!["x-test: 1".to_owned()],
            until: 720.0,
            ..Fault::default()
        };
        let told = sentence(&fault).replace('\u{202f}', " ");
        assert_eq!(
            told,
            "10 % of the requests to route orders with x-test: 1 wait 500 ms and are answered 503"
        );
        assert_eq!(left(&fault, 0.0).replace('\u{202f}', " "), "12 min");
        assert_eq!(left(&fault, 9_999.0).replace('\u{202f}', " "), "0 s");
    }
}
