//! `terrace top`: the living map in a terminal, looked at anew each second.
//!
//! What is shown and what a key means is decided by pure code ([`view`], [`state`]); here are the terminal, the keyboard and
//! the socket. Whatever ends it, a key, a signal or a panic, the terminal is given back as it was.

mod rows;
mod state;
mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use serde_json::{Value, json};
use terrace_admin::client::{self, ClientError};
use terrace_admin::map::Map;
use terrace_runtime::clock;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::Global;
use crate::remote;

use state::{Command, State};
use view::{Look, plain, view};

/// How often the map is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A Terrace that takes longer to say how it is counts as lost.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the keyboard's thread looks whether it is still wanted.
const KEYBOARD_WAIT: Duration = Duration::from_millis(200);
/// Keys pressed faster than they are taken are forgotten.
const KEYS_WAITING_MAX: usize = 64;
/// Where nobody says how wide a line may be.
const PLAIN_WIDTH: u16 = 140;

/// Shows the map of the Terrace that was started with `file` until it is told to end; once, where no terminal is.
pub(crate) fn run(file: &Path, global: &Global) -> ExitCode {
    let socket = remote::socket(file);
    remote::wait_for(async {
        let map = match look(&socket).await {
            Ok(map) => map,
            Err(error) => return remote::refuse(&error, global),
        };
        if global.json || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return print_once(&map, global);
        }
        let look = Look { colour: global.colours_output() };
        match stay(map, &socket, look).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("terrace top: the terminal cannot be used: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

fn print_once(map: &Map, global: &Global) -> ExitCode {
    let text = match global.json {
        true => format!("{:#}\n", json!(map)),
        false => plain(map, PLAIN_WIDTH),
    };
    // A closed pipe (`terrace top | head`) is no failure of ours.
    let _nobody_reads = io::stdout().lock().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

async fn look(socket: &Path) -> Result<Map, ClientError> {
    let asked = client::request(socket, "GET", "/v1/map", None);
    match tokio::time::timeout(LOOK_TIMEOUT, asked).await {
        Ok(answer) => serde_json::from_value(answer?)
            .map_err(|error| ClientError::Broken(format!("its map is of another version ({error})"))),
        Err(_) => Err(ClientError::Broken(format!("no answer within {} s", LOOK_TIMEOUT.as_secs()))),
    }
}

/// The terminal, given back when dropped, and by ratatui's own hook when something panics.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    fn draw(&mut self, map: &Map, state: &State, look: Look) -> io::Result<()> {
        self.0.draw(|frame| {
            let picture = view(map, state, look, frame.area());
            frame.buffer_mut().merge(&picture);
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What happens while the map is shown.
enum Happened {
    Key(KeyEvent),
    Resized,
    Looked(Result<Box<Map>, ClientError>),
    Done(Result<String, String>),
}

async fn stay(mut map: Map, socket: &Path, look: Look) -> io::Result<()> {
    let mut screen = Screen::open()?;
    let mut state = State::default();
    state.settle(&map);
    let (tell, mut happened) = mpsc::channel(KEYS_WAITING_MAX);
    watch_keyboard(tell.clone());
    watch_map(socket, tell.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut seen_at = clock::now();
    loop {
        screen.draw(&map, &state, look)?;
        let event = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            event = happened.recv() => event,
        };
        match event {
            None => return Ok(()),
            Some(Happened::Resized) => {}
            Some(Happened::Key(key)) => match state.press(key, &map) {
                Some(Command::Quit) => return Ok(()),
                Some(command) => carry_out(command, socket, &mut state, tell.clone()),
                None => {}
            },
            Some(Happened::Looked(Ok(newer))) => {
                (map, seen_at, state.lost) = (*newer, clock::now(), None);
                state.settle(&map);
            }
            Some(Happened::Looked(Err(error))) => {
                let seconds = clock::now().saturating_sub(seen_at).as_secs();
                state.lost = Some((seconds, remote::sentence(&error)));
            }
            Some(Happened::Done(outcome)) => {
                state.notice = Some(match outcome {
                    Ok(done) => (done, false),
                    Err(problem) => (problem, true),
                });
            }
        }
    }
}

/// Reads the keyboard on a thread of its own, since reading a terminal blocks.
fn watch_keyboard(tell: mpsc::Sender<Happened>) {
    std::thread::spawn(move || {
        while !tell.is_closed() {
            let event = match event::poll(KEYBOARD_WAIT) {
                Ok(true) => event::read(),
                Ok(false) => continue,
                // The terminal is gone, and nobody can press a key any more.
                Err(_) => return,
            };
            let happened = match event {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Happened::Key(key),
                Ok(Event::Resize(..)) => Happened::Resized,
                Ok(_) => continue,
                Err(_) => return,
            };
            if tell.blocking_send(happened).is_err() {
                return;
            }
        }
    });
}

fn watch_map(socket: &Path, tell: mpsc::Sender<Happened>) {
    let socket = socket.to_owned();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick is at once, and the first map is there already.
        every.tick().await;
        loop {
            every.tick().await;
            if tell.send(Happened::Looked(look(&socket).await.map(Box::new))).await.is_err() {
                return;
            }
        }
    });
}

/// Asks the running Terrace, and tells what came of it when it has.
fn carry_out(command: Command, socket: &Path, state: &mut State, tell: mpsc::Sender<Happened>) {
    let Some((path, body, done)) = request(&command) else { return };
    state.notice = Some((format!("{done} …"), false));
    let socket = socket.to_owned();
    tokio::spawn(async move {
        let outcome = match client::request(&socket, "POST", &path, Some(&body)).await {
            Ok(_) => Ok(format!("{done}: done")),
            Err(error) => Err(remote::sentence(&error)),
        };
        // Nobody is told when it was quit meanwhile; Terrace goes on with it.
        let _gone = tell.send(Happened::Done(outcome)).await;
    });
}

/// What is sent for a command, and what it is called.
fn request(command: &Command) -> Option<(String, Value, String)> {
    match command {
        Command::Quit => None,
        Command::Scale { service, instances } => Some((
            format!("/v1/services/{service}/scale"),
            json!({ "instances": instances }),
            format!("{instances} instances of {service}"),
        )),
        Command::Restart { service } => {
            Some((format!("/v1/services/{service}/restart"), json!({}), format!("restart of {service}")))
        }
        Command::Drain { service, instance, is_out } => Some((
            format!("/v1/services/{service}/instances/{}/drain", client::encoded(instance)),
            json!({ "out": is_out }),
            if *is_out { format!("{instance} out of rotation") } else { format!("{instance} in rotation") },
        )),
    }
}
