//! What the person before the terminal has chosen, and what a key does to it. Pure: a key and the map in, perhaps a command
//! out.

use std::collections::BTreeSet;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use terrace_admin::map::{Instance, Map, Service};

use super::rows::{Key, Row, keys};

/// Lines that a page is moved by.
const PAGE_LINES: isize = 10;
/// More is a slip of the finger, as on the command line.
const INSTANCES_MAX: u32 = 1_000;
/// Of a filter or a number.
const TYPED_CHARS_MAX: usize = 40;

/// Everything that is chosen.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The line that the next command is about.
    pub(super) selected: Option<Key>,
    /// Lines that are not as they begin: listeners and services of few instances are open.
    pub(super) turned: BTreeSet<Key>,
    /// Only lines with this in their name are shown.
    pub(super) filter: String,
    /// In which order.
    pub(super) sort: Sort,
    /// What the keys are for at the moment.
    pub(super) mode: Mode,
    /// What came of the last command: the sentence, and whether it went wrong.
    pub(super) notice: Option<(String, bool)>,
    /// Why the map is old, when it is: seconds since the last one, and what went wrong.
    pub(super) lost: Option<(u64, String)>,
}

/// The order of routes and services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    Rate,
    Errors,
    P99,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "rate",
            Self::Errors => "errors",
            Self::P99 => "p99",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::Errors,
            Self::Errors => Self::P99,
            Self::P99 => Self::Name,
        }
    }
}

/// What the keys are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// Looking around.
    #[default]
    Browse,
    /// A filter is typed.
    Filter,
    /// A number of instances is typed.
    Scale { service: String, typed: String },
    /// A command waits for a yes.
    Confirm(Command),
    /// The keys are explained.
    Help,
}

/// What is asked of the running Terrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Quit,
    Scale { service: String, instances: u32 },
    Restart { service: String },
    Drain { service: String, instance: String, is_out: bool },
}

impl State {
    /// Whether the filter lets a line through.
    pub(super) fn wants(&self, row: &Row) -> bool {
        self.filter.is_empty() || row.key.name().to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// Whether the lines below one are shown. All are until they are folded.
    pub(super) fn is_open(&self, key: &Key) -> bool {
        !self.turned.contains(key)
    }

    /// Chooses a line that is there: the one chosen before, else the first.
    pub(super) fn settle(&mut self, map: &Map) {
        let keys = keys(map, self);
        if !self.selected.as_ref().is_some_and(|selected| keys.contains(selected)) {
            self.selected = keys.into_iter().next();
        }
    }

    /// Takes a key.
    pub(super) fn press(&mut self, key: KeyEvent, map: &Map) -> Option<Command> {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'q')) {
            return Some(Command::Quit);
        }
        if is_control {
            return None;
        }
        let command = match self.mode.clone() {
            Mode::Browse => self.browse(key.code, map),
            Mode::Filter => self.type_filter(key.code),
            Mode::Scale { service, typed } => self.type_number(key.code, service, typed),
            Mode::Confirm(command) => self.confirm(key.code, command),
            Mode::Help => {
                self.mode = Mode::Browse;
                None
            }
        };
        self.settle(map);
        command
    }

    fn browse(&mut self, code: KeyCode, map: &Map) -> Option<Command> {
        self.notice = None;
        match code {
            KeyCode::Char('q') => return Some(Command::Quit),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1, map),
            KeyCode::Down | KeyCode::Char('j') => self.step(1, map),
            KeyCode::PageUp => self.step(-PAGE_LINES, map),
            KeyCode::PageDown => self.step(PAGE_LINES, map),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN, map),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX, map),
            KeyCode::Enter | KeyCode::Char(' ') => self.enter(map),
            KeyCode::Left | KeyCode::Char('h') => self.fold(true),
            KeyCode::Right | KeyCode::Char('l') => self.fold(false),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('t') => self.sort = self.sort.next(),
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('s') => self.ask_scale(map),
            KeyCode::Char('r') => self.ask_restart(map),
            KeyCode::Char('d') => return self.ask_drain(map),
            _ => {}
        }
        None
    }

    fn step(&mut self, by: isize, map: &Map) {
        let keys = keys(map, self);
        let at = keys.iter().position(|key| Some(key) == self.selected.as_ref()).unwrap_or(0);
        let to = at.saturating_add_signed(by).min(keys.len().saturating_sub(1));
        self.selected = keys.into_iter().nth(to);
    }

    /// Opens or folds; from a route, goes on to the service it leads to.
    fn enter(&mut self, map: &Map) {
        match self.selected.clone() {
            Some(Key::Route(name)) => {
                let route = map.routes.iter().find(|route| route.name == name);
                let target = route.and_then(|route| route.to.first());
                if let Some((service, _)) = target {
                    self.filter.clear();
                    self.selected = Some(Key::Service(service.clone()));
                }
            }
            Some(key @ (Key::Listener(_) | Key::Service(_))) => {
                if !self.turned.remove(&key) {
                    self.turned.insert(key);
                }
            }
            Some(Key::Instance { .. }) | None => {}
        }
    }

    /// Folds or opens; from an instance, folds its service.
    fn fold(&mut self, is_folded: bool) {
        let key = match self.selected.clone() {
            Some(Key::Instance { service, .. }) if is_folded => Key::Service(service),
            Some(key @ (Key::Listener(_) | Key::Service(_))) => key,
            _ => return,
        };
        if is_folded {
            self.turned.insert(key.clone());
            self.selected = Some(key);
        } else {
            self.turned.remove(&key);
        }
    }

    fn service<'m>(&self, map: &'m Map) -> Option<&'m Service> {
        let name = self.selected.as_ref().and_then(Key::service)?;
        map.services.iter().find(|service| service.name == name)
    }

    /// The chosen service when it can be changed from here; else says why not.
    fn managed<'m>(&mut self, map: &'m Map) -> Option<&'m Service> {
        let why = match self.service(map) {
            Some(service) if service.is_managed => return Some(service),
            Some(service) => format!("{} is not run by Terrace", service.name),
            None => "choose a service first".to_owned(),
        };
        self.notice = Some((why, true));
        None
    }

    fn ask_scale(&mut self, map: &Map) {
        if let Some(service) = self.managed(map) {
            self.mode = Mode::Scale { service: service.name.clone(), typed: String::new() };
        }
    }

    fn ask_restart(&mut self, map: &Map) {
        if let Some(service) = self.managed(map) {
            self.mode = Mode::Confirm(Command::Restart { service: service.name.clone() });
        }
    }

    /// Letting an instance in again needs no second thought; taking one out does.
    fn ask_drain(&mut self, map: &Map) -> Option<Command> {
        let Some((service, instance)) = self.instance(map) else {
            self.notice = Some(("choose an instance first".to_owned(), true));
            return None;
        };
        let is_out = !instance.is_drained;
        let command =
            Command::Drain { service: service.name.clone(), instance: instance.name.clone(), is_out };
        if !is_out {
            return Some(command);
        }
        self.mode = Mode::Confirm(command);
        None
    }

    fn instance<'m>(&self, map: &'m Map) -> Option<(&'m Service, &'m Instance)> {
        let Some(Key::Instance { name, .. }) = &self.selected else { return None };
        let service = self.service(map)?;
        Some((service, service.instances.iter().find(|instance| instance.name == *name)?))
    }

    fn type_filter(&mut self, code: KeyCode) -> Option<Command> {
        match code {
            KeyCode::Enter => self.mode = Mode::Browse,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Browse;
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if self.filter.chars().count() < TYPED_CHARS_MAX => {
                self.filter.push(character);
            }
            _ => {}
        }
        None
    }

    fn type_number(&mut self, code: KeyCode, service: String, mut typed: String) -> Option<Command> {
        match code {
            KeyCode::Esc => {
                self.mode = Mode::Browse;
                return None;
            }
            KeyCode::Enter => return self.scale(service, &typed),
            KeyCode::Backspace => {
                typed.pop();
            }
            KeyCode::Char(digit) if digit.is_ascii_digit() && typed.len() < 4 => typed.push(digit),
            _ => {}
        }
        self.mode = Mode::Scale { service, typed };
        None
    }

    fn scale(&mut self, service: String, typed: &str) -> Option<Command> {
        self.mode = Mode::Browse;
        match typed.parse::<u32>() {
            Ok(instances) if (1..=INSTANCES_MAX).contains(&instances) => {
                Some(Command::Scale { service, instances })
            }
            _ => {
                self.notice = Some((format!("a service has 1 to {INSTANCES_MAX} instances"), true));
                None
            }
        }
    }

    fn confirm(&mut self, code: KeyCode, command: Command) -> Option<Command> {
        self.mode = Mode::Browse;
        matches!(code, KeyCode::Char('y' | 'Y') | KeyCode::Enter).then_some(command)
    }
}

impl Command {
    /// As a question, for the yes.
    pub(super) fn question(&self) -> String {
        match self {
            Self::Quit => "quit?".to_owned(),
            Self::Scale { service, instances } => format!("run {instances} of {service}?"),
            Self::Restart { service } => format!("replace all instances of {service}, one by one?"),
            Self::Drain { instance, .. } => format!("take {instance} out of rotation?"),
        }
    }
}
