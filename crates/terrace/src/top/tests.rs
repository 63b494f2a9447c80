//! What is on the screen, and what keys do to it.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use terrace_admin::map::{Fault, Figures, Instance, Listener, Route, Service};

use super::super::rows::Key;
use super::super::state::{Command, Sort};
use super::*;

fn figures(rate: f64, errors: f64, p99: f64) -> Figures {
    Figures {
        rate,
        errors: Some(errors),
        p50: Some(p99 / 4.0),
        p99: Some(p99),
        in_flight: rate / 10.0,
        spark: (0..60).map(|at| at as f32).collect(),
    }
}

fn instance(name: &str, state: &str) -> Instance {
    Instance {
        name: name.to_owned(),
        address: Some("127.0.0.1:31001".to_owned()),
        state: state.to_owned(),
        in_rotation: true,
        uptime_seconds: Some(300),
        cpu: Some(0.25),
        memory_bytes: Some(64e6),
        latency: Some(0.012),
        figures: figures(40.0, 0.0, 0.1),
        ..Instance::default()
    }
}

fn route(name: &str, at: &str, to: &[(&str, u32)], figures: Figures) -> Route {
    let to = to.iter().map(|(service, weight)| ((*service).to_owned(), *weight)).collect();
    Route { name: name.to_owned(), at: vec![at.to_owned()], to, figures, ..Route::default() }
}

fn shop() -> Map {
    let mut drained = instance("orders-2", "ready");
    drained.is_drained = true;
    let mut ejected = instance("orders-3", "ready");
    ejected.ejected_for_seconds = Some(9.6);
    ejected.restarts = 2;
    Map {
        version: "0.1.0".to_owned(),
        uptime_seconds: 7_300,
        total: figures(142.0, 0.002, 0.031),
        listeners: vec![Listener {
            name: "public".to_owned(),
            urls: vec!["https://0.0.0.0:8443".to_owned()],
            connections: 120.0,
            accepted_rate: 3.0,
            routes: vec!["orders".to_owned(), "web".to_owned()],
        }],
        routes: vec![
            route("orders", "/orders/*", &[("orders", 9), ("web", 1)], figures(100.0, 0.02, 0.2)),
            route("web", "/*", &[("web", 1)], figures(42.0, 0.0, 0.03)),
        ],
        services: vec![
            Service {
                name: "orders".to_owned(),
                kind: "run".to_owned(),
                state: "running".to_owned(),
                desired: 3,
                ready: 3,
                is_managed: true,
                figures: figures(100.0, 0.02, 0.2),
                instances: vec![instance("orders-1", "ready"), drained, ejected],
                ..Service::default()
            },
            Service {
                name: "web".to_owned(),
                kind: "hosts".to_owned(),
                state: "running".to_owned(),
                figures: figures(42.0, 0.0, 0.03),
                instances: vec![instance("10.0.0.5:80", "healthy")],
                ..Service::default()
            },
        ],
        alerts_firing: [1, 2],
        host_cpu: Some(0.23),
        host_memory: Some(0.41),
        ..Map::default()
    }
}

fn shown(map: &Map, state: &State, width: u16, height: u16) -> Vec<String> {
    text(&view(map, state, Look { colour: true }, Rect::new(0, 0, width, height)))
}

fn key(code: KeyCode) -> KeyEvent {
    KeyEvent::new(code, KeyModifiers::NONE)
}

fn pressed(map: &Map, keys: &[KeyCode]) -> (State, Option<Command>) {
    let mut state = State::default();
    state.settle(map);
    let mut last = None;
    for code in keys {
        last = state.press(key(*code), map);
    }
    (state, last)
}

fn typed(text: &str) -> Vec<KeyCode> {
    text.chars().map(KeyCode::Char).collect()
}

#[test]
fn however_narrow_the_screen_it_says_how_to_get_help_and_out() {
    let footer = |width| hints(&State::default(), width);
    assert_eq!(footer(60), " ↑↓ move  ⏎ open  s scale  r restart  ? help  q quit");
    assert_eq!(footer(16), " ? help  q quit");
    assert!((16..200).all(|width| footer(width).chars().count() <= usize::from(width)));
}

#[test]
fn the_whole_way_of_requests_is_on_one_screen() {
    let map = shop();
    let (state, _) = pressed(&map, &[]);
    let expected = "\
\x20Terrace 0.1.0   1 page   2 tickets   142 req/s   0.20 % errors   31 ms p99   14 in flight   23 % cpu   41 % memory   2 h up
 ▁▁▁▁▁▂▂▂▂▂▂▂▂▃▃▃▃▃▃▃▃▃▄▄▄▄▄▄▄▄▅▅▅▅▅▅▅▅▆▆▆▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
                                                     STATE              REQ/S   ERRORS      P50      P99  FLIGHT     CPU    MEMORY TREND
 LISTENERS AND ROUTES
 ▾ public  https://0.0.0.0:8443                      120 conn            +3.0
     orders  /orders/* → orders 9, web 1                                  100    2.0 %    50 ms   200 ms      10                   ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
     web  /* → web                                                       42.0      0 %   7.5 ms    30 ms       4                   ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
 SERVICES AND INSTANCES
 ▾ orders  run                                       3/3 running          100    2.0 %    50 ms   200 ms      10                   ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
     orders-1  127.0.0.1:31001, up 5 min             ready               40.0      0 %                         4    25 %    61 MiB ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
     orders-2  127.0.0.1:31001, up 5 min             drained             40.0      0 %                         4    25 %    61 MiB ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
     orders-3  127.0.0.1:31001, restarted 2×, up 5 … ejected 10 s        40.0      0 %                         4    25 %    61 MiB ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
 ▾ web  hosts                                        running             42.0      0 %   7.5 ms    30 ms       4                   ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
     10.0.0.5:80  127.0.0.1:31001, up 5 min          healthy             40.0      0 %                         4    25 %    61 MiB ▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████

 ↑↓ move  ⏎ open  s scale  r restart  d drain  / filter  t sort: name  ? help  q quit";
    assert_eq!(shown(&map, &state, 150, 16).join("\n"), expected);
}

#[test]
fn a_service_whose_breaker_is_open_says_so() {
    let mut map = shop();
    map.services[0].gate.is_open = true;
    let (state, _) = pressed(&map, &[]);
    let line = shown(&map, &state, 150, 16).into_iter().find(|line| line.contains("▾ orders"));
    assert!(line.is_some_and(|line| line.contains("breaker open")));
}

#[test]
fn a_narrow_terminal_keeps_what_tells_most() {
    let map = shop();
    let (state, _) = pressed(&map, &[]);
    let expected = "\
\x20Terrace   1 page   2 tickets   142 req/s
 ▃▃▃▃▃▃▄▄▄▄▄▄▄▄▅▅▅▅▅▅▅▅▆▆▆▆▆▆▆▆▆▇▇▇▇▇▇▇▇█████
                       REQ/S   ERRORS      P99
 LISTENERS AND ROUTES
 ▾ public               +3.0
     orders              100    2.0 %   200 ms
     web                42.0      0 %    30 ms
 SERVICES AND INSTANCES
 ▾ orders                100    2.0 %   200 ms
     orders-1           40.0      0 %
     orders-2           40.0      0 %
     orders-3           40.0      0 %
 ▾ web                  42.0      0 %    30 ms
 ↑↓ move  ⏎ open  s scale  ? help  q quit";
    assert_eq!(shown(&map, &state, 46, 14).join("\n"), expected);
}

#[test]
fn no_size_of_a_terminal_is_too_odd() {
    let map = shop();
    let modes = [vec![], typed("?"), typed("/o"), typed("jjjjs1"), vec![KeyCode::End, KeyCode::Char('d')]];
    for keys in modes {
        let (state, _) = pressed(&map, &keys);
        for width in 0..60 {
            for height in 0..20 {
                assert_eq!(shown(&map, &state, width, height).len(), usize::from(height));
            }
        }
    }
}

#[test]
fn what_is_chosen_is_always_on_the_screen() {
    let mut map = shop();
    map.services[0].instances =
        (1..200).map(|number| instance(&format!("orders-{number}"), "ready")).collect();
    let (state, _) = pressed(&map, &[KeyCode::End]);
    assert_eq!(state.selected.as_ref().map(Key::name), Some("10.0.0.5:80"));
    let lines = shown(&map, &state, 100, 12);
    assert!(lines.iter().any(|line| line.contains("10.0.0.5:80")), "{lines:#?}");
    let (state, _) = pressed(&map, &[KeyCode::End, KeyCode::Up, KeyCode::PageUp]);
    let chosen = state.selected.as_ref().map(Key::name).expect("something").to_owned();
    assert!(shown(&map, &state, 100, 12).iter().any(|line| line.contains(&chosen)), "{chosen}");
}

#[test]
fn lines_fold_and_open_and_a_route_leads_to_its_service() {
    let map = shop();
    let (state, _) = pressed(&map, &[KeyCode::Down, KeyCode::Enter]);
    assert_eq!(state.selected, Some(Key::Service("orders".to_owned())));
    let (state, _) = pressed(&map, &[KeyCode::Down, KeyCode::Enter, KeyCode::Enter]);
    assert!(!shown(&map, &state, 120, 30).join("\n").contains("orders-1"));
    let (state, _) = pressed(&map, &[KeyCode::Down, KeyCode::Enter, KeyCode::Down, KeyCode::Left]);
    assert_eq!(state.selected, Some(Key::Service("orders".to_owned())), "from an instance to its service");
    assert!(!state.is_open(&Key::Service("orders".to_owned())));
}

#[test]
fn a_filter_shows_what_fits_and_where_it_belongs() {
    let map = shop();
    let (state, _) = pressed(&map, &typed("/ORDERS-2"));
    let lines = shown(&map, &state, 120, 30).join("\n");
    assert!(
        lines.contains("orders-2") && lines.contains("orders ") && !lines.contains("orders-1"),
        "{lines}"
    );
    assert!(!lines.contains("public"));
    let (state, _) = pressed(&map, &[typed("/nothing"), vec![KeyCode::Enter]].concat());
    assert!(shown(&map, &state, 120, 30).join("\n").contains("nothing has \"nothing\" in its name"));
    let (state, _) = pressed(&map, &[typed("/nothing"), vec![KeyCode::Enter, KeyCode::Esc]].concat());
    assert!(state.filter.is_empty() && state.selected.is_some());
}

#[test]
fn a_command_needs_its_number_or_its_yes() {
    let map = shop();
    let to_orders = [KeyCode::Down, KeyCode::Enter];
    let keys = |more: &str| [to_orders.to_vec(), typed(more), vec![KeyCode::Enter]].concat();
    let scale = |instances| Some(Command::Scale { service: "orders".to_owned(), instances });
    assert_eq!(pressed(&map, &keys("s12")).1, scale(12));
    assert_eq!(pressed(&map, &keys("s0")).1, None);
    assert_eq!(pressed(&map, &keys("s")).1, None);
    let restart = Some(Command::Restart { service: "orders".to_owned() });
    assert_eq!(pressed(&map, &[to_orders.to_vec(), typed("ry")].concat()).1, restart);
    let (state, command) = pressed(&map, &[to_orders.to_vec(), typed("rn")].concat());
    assert_eq!((state.mode, command), (Mode::Browse, None));
    let (state, command) = pressed(&map, &[to_orders.to_vec(), typed("rx")].concat());
    assert_eq!((state.mode, command), (Mode::Browse, None), "anything but a yes is a no");
}

#[test]
fn an_instance_is_drained_after_a_yes_and_let_in_at_once() {
    let map = shop();
    let to_first = [KeyCode::Down, KeyCode::Enter, KeyCode::Down];
    let drain = |instance: &str, is_out| {
        Some(Command::Drain { service: "orders".to_owned(), instance: instance.to_owned(), is_out })
    };
    assert_eq!(pressed(&map, &[to_first.to_vec(), typed("d")].concat()).1, None);
    assert_eq!(pressed(&map, &[to_first.to_vec(), typed("dy")].concat()).1, drain("orders-1", true));
    assert_eq!(pressed(&map, &[to_first.to_vec(), typed("jd")].concat()).1, drain("orders-2", false));
    let (state, _) = pressed(&map, &typed("d"));
    assert_eq!(state.notice, Some(("choose an instance first".to_owned(), true)));
}

#[test]
fn what_terrace_does_not_run_is_not_scaled() {
    let (state, command) = pressed(&shop(), &[vec![KeyCode::End], typed("s")].concat());
    assert_eq!((state.mode, command), (Mode::Browse, None));
    assert_eq!(state.notice, Some(("web is not run by Terrace".to_owned(), true)));
}

#[test]
fn the_worst_come_first_when_asked_for() {
    let map = shop();
    let order = |keys: &str| {
        let (state, _) = pressed(&map, &typed(keys));
        let services = super::super::rows::keys(&map, &state);
        let names: Vec<String> = services
            .into_iter()
            .filter_map(|key| if let Key::Service(name) = key { Some(name) } else { None })
            .collect();
        (state.sort, names.join(" "))
    };
    assert_eq!(order(""), (Sort::Name, "orders web".to_owned()));
    assert_eq!(order("t"), (Sort::Rate, "orders web".to_owned()));
    assert_eq!(order("tttt"), (Sort::Name, "orders web".to_owned()));
    let mut quiet = shop();
    quiet.services[0].figures = Figures::default();
    let (state, _) = pressed(&quiet, &typed("ttt"));
    let first =
        super::super::rows::keys(&quiet, &state).into_iter().find(|key| matches!(key, Key::Service(_)));
    assert_eq!(first, Some(Key::Service("web".to_owned())), "what is not known comes last");
}

#[test]
fn the_choice_stays_with_its_line_while_others_come_and_go() {
    let mut map = shop();
    let (mut state, _) = pressed(&map, &[KeyCode::Down, KeyCode::Down]);
    assert_eq!(state.selected, Some(Key::Route("web".to_owned())));
    map.routes.insert(0, route("assets", "/assets/*", &[("web", 1)], Figures::default()));
    map.listeners[0].routes.push("assets".to_owned());
    state.settle(&map);
    assert_eq!(state.selected, Some(Key::Route("web".to_owned())));
    map.routes.retain(|route| route.name != "web");
    state.settle(&map);
    assert_eq!(state.selected, Some(Key::Listener("public".to_owned())), "what is gone cannot be chosen");
}

#[test]
fn a_lost_connection_is_told_above_the_old_figures() {
    let map = shop();
    let (mut state, _) = pressed(&map, &[]);
    state.lost = Some((12, "no Terrace is running here".to_owned()));
    let lines = shown(&map, &state, 120, 12);
    assert_eq!(lines[1], " connection lost 12 s ago (no Terrace is running here); trying again");
    assert!(lines.iter().any(|line| line.contains("orders")));
}

#[test]
fn what_is_broken_on_purpose_is_said_where_trouble_is() {
    let mut map = shop();
    map.not_ready.clear();
    let fault = Fault { route: "orders".to_owned(), abort: Some(503), ..Fault::default() };
    map.faults = vec![fault.clone(), fault];
    let (state, _) = pressed(&map, &[]);
    let lines = shown(&map, &state, 120, 20);
    assert_eq!(lines[1], " broken on purpose: orders; see terrace fault --list");
}

#[test]
fn without_colours_nothing_is_coloured_and_nothing_is_missing() {
    let map = shop();
    let (state, _) = pressed(&map, &[]);
    let area = Rect::new(0, 0, 120, 20);
    let plain = view(&map, &state, Look { colour: false }, area);
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert_eq!(text(&plain), text(&view(&map, &state, Look { colour: true }, area)));
}

#[test]
fn a_pipe_gets_every_line_and_no_keys() {
    let printed = plain(&shop(), 120);
    assert!(printed.contains("orders-3") && printed.contains("10.0.0.5:80") && !printed.contains("q quit"));
    assert!(printed.lines().all(|line| line.chars().count() <= 120 && !line.contains('\u{1b}')));
}

#[test]
fn what_others_wrote_cannot_command_the_terminal() {
    let mut map = shop();
    map.services[0].reason = Some("\u{1b}[2Jboom\r\n\u{7}".to_owned());
    map.not_ready = vec!["\u{1b}]0;title\u{7}".to_owned()];
    let (state, _) = pressed(&map, &[]);
    assert!(!shown(&map, &state, 150, 20).concat().chars().any(char::is_control));
}
