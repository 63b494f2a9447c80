//! Which Redis is asked about which key. A single one is asked about all. A cluster of them says `MOVED` for a key that
//! another one of them has; then that one is connected to, and asked about all keys of the same slot from then on.

use std::collections::HashMap;

use rustc_hash::FxHashMap;

use crate::link::{Link, LinkError};
use crate::resp::{self, Answer};
use crate::scripts::Script;
use crate::url::RedisUrl;

/// Slots of a cluster (redis.io, "Redis cluster specification").
const SLOTS: u16 = 16_384;
/// Machines of a cluster that we connect to at most.
const NODES_MAX: usize = 64;
/// So often one round follows what a cluster says of who has a key.
const TURNS_MAX: usize = 4;

/// A script to be run on one key.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) script: Script,
    pub(crate) key: String,
    pub(crate) arguments: Vec<String>,
}

/// Connections to a Redis, or to the machines of a cluster.
#[derive(Debug)]
pub(crate) struct Nodes {
    url: RedisUrl,
    /// The first is the one that the URL names.
    links: Vec<Link>,
    numbers: HashMap<(String, u16), usize>,
    /// Who has a slot; the first, as long as nobody said otherwise.
    slots: FxHashMap<u16, usize>,
}

/// How a call is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// By the script's name.
    ByHash,
    /// With the script's text: Redis forgot it.
    Whole,
    /// To a machine that only has this key of its slot so far.
    Asking,
}

/// A call on its way: its place among all, where to and how.
type Sent = (usize, usize, Manner);

impl Nodes {
    pub(crate) async fn open(url: &RedisUrl) -> Result<Self, LinkError> {
        let home = Link::open(url, &url.host, url.port).await?;
        let numbers = HashMap::from([((url.host.clone(), url.port), 0)]);
        Ok(Self { url: url.clone(), links: vec![home], numbers, slots: FxHashMap::default() })
    }

    /// Runs all calls, those of one machine in one go. An answer for each, in their order.
    ///
    /// # Errors
    /// [`LinkError`] when one of them could not be run; nothing is known of the others then.
    pub(crate) async fn run(&mut self, calls: &[Call]) -> Result<Vec<Answer>, LinkError> {
        let mut answers = vec![Answer::Nothing; calls.len()];
        let place = |(index, call): (usize, &Call)| (index, self.place(&call.key), Manner::ByHash);
        let mut due: Vec<Sent> = calls.iter().enumerate().map(place).collect();
        for _ in 0..TURNS_MAX {
            self.send(calls, &due).await?;
            let mut again = Vec::new();
            for (index, node, manner) in in_order_of_nodes(due) {
                if manner == Manner::Asking {
                    self.links[node].answer().await?;
                }
                match self.links[node].answer().await? {
                    Answer::Error(error) => again.push(self.follow(index, node, &error).await?),
                    answer => answers[index] = answer,
                }
            }
            if again.is_empty() {
                return Ok(answers);
            }
            due = again;
        }
        Err(LinkError::Scattered)
    }

    /// Resolves when nothing is asked and the connection is lost all the same.
    pub(crate) async fn lost(&mut self) -> LinkError {
        self.links[0].lost().await
    }

    async fn send(&mut self, calls: &[Call], due: &[Sent]) -> Result<(), LinkError> {
        for node in 0..self.links.len() {
            let mut out = Vec::new();
            for (index, _, manner) in due.iter().filter(|(_, to, _)| *to == node) {
                self.push(&mut out, node, &calls[*index], *manner);
            }
            if !out.is_empty() {
                self.links[node].send(&out).await?;
            }
        }
        Ok(())
    }

    fn push(&self, out: &mut Vec<u8>, node: usize, call: &Call, manner: Manner) {
        let (command, script): (&[u8], &[u8]) = match manner {
            Manner::ByHash => (b"EVALSHA", self.links[node].hash(call.script)),
            Manner::Whole | Manner::Asking => (b"EVAL", call.script.source().as_bytes()),
        };
        if manner == Manner::Asking {
            resp::push_command(out, &[b"ASKING"]);
        }
        let mut parts: Vec<&[u8]> = vec![command, script, b"1", call.key.as_bytes()];
        parts.extend(call.arguments.iter().map(String::as_bytes));
        resp::push_command(out, &parts);
    }

    /// Where and how a call is to be sent again after an error.
    async fn follow(&mut self, index: usize, node: usize, error: &str) -> Result<Sent, LinkError> {
        let mut words = error.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("NOSCRIPT"), ..) => Ok((index, node, Manner::Whole)),
            (Some("MOVED"), Some(slot), Some(address)) => {
                let node = self.node(node, address).await?;
                let slot = slot.parse().map_err(|_| LinkError::Strange)?;
                self.slots.insert(slot, node);
                Ok((index, node, Manner::ByHash))
            }
            (Some("ASK"), Some(_), Some(address)) => {
                let node = self.node(node, address).await?;
                Ok((index, node, Manner::Asking))
            }
            _ => Err(LinkError::Refused(error.to_owned())),
        }
    }

    /// The connection to the machine at that address, which is opened if there is none.
    async fn node(&mut self, from: usize, address: &str) -> Result<usize, LinkError> {
        let (host, port) = address.rsplit_once(':').ok_or(LinkError::Strange)?;
        let port = port.parse().map_err(|_| LinkError::Strange)?;
        let known =
            self.numbers.iter().find(|(_, number)| **number == from).map(|((host, _), _)| host.clone());
        // No host means the one that says so.
        let host = if host.is_empty() { known.unwrap_or_default() } else { host.to_owned() };
        if let Some(number) = self.numbers.get(&(host.clone(), port)) {
            return Ok(*number);
        }
        if self.links.len() >= NODES_MAX {
            return Err(LinkError::Scattered);
        }
        self.links.push(Link::open(&self.url, &host, port).await?);
        self.numbers.insert((host, port), self.links.len() - 1);
        Ok(self.links.len() - 1)
    }

    fn place(&self, key: &str) -> usize {
        if self.slots.is_empty() { 0 } else { self.slots.get(&slot_of(key)).copied().unwrap_or(0) }
    }
}

/// Calls as they were sent, and so as their answers come: machine by machine.
fn in_order_of_nodes(mut sent: Vec<Sent>) -> Vec<Sent> {
    sent.sort_by_key(|(_, node, _)| *node);
    sent
}

/// The slot of a key: of what is in its first braces, or of all of it.
fn slot_of(key: &str) -> u16 {
    let braced = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(braced, _)| braced);
    let hashed = braced.filter(|braced| !braced.is_empty()).unwrap_or(key);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the specification of the cluster has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("{user1000}.following"), slot_of("user1000"));
        assert_eq!(slot_of("foo{}{bar}"), crc16(b"foo{}{bar}") % SLOTS);
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    }
}
