//! Moods set and counts read over HTTP, for whoever drives the endpoints from another process.
//!
//! `/mood?to=well|failing|refusing|silent|slow&times=100&endpoints=0,1,2` (all endpoints when none are named; a slow one
//! takes `times` times as long, 100 when left out); `/served` tells a JSON list of `{arrived, answered, present, mood}`.

use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;

use super::server::{answer, read_head};
use super::{Endpoint, Mood};

/// How many times as long a slow endpoint takes, when nobody says.
const TIMES: u32 = 100;

pub(crate) fn serve(listener: &TcpListener, endpoints: &[Arc<Endpoint>]) {
    for stream in listener.incoming().flatten() {
        // One after the other: whoever sets a mood waits for nothing else.
        let _client_gone = one(&stream, endpoints);
    }
}

fn one(stream: &TcpStream, endpoints: &[Arc<Endpoint>]) -> io::Result<()> {
    let Some(asked) = read_head(&mut BufReader::new(stream))? else { return Ok(()) };
    match obey(&asked.target, endpoints) {
        Some(text) => answer(stream, "200 OK", text.as_bytes()),
        None => answer(stream, "400 Bad Request", b"not understood\n"),
    }?;
    stream.shutdown(std::net::Shutdown::Write)
}

fn obey(target: &str, endpoints: &[Arc<Endpoint>]) -> Option<String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/served" => Some(served(endpoints)),
        "/mood" => {
            let mood = mood(query)?;
            let chosen = chosen(query, endpoints)?;
            chosen.iter().for_each(|endpoint| endpoint.set(mood));
            Some("set\n".to_owned())
        }
        _ => None,
    }
}

fn served(endpoints: &[Arc<Endpoint>]) -> String {
    let one = |endpoint: &Arc<Endpoint>| {
        let served = endpoint.served();
        json!({
            "arrived": served.arrived,
            "answered": served.answered,
            "present": served.present,
            "mood": format!("{:?}", endpoint.mood()).to_lowercase(),
        })
    };
    endpoints.iter().map(one).collect::<serde_json::Value>().to_string()
}

fn mood(query: &str) -> Option<Mood> {
    match value(query, "to")? {
        "well" => Some(Mood::Well),
        "failing" => Some(Mood::Failing),
        "refusing" => Some(Mood::Refusing),
        "silent" => Some(Mood::Silent),
        "slow" => Some(Mood::Slow(value(query, "times").map_or(Some(TIMES), |times| times.parse().ok())?)),
        _ => None,
    }
}

fn chosen<'a>(query: &str, endpoints: &'a [Arc<Endpoint>]) -> Option<Vec<&'a Arc<Endpoint>>> {
    match value(query, "endpoints") {
        None => Some(endpoints.iter().collect()),
        Some(numbers) => {
            numbers.split(',').map(|number| endpoints.get(number.parse::<usize>().ok()?)).collect()
        }
    }
}

fn value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
        .map(|(_, value)| value)
}
