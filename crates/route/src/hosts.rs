//! The hosts of a table, each with the trie of its paths.
//!
//! A host is asked from its most specific entry to the least: itself, then the wildcards above it from the longest
//! suffix to the shortest, then the rules for any host. Only suffixes as long as some wildcard are hashed, so a host
//! made of thousands of dots costs no more than a long one.

use std::{collections::HashMap, net::Ipv6Addr};

use crate::{
    pattern::{Host, Pattern},
    trie::{Entry, Trie},
};

#[derive(Debug, Default)]
pub(crate) struct Hosts {
    exact: HashMap<Box<str>, Trie>,
    v6: HashMap<Ipv6Addr, Trie>,
    wildcards: HashMap<Box<str>, Trie>,
    wildcard_bytes_max: usize,
    any: Trie,
}

impl Hosts {
    pub(crate) fn insert(&mut self, pattern: &Pattern, entry: Entry) {
        let trie = match pattern.host_kind() {
            Host::Any => &mut self.any,
            Host::V6(address) => self.v6.entry(*address).or_default(),
            Host::Exact(name) => self.exact.entry(name.clone()).or_default(),
            Host::Wildcard(suffix) => {
                self.wildcard_bytes_max = self.wildcard_bytes_max.max(suffix.len());
                self.wildcards.entry(suffix.clone()).or_default()
            }
        };
        trie.insert(pattern, entry);
    }

    /// The lists of entries with the same host and the same shape of path, to be put in order once all are in.
    pub(crate) fn lists(&mut self) -> impl Iterator<Item = &mut Vec<Entry>> {
        let tries = self.exact.values_mut().chain(self.v6.values_mut()).chain(self.wildcards.values_mut());
        tries.chain([&mut self.any]).flat_map(Trie::lists)
    }

    /// Visits the entries that match host and path, the most specific first, until `visit` returns something.
    pub(crate) fn walk<B>(
        &self,
        host: &str,
        path: &str,
        mut visit: impl FnMut(&[Entry]) -> Option<B>,
    ) -> Option<B> {
        if let Some(trie) = self.own(host) {
            let found = trie.walk(path, &mut visit);
            if found.is_some() {
                return found;
            }
        }
        let found = self.wildcards(host, path, &mut visit);
        if found.is_some() {
            return found;
        }
        self.any.walk(path, &mut visit)
    }

    fn own(&self, host: &str) -> Option<&Trie> {
        match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(_) if self.v6.is_empty() => None,
            Some(address) => self.v6.get(&address.parse().ok()?),
            None if self.exact.is_empty() => None,
            None => self.exact.get(host),
        }
    }

    fn wildcards<B>(
        &self,
        host: &str,
        path: &str,
        visit: &mut impl FnMut(&[Entry]) -> Option<B>,
    ) -> Option<B> {
        if self.wildcards.is_empty() {
            return None;
        }
        for (dot, _) in host.match_indices('.') {
            let suffix = &host[dot + 1..];
            if dot == 0 || suffix.len() > self.wildcard_bytes_max {
                continue;
            }
            let found = self.wildcards.get(suffix).and_then(|trie| trie.walk(path, visit));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}
