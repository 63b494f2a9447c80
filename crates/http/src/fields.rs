//! The fields of a message (RFC 9110 section 5): an ordered list over one arena of bytes.
//!
//! Names and values live end to end in one buffer, so that a head costs no allocation once the buffer has grown to its
//! connection's usual size, pins no read buffer, and is written out in order. Names keep the case in which they came.

use std::fmt;

use crate::Known;

/// The most memory that outlives its message: what nearly all heads fit in, and no more, since a connection keeps it.
const KEPT_BYTES_MAX: usize = 8 << 10;

/// An ordered list of fields, with names that compare without regard to case.
#[derive(Clone, Default)]
pub struct Fields {
    arena: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    known: Option<Known>,
    at: u32,
    name_bytes: u32,
    value_bytes: u32,
}

impl Fields {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are; repeated names count each time.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all fields and keeps the memory for the next message, but not that of an unusually large one.
    pub fn clear(&mut self) {
        if self.arena.capacity() > KEPT_BYTES_MAX {
            self.arena = Vec::new();
        }
        self.arena.clear();
        self.entries.clear();
    }

    /// Adds a field at the end.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        self.push(Known::lookup(name), name, value);
    }

    /// Adds a field with a known name at the end.
    #[inline]
    pub fn append_known(&mut self, name: Known, value: &[u8]) {
        self.push(Some(name), name.name().as_bytes(), value);
    }

    /// Adds a field with a known name at the end; `write` appends its value.
    pub fn append_with(&mut self, name: Known, write: impl FnOnce(&mut Vec<u8>)) {
        self.append_known(name, b"");
        let before = self.arena.len();
        write(&mut self.arena);
        let written = self.arena.len() - before;
        let entry = self.entries.last_mut().expect("invariant: it was just added");
        entry.value_bytes = u32::try_from(written).expect("invariant: heads are bounded far below 4 GiB");
    }

    /// How many bytes the fields take on the wire of HTTP/1, at most.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.arena.len() + 4 * self.entries.len()
    }

    /// Puts `value` in the place of whatever fields of that name there are.
    pub fn set(&mut self, name: Known, value: &[u8]) {
        self.remove(name);
        self.append_known(name, value);
    }

    /// Removes every field of that name.
    pub fn remove(&mut self, name: Known) {
        self.entries.retain(|entry| entry.known != Some(name));
    }

    /// Removes every field whose name is `name`, in any case.
    pub fn remove_named(&mut self, name: &[u8]) {
        let arena = &self.arena;
        self.entries.retain(|entry| !name_of(arena, entry).eq_ignore_ascii_case(name));
    }

    /// Keeps the fields for which `keep(known, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Option<Known>, &[u8], &[u8]) -> bool) {
        let arena = &self.arena;
        self.entries.retain(|entry| keep(entry.known, name_of(arena, entry), value_of(arena, entry)));
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: Known) -> Option<&[u8]> {
        self.entries.iter().find(|entry| entry.known == Some(name)).map(|entry| value_of(&self.arena, entry))
    }

    /// The value of the first field of that name, when it is text.
    #[must_use]
    pub fn text(&self, name: Known) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Whether there is a field of that name.
    #[must_use]
    pub fn has(&self, name: Known) -> bool {
        self.entries.iter().any(|entry| entry.known == Some(name))
    }

    /// The values of all fields of that name, in order.
    pub fn all(&self, name: Known) -> impl Iterator<Item = &[u8]> {
        self.entries
            .iter()
            .filter(move |entry| entry.known == Some(name))
            .map(|entry| value_of(&self.arena, entry))
    }

    /// The value of the first field called `name`, in any case.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Option<&[u8]> {
        match Known::lookup(name) {
            Some(known) => self.get(known),
            None => self.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value),
        }
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| (name_of(&self.arena, entry), value_of(&self.arena, entry)))
    }

    /// Names, known ones as numbers too, and values in order.
    pub fn iter_known(&self) -> impl Iterator<Item = (Option<Known>, &[u8], &[u8])> {
        self.entries
            .iter()
            .map(|entry| (entry.known, name_of(&self.arena, entry), value_of(&self.arena, entry)))
    }

    fn push(&mut self, known: Option<Known>, name: &[u8], value: &[u8]) {
        let at = u32::try_from(self.arena.len()).expect("invariant: heads are bounded far below 4 GiB");
        let name_bytes = u32::try_from(name.len()).expect("invariant: heads are bounded far below 4 GiB");
        let value_bytes = u32::try_from(value.len()).expect("invariant: heads are bounded far below 4 GiB");
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(value);
        self.entries.push(Entry { known, at, name_bytes, value_bytes });
    }
}

fn name_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    let at = entry.at as usize;
    &arena[at..at + entry.name_bytes as usize]
}

fn value_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    let at = entry.at as usize + entry.name_bytes as usize;
    &arena[at..at + entry.value_bytes as usize]
}

/// Names only: values may be credentials.
impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields {
        let mut fields = Fields::new();
        fields.append(b"Host", b"a");
        fields.append(b"X-One", b"1");
        fields.append(b"COOKIE", b"c=1");
        fields.append(b"Cookie", b"d=2");
        fields
    }

    #[test]
    fn a_field_is_found_in_whatever_case_it_came() {
        let fields = sample();
        assert_eq!(fields.get(Known::Cookie), Some(&b"c=1"[..]));
        assert_eq!(fields.named(b"x-oNe"), Some(&b"1"[..]));
        assert_eq!(fields.all(Known::Cookie).count(), 2);
        assert!(fields.named(b"x-two").is_none());
    }

    #[test]
    fn setting_replaces_all_of_a_name_and_leaves_the_others_in_order() {
        let mut fields = sample();
        fields.set(Known::Cookie, b"e=3");
        let names: Vec<_> = fields.iter().map(|(name, _)| name.to_vec()).collect();
        assert_eq!(names, [b"Host".to_vec(), b"X-One".to_vec(), b"cookie".to_vec()]);
        fields.remove_named(b"X-ONE");
        assert_eq!(fields.len(), 2);
    }

    #[test]
    fn one_large_message_does_not_make_a_connection_large_for_ever() {
        let mut fields = Fields::new();
        fields.append(b"X", &[b'y'; 30_000]);
        fields.clear();
        assert_eq!(fields.arena.capacity(), 0);
        fields.append(b"X", b"y");
        fields.clear();
        assert!(fields.arena.capacity() > 0, "the usual size is kept");
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", sample()), r#"["Host", "X-One", "COOKIE", "Cookie"]"#);
    }
}
