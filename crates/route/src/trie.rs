//! The paths of one host, as a trie of segments.
//!
//! A request walks down its own segments: the literal child first, then the capture, then what matches from here to
//! the end. That is the path's law of order, so the first hit is the most specific one, and coming back up visits the
//! others in order. The walk never goes deeper than the longest pattern, and visits each node at most once.

use crate::{
    pattern::{Pattern, Segment},
    text::segment_end,
};

/// One pattern of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) rule: u32,
    pub(crate) at: u32,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by length, then text: most comparisons end at the length.
    literals: Vec<(Box<str>, u32)>,
    capture: Option<u32>,
    exact: Vec<Entry>,
    prefix: Vec<Entry>,
}

impl Node {
    fn place(&self, segment: &str) -> Result<usize, usize> {
        let key = (segment.len(), segment);
        self.literals.binary_search_by(|(text, _)| (text.len(), &**text).cmp(&key))
    }
}

/// The trie; node 0 is the root, above the first segment.
#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Trie {
    pub(crate) fn insert(&mut self, pattern: &Pattern, entry: Entry) {
        let mut node = 0;
        for segment in pattern.segments() {
            node = match segment {
                Segment::Literal(text) => self.literal(node, text),
                Segment::Capture => self.capture(node),
            };
        }
        let node = &mut self.nodes[node];
        if pattern.is_prefix() { node.prefix.push(entry) } else { node.exact.push(entry) }
    }

    fn literal(&mut self, node: usize, text: &str) -> usize {
        match self.nodes[node].place(text) {
            Ok(place) => self.nodes[node].literals[place].1 as usize,
            Err(place) => {
                let child = self.grow();
                self.nodes[node].literals.insert(place, (text.into(), child));
                child as usize
            }
        }
    }

    fn capture(&mut self, node: usize) -> usize {
        let child = match self.nodes[node].capture {
            Some(child) => child,
            None => self.grow(),
        };
        self.nodes[node].capture = Some(child);
        child as usize
    }

    fn grow(&mut self) -> u32 {
        let child = u32::try_from(self.nodes.len()).expect("PATTERNS_MAX times SEGMENTS_MAX is below 2^32");
        self.nodes.push(Node::default());
        child
    }

    /// The lists of entries that have the same shape of path, to be put in order once all are in.
    pub(crate) fn lists(&mut self) -> impl Iterator<Item = &mut Vec<Entry>> {
        self.nodes.iter_mut().flat_map(|node| [&mut node.exact, &mut node.prefix])
    }

    /// Visits the entries that match `path`, the most specific first, until `visit` returns something.
    pub(crate) fn walk<B>(&self, path: &str, visit: &mut impl FnMut(&[Entry]) -> Option<B>) -> Option<B> {
        match path.strip_prefix('/') {
            Some(segments) => self.descend(0, Some(segments), visit),
            None if path == "*" => self.descend(0, None, visit),
            None => None,
        }
    }

    /// `below` holds the segments not yet walked; `None` when the path has ended.
    fn descend<B>(
        &self,
        node: u32,
        below: Option<&str>,
        visit: &mut impl FnMut(&[Entry]) -> Option<B>,
    ) -> Option<B> {
        let node = &self.nodes[node as usize];
        let found = match below {
            None if node.exact.is_empty() => None,
            None => visit(&node.exact),
            Some(_) if node.literals.is_empty() && node.capture.is_none() => None,
            Some(below) => self.children(node, below, visit),
        };
        match found {
            None if !node.prefix.is_empty() => visit(&node.prefix),
            found => found,
        }
    }

    fn children<B>(
        &self,
        node: &Node,
        below: &str,
        visit: &mut impl FnMut(&[Entry]) -> Option<B>,
    ) -> Option<B> {
        let (segment, below) = below.split_at(segment_end(below));
        let below = below.strip_prefix('/');
        if let Ok(place) = node.place(segment) {
            let found = self.descend(node.literals[place].1, below, visit);
            if found.is_some() {
                return found;
            }
        }
        match node.capture {
            Some(child) if !segment.is_empty() => self.descend(child, below, visit),
            _ => None,
        }
    }
}
