//! Small drawings: marks of states, sparklines, bars, and the curves between the columns of the map.
//!
//! The pages are served under a policy that forbids inline styles, so whatever is placed by a number is an SVG attribute.
//! A mark's shape says what its colour says: a disc is well, a triangle wants a look, an octagon is broken, a ring is
//! not in use, a half disc is on its way.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::map::Figures;

pub(super) use crate::client::encoded as segment;

/// The time over which [`Figures`] are taken.
const FIGURES_SECONDS: f64 = 10.0;

/// How well something is, in the four steps that people act on differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// Nothing to say of it.
    Idle,
    /// As it should be.
    Ok,
    /// Not as it should be, or about to change.
    Warn,
    /// Users suffer, or would.
    Bad,
}

impl Health {
    /// Its class in the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    /// Of the share of requests that fail: one in a hundred is bad, three in a thousand want a look. A single failure
    /// among few requests is no trend, so it wants no more than a look.
    pub(super) fn of_figures(figures: &Figures) -> Self {
        let Some(share) = figures.errors else { return Self::Idle };
        let failed = share * figures.rate * FIGURES_SECONDS;
        match share {
            _ if share >= 0.01 && failed >= 2.0 => Self::Bad,
            _ if share >= 0.003 => Self::Warn,
            _ => Self::Ok,
        }
    }

    /// Of a state's name, of services and instances alike.
    pub(super) fn of_state(state: &str) -> Self {
        match state {
            "running" | "ready" | "healthy" => Self::Ok,
            "crash-loop" | "unavailable" | "unhealthy" | "failed" => Self::Bad,
            "unknown" | "stopped" | "waiting" => Self::Idle,
            _ => Self::Warn,
        }
    }
}

/// The mark of a state; a word must stand beside it, for it is hidden from those who do not see it.
pub(super) fn mark(health: Health) -> Markup {
    let path = match health {
        Health::Ok => "M6 1a5 5 0 1 1 0 10A5 5 0 0 1 6 1z",
        Health::Warn => "M6 .8 11.6 11H.4z",
        Health::Bad => "M3.6.5h4.8l3.1 3.1v4.8l-3.1 3.1H3.6L.5 8.4V3.6z",
        Health::Idle => "M6 1a5 5 0 1 1 0 10A5 5 0 0 1 6 1zm0 1.6a3.4 3.4 0 1 0 0 6.8 3.4 3.4 0 0 0 0-6.8z",
    };
    html! {
        svg class={ "mark " (health.class()) } viewBox="0 0 12 12" aria-hidden="true" {
            path d=(path) fill="currentColor" fill-rule="evenodd" {}
            @if health == Health::Bad { path class="cut" d="M3.7 3.7l4.6 4.6m0-4.6l-4.6 4.6" {} }
        }
    }
}

/// A mark and its word.
pub(super) fn badge(health: Health, word: &str) -> Markup {
    html! { span class={ "badge " (health.class()) } { (mark(health)) (word) } }
}

/// Width and height of the box that sparklines are drawn in; the style sheet stretches it.
const SPARK: (f64, f64) = (120.0, 24.0);

/// The last minutes as a line over a filled ground, from zero to its highest point. Points that are not finite leave a
/// gap. Without two points nothing is drawn.
pub(super) fn spark(points: &[f64]) -> Markup {
    let top = points.iter().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let (line, area) = match points.len() {
        0 | 1 => Default::default(),
        _ => spark_paths(points, if top > 0.0 { top } else { 1.0 }),
    };
    html! {
        svg class="spark" viewBox={ "0 0 " (SPARK.0) " " (SPARK.1) } preserveAspectRatio="none" aria-hidden="true" {
            path class="area" d=(area) {}
            path class="stroke" d=(line) {}
        }
    }
}

fn spark_paths(points: &[f64], top: f64) -> (String, String) {
    let (width, height) = (SPARK.0, SPARK.1 - 2.0);
    let step = width / (points.len() - 1) as f64;
    let mut line = String::new();
    let mut area = String::new();
    let mut begun: Option<f64> = None;
    let mut last = 0.0;
    for (index, value) in points.iter().enumerate() {
        let x = step * index as f64;
        let y = 1.0 + height - height * (value / top).clamp(0.0, 1.0);
        if !value.is_finite() {
            close(&mut area, begun.take(), last);
            continue;
        }
        push_point(&mut line, if begun.is_none() { 'M' } else { 'L' }, x, y);
        if begun.is_none() {
            push_point(&mut area, 'M', x, SPARK.1);
        }
        push_point(&mut area, 'L', x, y);
        begun = begun.or(Some(x));
        last = x;
    }
    close(&mut area, begun, last);
    (line, area)
}

fn close(area: &mut String, begun: Option<f64>, last: f64) {
    if begun.is_some() {
        push_point(area, 'L', last, SPARK.1);
        area.push('Z');
    }
}

/// Appends `Lx y` with two digits after the point at most; such a path is what takes most of a page's bytes.
pub(super) fn push_point(path: &mut String, command: char, x: f64, y: f64) {
    path.push(command);
    push_number(path, x);
    path.push(' ');
    push_number(path, y);
}

fn push_number(out: &mut String, value: f64) {
    let _ = write!(out, "{}", (value * 100.0).round() / 100.0);
}

/// A share of 1 as a bar; the words beside it say the same.
pub(super) fn bar(share: f64, health: Health) -> Markup {
    let filled = if share.is_finite() { (share * 100.0).clamp(0.0, 100.0) } else { 0.0 };
    let class = match health {
        Health::Idle => "bar",
        _ => health.class(),
    };
    html! {
        svg class={ "bar " (class) } viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(format!("{filled:.1}")) height="8" {}
        }
    }
}

/// A smooth curve from the left border at height `from` to the right border at `to`, in a box 100 wide.
pub(super) fn curve(from: f64, to: f64) -> String {
    let mut path = String::new();
    push_point(&mut path, 'M', 0.0, from);
    push_point(&mut path, 'C', 50.0, from);
    push_point(&mut path, ' ', 50.0, to);
    push_point(&mut path, ' ', 100.0, to);
    path
}

/// How wide a connection is drawn, 1 to 6 pixels, for its share of the busiest one's rate. The root makes the quiet ones
/// visible beside a busy one.
pub(super) fn stroke(rate: f64, busiest: f64) -> f64 {
    match busiest > 0.0 && rate > 0.0 {
        true => 1.25 + 4.75 * (rate / busiest).clamp(0.0, 1.0).sqrt(),
        false => 1.0,
    }
}

/// Hues that a service may have; the same name always gets the same.
pub(super) const HUES: u32 = 8;

/// Terrace's own, the greyest: what it does is rarely what one looks for.
const HUE_TERRACE: u32 = 6;

/// The hue of a service's name: stable over restarts and pages (FNV-1a).
pub(super) fn hue(name: &str) -> u32 {
    if name == "terrace" {
        return HUE_TERRACE;
    }
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    match (hash ^ (hash >> 15)) % (HUES - 1) {
        HUE_TERRACE => HUES - 1,
        hue => hue,
    }
}

/// The dot in a service's hue, with its name beside it.
pub(super) fn service_name(name: &str) -> Markup {
    in_hue_of(name, name)
}

/// The dot in a service's hue, with a word beside it, such as the name of its instance.
pub(super) fn in_hue_of(service: &str, word: &str) -> Markup {
    html! {
        span class="badge hue" {
            svg class={ "mark hue-" (hue(service)) } viewBox="0 0 12 12" aria-hidden="true" {
                rect x="1" y="1" width="10" height="10" rx="3" fill="currentColor" {}
            }
            (word)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_reaches_from_border_to_border_and_leaves_gaps() {
        let (line, area) = spark_paths(&[0.0, 10.0, f64::NAN, 5.0, 10.0], 10.0);
        assert_eq!(line, "M0 23L30 1M90 12L120 1");
        assert_eq!(area, "M0 24L0 23L30 1L30 24ZM90 24L90 12L120 1L120 24Z");
        assert!(!spark(&[f64::NAN, f64::INFINITY]).into_string().contains("NaN"));
        assert!(spark(&[]).into_string().contains("d=\"\""));
    }

    #[test]
    fn a_connection_leaves_and_arrives_level() {
        assert_eq!(curve(10.0, 90.5), "M0 10C50 10 50 90.5 100 90.5");
    }

    #[test]
    fn a_busy_connection_is_wider_and_a_quiet_one_still_seen() {
        assert!(stroke(100.0, 100.0) > stroke(10.0, 100.0));
        assert!(stroke(0.1, 1000.0) > 1.0);
        assert_eq!(stroke(0.0, 0.0), 1.0);
        assert!(stroke(f64::NAN, 10.0).is_finite());
    }

    #[test]
    fn a_bar_stays_within_its_box() {
        for share in [-1.0, 0.5, 7.0, f64::NAN] {
            let text = bar(share, Health::Ok).into_string();
            let width = text.split("width=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert!((0.0..=100.0).contains(&width.parse::<f64>().unwrap()), "{text}");
        }
    }

    #[test]
    fn names_keep_their_hue_and_cannot_leave_their_segment() {
        assert_eq!(hue("orders"), hue("orders"));
        assert!((0..500).all(|index| hue(&format!("service-{index}")) < HUES
            && hue(&format!("service-{index}")) != HUE_TERRACE));
        assert_eq!(segment("../a b?<é>"), "..%2Fa%20b%3F%3C%C3%A9%3E");
    }

    #[test]
    fn what_states_mean() {
        assert_eq!(Health::of_state("ready"), Health::Ok);
        assert_eq!(Health::of_state("crash-loop"), Health::Bad);
        assert_eq!(Health::of_state("draining"), Health::Warn);
    }

    #[test]
    fn one_failure_among_few_requests_is_no_trend() {
        let of = |rate, errors| Health::of_figures(&Figures { rate, errors, ..Figures::default() });
        assert_eq!(of(50.0, Some(0.02)), Health::Bad);
        assert_eq!(of(0.5, Some(0.2)), Health::Warn);
        assert_eq!(of(50.0, Some(0.001)), Health::Ok);
        assert_eq!(of(0.0, None), Health::Idle);
    }
}
