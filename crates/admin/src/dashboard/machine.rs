//! The page of the machine: whether it has room left, since every instance shares it.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use crate::control::ControlError;

use super::Dashboard;
use super::charts::{Page, Range};
use super::charts_drawn::charts;
use super::layout::{Nav, page};
use super::overview::Reach;
use super::pages::{self, chart_files, crumbs};
use super::past::View;
use super::visitor::Visitor;

pub(super) fn router() -> Router<Dashboard> {
    Router::new().route("/machine", get(machine))
}

async fn machine(
    State(dashboard): State<Dashboard>,
    visitor: Visitor,
    Query(reach): Query<Reach>,
) -> Result<Response, ControlError> {
    let map = dashboard.control.map().await?;
    let view = pages::view(&dashboard, &map, Range::from_key(&reach.last));
    Ok(page("Machine", &visitor, Nav::Overview, content(&view)))
}

fn content(view: &View<'_>) -> Markup {
    html! {
        (crumbs(&[("Machine", "")]))
        div class="page-head" {
            div {
                h1 { "Machine" }
                p class="sub" { "What Terrace and all instances share. Within a control group, its limits count." }
            }
        }
        (charts(view, &Page::Machine))
        (chart_files())
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::testing::FakePast;
    use super::*;
    use crate::map::Map;

    #[test]
    fn the_machine_shows_what_may_run_out() {
        let map = Map::default();
        let view =
            View { map: &map, past: &FakePast::default(), now: SystemTime::UNIX_EPOCH, range: Range::Day };
        let page = content(&view).into_string();
        for text in ["CPU", "Memory", "Disk", "Network in", "/data/charts?machine=yes"] {
            assert!(page.contains(text), "{text}");
        }
    }
}
