//! The ticker: how many people are shopping just now, and what was bought last, over a WebSocket.
//!
//! People are counted over all instances by way of the shared database: each writes how many it has every few
//! seconds, and a number that was not renewed is not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use rusqlite::params;
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::Web;
use crate::clock;
use crate::log;
use crate::orders::Recent;
use crate::problem::Problem;

/// How often the numbers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Many who come at once cause one look.
const CROWD_PAUSE: Duration = Duration::from_millis(100);
/// A number older than this is of an instance that is gone.
const STALE_AFTER_MS: i64 = 10_000;
/// Nobody has anything long to say to the ticker.
const MESSAGE_BYTES_MAX: usize = 1024;
/// A visitor is asked for a sign of life this often, and given up after this long without one.
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a visitor may take to take a message, and to say goodbye.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(2);

/// The state of the ticker in this instance.
pub(super) struct Live {
    news: watch::Sender<String>,
    people: AtomicUsize,
    somebody_came: Notify,
}

impl Default for Live {
    fn default() -> Self {
        let news = watch::Sender::new(String::new());
        Self { news, people: AtomicUsize::new(0), somebody_came: Notify::new() }
    }
}

/// One visitor counted in, until dropped.
struct Presence(Arc<Web>);

impl Presence {
    fn new(web: Arc<Web>) -> Self {
        web.live.people.fetch_add(1, Ordering::Relaxed);
        web.live.somebody_came.notify_one();
        Self(web)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.live.people.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn connect(State(web): State<Arc<Web>>, upgrade: WebSocketUpgrade) -> Response {
    let presence = Presence::new(web);
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    let guard = presence.0.stop.guard();
    upgrade.on_upgrade(move |socket| async move {
        attend(&presence.0, socket).await;
        drop(guard);
    })
}

/// Tells one visitor the news until they leave or the instance stops.
async fn attend(web: &Web, mut socket: WebSocket) {
    let mut news = web.live.news.subscribe();
    news.mark_changed();
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut heard = clock::now();
    loop {
        let message = tokio::select! {
            _ = news.changed() => Message::Text(Utf8Bytes::from(news.borrow_and_update().as_str())),
            heard_something = socket.recv() => match heard_something {
                Some(Err(_)) | None => return,
                // A goodbye too: it is answered when the next message is asked for, which then is none.
                Some(Ok(_)) => {
                    heard = clock::now();
                    continue;
                }
            },
            _ = ping.tick() => Message::Ping(Default::default()),
            () = web.stop.requested() => return say_goodbye(socket).await,
        };
        if is_empty(&message) {
            continue;
        }
        if has_been_silent(heard) || !send(&mut socket, message).await {
            return;
        }
    }
}

/// Before the first look there is no news.
fn is_empty(message: &Message) -> bool {
    matches!(message, Message::Text(text) if text.is_empty())
}

fn has_been_silent(heard: Instant) -> bool {
    heard.elapsed() > SILENCE_MAX
}

async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await, Ok(Ok(())))
}

/// Closes as "going away", so that the browser knows to come back, and waits for its answer a little.
async fn say_goodbye(mut socket: WebSocket) {
    let frame = CloseFrame { code: close_code::AWAY, reason: Utf8Bytes::from_static("this instance stops") };
    if send(&mut socket, Message::Close(Some(frame))).await {
        let _ = tokio::time::timeout(GOODBYE, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
    }
}

/// Keeps the numbers until the instance stops.
pub(super) async fn run(web: Arc<Web>, instance: String) {
    let mut written = 0;
    loop {
        let people = web.live.people.load(Ordering::Relaxed);
        // With nobody watching there is nobody to tell, and nothing to write but a last zero.
        if people > 0 || written > 0 {
            written = people;
            if let Err(problem) = look(&web, &instance, people).await {
                log::warn("ticker.late", json!({ "why": problem.detail }));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => (),
            () = web.live.somebody_came.notified() => tokio::time::sleep(CROWD_PAUSE).await,
            () = web.stop.requested() => break,
        }
    }
    let _ = web
        .database
        .change(move |db| db.execute("DELETE FROM presence WHERE instance = ?1", [instance]))
        .await;
}

async fn look(web: &Web, instance: &str, people: usize) -> Result<(), Problem> {
    let (instance, now_ms) = (instance.to_owned(), clock::wall_ms());
    let all = web.database.change(move |db| count(db, &instance, people, now_ms)).await?;
    let recent = web.orders.get("/recent").fetch::<Recent>().await;
    let (product, at_ms) = match recent {
        Ok(recent) => (recent.product, recent.at_ms),
        Err(_) => (None, None), // the count is worth telling without it
    };
    // Whoever reads this is one, even where it was counted before they came.
    let text =
        json!({ "people": all.max(1), "product": product, "at": at_ms.map(clock::rfc3339) }).to_string();
    web.live.news.send_if_modified(|news| {
        let is_new = *news != text;
        *news = text;
        is_new
    });
    Ok(())
}

/// Renews this instance's number and adds up all that are fresh.
fn count(db: &rusqlite::Connection, instance: &str, people: usize, now_ms: i64) -> rusqlite::Result<i64> {
    let people = i64::try_from(people).unwrap_or(i64::MAX);
    db.execute(
        "INSERT INTO presence (instance, people, at_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (instance) DO UPDATE SET people = excluded.people, at_ms = excluded.at_ms",
        params![instance, people, now_ms],
    )?;
    db.execute("DELETE FROM presence WHERE at_ms < ?1", [now_ms - STALE_AFTER_MS])?;
    db.query_row("SELECT sum(people) FROM presence", (), |row| row.get(0))
}
