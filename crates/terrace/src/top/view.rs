//! The picture: the map and the state in, cells of a screen out. Pure, and content with any size: what has no room is left
//! out, the least telling first.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use terrace_admin::map::Map;

use super::rows::{Line, Mood, Row, lines};
use super::state::{Mode, State};
use crate::figures;

/// Whether there are colours; shapes and words say the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colour: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn faint(self) -> Style {
        if self.colour { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
    }

    fn mood(self, mood: Mood) -> Style {
        match mood {
            Mood::Plain => Style::new(),
            Mood::Good => self.colour(Color::Green),
            Mood::Unsettled => self.colour(Color::Yellow),
            Mood::Bad => self.colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }
}

/// Columns of figures, each with its heading and width. Where there is no room for all, those with the highest rank go first.
struct Column {
    heading: &'static str,
    width: u16,
    rank: u8,
    cell: fn(&Row) -> (&str, Mood),
}

const COLUMNS: [Column; 8] = [
    Column { heading: "STATE", width: 16, rank: 3, cell: |row| (&row.state.0, row.state.1) },
    Column { heading: "REQ/S", width: 7, rank: 0, cell: |row| (&row.rate, Mood::Plain) },
    Column { heading: "ERRORS", width: 8, rank: 1, cell: |row| (&row.errors.0, row.errors.1) },
    Column { heading: "P50", width: 8, rank: 4, cell: |row| (&row.p50, Mood::Plain) },
    Column { heading: "P99", width: 8, rank: 2, cell: |row| (&row.p99, Mood::Plain) },
    Column { heading: "FLIGHT", width: 7, rank: 6, cell: |row| (&row.in_flight, Mood::Plain) },
    Column { heading: "CPU", width: 7, rank: 7, cell: |row| (&row.cpu, Mood::Plain) },
    Column { heading: "MEMORY", width: 9, rank: 8, cell: |row| (&row.memory, Mood::Plain) },
];
/// The name and what stands beside it get at least this.
const NAME_WIDTH_MIN: u16 = 20;
/// With room for this, the detail is shown beside the name.
const NAME_WIDTH_ENOUGH: u16 = 52;
/// Less room than this beside the name stays empty.
const DETAIL_WIDTH_MIN: u16 = 18;
const SPARK_WIDTH_MIN: u16 = 10;
const SPARK_WIDTH_MAX: u16 = 60;
const SPARK_RANK: u8 = 5;

/// Where everything goes on a line of this width.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    name: u16,
    /// Of [`COLUMNS`].
    shown: Vec<usize>,
    /// 0: none.
    spark: u16,
}

impl Layout {
    fn of(width: u16) -> Self {
        let mut shown = Vec::new();
        let mut left = width.saturating_sub(NAME_WIDTH_MIN);
        let mut has_spark = false;
        for rank in 0..=COLUMNS.len() as u8 {
            if rank == SPARK_RANK {
                has_spark = left > SPARK_WIDTH_MIN;
                left = left.saturating_sub(if has_spark { SPARK_WIDTH_MIN + 1 } else { 0 });
                continue;
            }
            let Some(at) = COLUMNS.iter().position(|column| column.rank == rank) else { continue };
            let needed = COLUMNS[at].width + 1;
            if needed > left {
                break;
            }
            left -= needed;
            shown.push(at);
        }
        shown.sort_unstable();
        // What is left goes to the names until they have enough, then to the sparks.
        let for_name = left.min(NAME_WIDTH_ENOUGH - NAME_WIDTH_MIN);
        let spark = if has_spark { (SPARK_WIDTH_MIN + left - for_name).min(SPARK_WIDTH_MAX) } else { 0 };
        let name = NAME_WIDTH_MIN + left - (spark.saturating_sub(SPARK_WIDTH_MIN));
        Self { name: name.min(width), shown, spark }
    }
}

/// The whole screen.
pub(super) fn view(map: &Map, state: &State, look: Look, area: Rect) -> Buffer {
    let mut screen = Screen { buffer: Buffer::empty(area), area, look };
    if area.height == 0 || area.width == 0 {
        return screen.buffer;
    }
    screen.header(map, state);
    match state.mode {
        Mode::Help => screen.help(),
        _ => screen.table(map, state),
    }
    screen.footer(state);
    screen.buffer
}

/// A narrower screen has better use for the first line than the version.
const TITLE_WIDTH_ENOUGH: u16 = 80;
/// Lines that the header takes, and the footer.
const HEADER_LINES: u16 = 2;
const FOOTER_LINES: u16 = 1;

struct Screen {
    buffer: Buffer,
    area: Rect,
    look: Look,
}

/// The beginning of a text that has no room, marked as such.
fn shortened(text: &str, room: usize) -> String {
    match text.chars().count() > room {
        true => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

impl Screen {
    /// Puts text at a place, cut off at the right border; says where it ends.
    fn put(&mut self, x: u16, y: u16, text: &str, style: Style) -> u16 {
        if y >= self.area.bottom() || x >= self.area.right() {
            return x;
        }
        let room = usize::from(self.area.right() - x);
        let (end, _) = self.buffer.set_stringn(x, y, text, room, style);
        end
    }

    /// Puts text so that it ends before `right`.
    fn put_right(&mut self, left: u16, right: u16, y: u16, text: &str, style: Style) {
        let width = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
        self.put(right.saturating_sub(width).max(left), y, text, style);
    }

    fn header(&mut self, map: &Map, state: &State) {
        let look = self.look;
        let title = match self.area.width {
            0..TITLE_WIDTH_ENOUGH => " Terrace".to_owned(),
            _ => format!(" Terrace {}", map.version),
        };
        let mut x = self.put(self.area.x, self.area.y, &title, look.bold());
        for (label, figure, mood) in summary(map) {
            let width = label.chars().count() + figure.chars().count() + 4;
            if usize::from(x) + width > usize::from(self.area.right()) {
                break;
            }
            x = self.put(x + 3, self.area.y, &figure, look.mood(mood).add_modifier(Modifier::BOLD));
            x = self.put(x + 1, self.area.y, label, look.faint());
        }
        let y = self.area.y + 1;
        let trouble = match (&state.lost, map.not_ready.first()) {
            (Some((seconds, why)), _) => {
                Some(format!(" connection lost {seconds} s ago ({why}); trying again"))
            }
            (None, Some(reason)) => Some(format!(" not ready: {reason}")),
            (None, None) => broken_on_purpose(map),
        };
        match trouble {
            Some(trouble) => {
                self.put(self.area.x, y, &trouble, look.mood(Mood::Bad));
            }
            None => {
                let room = usize::from(self.area.width.saturating_sub(2));
                let spark = figures::spark(&map.total.spark, room.min(map.total.spark.len()));
                self.put(self.area.x + 1, y, &spark, look.colour(Color::Cyan));
            }
        }
    }

    fn table(&mut self, map: &Map, state: &State) {
        let top = self.area.y + HEADER_LINES;
        let bottom = self.area.bottom().saturating_sub(FOOTER_LINES);
        if top + 1 >= bottom {
            return;
        }
        let layout = Layout::of(self.area.width);
        self.headings(&layout, top);
        let lines = lines(map, state);
        let room = usize::from(bottom - top - 1);
        if lines.is_empty() {
            let nothing = match state.filter.as_str() {
                "" => "  nothing is served".to_owned(),
                filter => format!("  nothing has {filter:?} in its name; Esc shows everything"),
            };
            self.put(self.area.x, top + 1, &nothing, self.look.faint());
        }
        let is_selected =
            |line: &Line| matches!(line, Line::Row(row) if Some(&row.key) == state.selected.as_ref());
        let at = lines.iter().position(is_selected).unwrap_or(0);
        // What is chosen stays in the middle, as far as the ends allow.
        let first = at.saturating_sub(room / 2).min(lines.len().saturating_sub(room));
        for (line, y) in lines.iter().skip(first).take(room).zip(top + 1..) {
            match line {
                Line::Heading(heading) => {
                    self.put(self.area.x + 1, y, heading, self.look.faint().add_modifier(Modifier::BOLD));
                }
                Line::Row(row) => self.row(row, &layout, y, is_selected(line), state.lost.is_some()),
            }
        }
    }

    fn headings(&mut self, layout: &Layout, y: u16) {
        let style = self.look.faint();
        let mut x = self.area.x + layout.name;
        for at in &layout.shown {
            let column = &COLUMNS[*at];
            self.place(x, column, y, column.heading, style);
            x += column.width + 1;
        }
        if layout.spark > 0 {
            self.put(x + 1, y, "TREND", style);
        }
    }

    /// Words stand at the left of their column, figures at the right.
    fn place(&mut self, x: u16, column: &Column, y: u16, text: &str, style: Style) {
        if column.heading == "STATE" {
            let shown: String = text.chars().take(usize::from(column.width)).collect();
            self.put(x + 1, y, &shown, style);
        } else {
            self.put_right(x + 1, x + 1 + column.width, y, text, style);
        }
    }

    fn row(&mut self, row: &Row, layout: &Layout, y: u16, is_selected: bool, is_old: bool) {
        let base = if is_old { self.look.faint() } else { Style::new() };
        self.name(row, layout.name, y, base, is_selected);
        let mut x = self.area.x + layout.name;
        for at in &layout.shown {
            let column = &COLUMNS[*at];
            let (text, mood) = (column.cell)(row);
            self.place(x, column, y, text, base.patch(self.look.mood(mood)));
            x += column.width + 1;
        }
        if layout.spark > 0 {
            let spark = figures::spark(&row.spark, usize::from(layout.spark).min(row.spark.len()));
            self.put(x + 1, y, &spark, base.patch(self.look.colour(Color::Cyan)));
        }
        if is_selected {
            let line = Rect { x: self.area.x, y, width: self.area.width, height: 1 };
            self.buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        }
    }

    fn name(&mut self, row: &Row, width: u16, y: u16, base: Style, is_selected: bool) {
        let mark = match (row.is_open, is_selected) {
            (Some(true), _) => "▾ ",
            (Some(false), _) => "▸ ",
            (None, true) => "› ",
            (None, false) => "  ",
        };
        let indent = "  ".repeat(usize::from(row.depth));
        let style = if row.depth == 0 { base.patch(self.look.bold()) } else { base };
        let end = self.area.x + width;
        let mut rest = width.saturating_sub(1);
        let mut x = self.area.x + 1;
        for (text, style) in [(format!("{indent}{mark}"), base), (row.key.name().to_owned(), style)] {
            let (after, _) = self.buffer.set_stringn(x, y, &text, usize::from(rest), style);
            x = after;
            rest = end.saturating_sub(x);
        }
        // A few letters of an address tell nothing.
        if rest >= DETAIL_WIDTH_MIN {
            let faint = base.patch(self.look.faint());
            let room = usize::from(rest - 2);
            self.buffer.set_stringn(x + 2, y, shortened(&row.detail, room), room, faint);
        }
    }

    fn footer(&mut self, state: &State) {
        let y = self.area.bottom() - 1;
        if y < self.area.y + HEADER_LINES {
            return;
        }
        let look = self.look;
        let prompt = |label: String| (label, look.bold());
        let (text, style) = match &state.mode {
            Mode::Filter => {
                prompt(format!(" filter: {}▏  Enter keeps it, Esc shows everything", state.filter))
            }
            Mode::Scale { service, typed } => {
                prompt(format!(" instances of {service}: {typed}▏  Enter, or Esc"))
            }
            Mode::Confirm(command) => prompt(format!(" {} y/n", command.question())),
            Mode::Help => (" any key goes back".to_owned(), look.faint()),
            Mode::Browse => match &state.notice {
                Some((notice, is_bad)) => {
                    let mood = if *is_bad { Mood::Bad } else { Mood::Good };
                    (format!(" {notice}"), look.mood(mood))
                }
                None => (hints(state, self.area.width), look.faint()),
            },
        };
        self.put(self.area.x, y, &text, style);
    }

    fn help(&mut self) {
        const KEYS: [(&str, &str); 12] = [
            ("↑ ↓  k j", "move; PgUp, PgDn, g and G move further"),
            ("Enter", "open or fold; from a route, go to its service"),
            ("← →  h l", "fold and open"),
            ("s", "run more or fewer instances of the service"),
            ("r", "replace the instances of the service, one by one"),
            ("d", "take the instance out of rotation, or let it in again"),
            ("/", "show only what has a text in its name"),
            ("Esc", "show everything"),
            ("t", "sort by name, rate, errors or p99"),
            ("?", "this"),
            ("q", "quit"),
            ("", "figures are of the last ten seconds, a trend has a bar for each five"),
        ];
        let top = self.area.y + HEADER_LINES + 1;
        let bottom = self.area.bottom().saturating_sub(FOOTER_LINES);
        for ((key, what), y) in KEYS.iter().zip(top..bottom) {
            self.put(self.area.x + 2, y, key, self.look.bold());
            self.put(self.area.x + 14, y, what, Style::new());
        }
    }
}

/// The keys, as far as they have room: what explains the others, and what ends it, always.
fn hints(state: &State, width: u16) -> String {
    const ALWAYS: &str = "? help  q quit";
    let sort = format!("t sort: {}", state.sort.name());
    let filter = if state.filter.is_empty() { String::new() } else { format!(" [{}]", state.filter) };
    let mut left = usize::from(width).saturating_sub(1 + filter.chars().count() + ALWAYS.len());
    let mut text = format!("{filter} ");
    for hint in ["↑↓ move", "⏎ open", "s scale", "r restart", "d drain", "/ filter", &sort] {
        let needed = hint.chars().count() + 2;
        if needed > left {
            break;
        }
        left -= needed;
        text.push_str(hint);
        text.push_str("  ");
    }
    text + ALWAYS
}

/// Which routes somebody broke on purpose, so that nobody looks for the cause.
fn broken_on_purpose(map: &Map) -> Option<String> {
    let mut routes: Vec<&str> = map.faults.iter().map(|fault| fault.route.as_str()).collect();
    routes.dedup();
    (!routes.is_empty())
        .then(|| format!(" broken on purpose: {}; see terrace fault --list", routes.join(", ")))
}

/// What the first line says, the most telling first.
fn summary(map: &Map) -> Vec<(&'static str, String, Mood)> {
    let [pages, tickets] = map.alerts_firing;
    let mut parts = Vec::new();
    if pages > 0 {
        parts.push((if pages == 1 { "page" } else { "pages" }, pages.to_string(), Mood::Bad));
    }
    if tickets > 0 {
        parts.push((if tickets == 1 { "ticket" } else { "tickets" }, tickets.to_string(), Mood::Unsettled));
    }
    let errors = match map.total.errors {
        Some(share) if share >= 0.01 => Mood::Bad,
        Some(share) if share > 0.0 => Mood::Unsettled,
        _ => Mood::Plain,
    };
    parts.push(("req/s", figures::rate(map.total.rate), Mood::Plain));
    parts.push(("errors", figures::percent(map.total.errors), errors));
    parts.push(("p99", figures::seconds(map.total.p99), Mood::Plain));
    parts.push(("in flight", figures::count(map.total.in_flight), Mood::Plain));
    parts.push(("cpu", figures::percent(map.host_cpu), Mood::Plain));
    parts.push(("memory", figures::percent(map.host_memory), Mood::Plain));
    parts.push(("up", figures::age(map.uptime_seconds), Mood::Plain));
    parts
}

/// All lines without colours, for a file or a pipe: as wide as `width`, as long as it takes.
pub(super) fn plain(map: &Map, width: u16) -> String {
    let state = State::default();
    let height = lines(map, &state).len().saturating_add(usize::from(HEADER_LINES + FOOTER_LINES) + 1);
    let area = Rect { x: 0, y: 0, width, height: u16::try_from(height).unwrap_or(u16::MAX) };
    let screen = view(map, &state, Look { colour: false }, area);
    let mut lines = text(&screen);
    // The keys mean nothing there.
    lines.pop();
    lines.join("\n") + "\n"
}

/// The lines of a screen as text, without blanks at their ends.
fn text(screen: &Buffer) -> Vec<String> {
    let area = screen.area;
    let line = |y| {
        let cells = (area.left()..area.right()).map(move |x| screen[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (area.top()..area.bottom()).map(line).collect()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
