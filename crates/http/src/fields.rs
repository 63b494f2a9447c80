//! The fields of a message (RFC 9110 section 5): an ordered list over one arena of bytes.
//!
//! Fields stand in one buffer as the lines they are on the wire of HTTP/1. So a head that is passed on is copied in one piece
//! when it comes and, where nothing was taken out, in one piece when it goes; it costs no allocation once the buffer has grown to
//! its connection's usual size, and pins no read buffer. Names keep the case in which they came.

use std::fmt;

use crate::{Known, KnownSet};

/// The most memory that outlives its message: what nearly all heads fit in, and no more, since a connection keeps it.
const KEPT_BYTES_MAX: usize = 8 << 10;

/// What stands between a name and its value.
const COLON: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

/// An ordered list of fields, with names that compare without regard to case.
#[derive(Clone, Default)]
pub struct Fields {
    /// Lines, each with one space after its colon and none before its end. Those of fields that were removed stay.
    arena: Vec<u8>,
    entries: Vec<Entry>,
    /// No known name outside of it is among the entries; one in it may have been.
    may_have: KnownSet,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    known: Option<Known>,
    at: u32,
    name_bytes: u32,
    value_bytes: u32,
}

impl Entry {
    fn value_at(&self) -> usize {
        self.at as usize + self.name_bytes as usize + COLON.len()
    }

    /// Where the line ends, and in what was not changed the next begins.
    fn end(&self) -> usize {
        self.value_at() + self.value_bytes as usize + LINE_END.len()
    }
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
        self.may_have = KnownSet::EMPTY;
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

    /// Adds a field with a known name at the end; `write` appends its value, which holds no line end.
    pub fn append_with(&mut self, name: Known, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.arena.len();
        self.arena.extend_from_slice(name.name().as_bytes());
        self.arena.extend_from_slice(COLON);
        let value_at = self.arena.len();
        write(&mut self.arena);
        let value_bytes = self.arena.len() - value_at;
        self.arena.extend_from_slice(LINE_END);
        self.note(Some(name), at, name.name().len(), value_bytes);
    }

    /// Adds fields at the end, in one piece.
    pub fn append_all(&mut self, others: &Self) {
        let base = narrow(self.arena.len());
        self.arena.extend_from_slice(&others.arena);
        self.entries.extend(others.entries.iter().map(|entry| Entry { at: base + entry.at, ..*entry }));
        self.may_have.add_all(others.may_have);
    }

    /// Adds the fields that a parser found in `lines`, which end with the last of them. Those whose line is written as ours are
    /// stay where they stand in the copy; the others are written anew behind it. Whether there is nothing else than lines as ours
    /// are.
    pub(crate) fn append_lines<'l>(
        &mut self,
        lines: &'l [u8],
        found: impl Iterator<Item = (&'l [u8], &'l [u8])>,
    ) -> bool {
        let base = self.arena.len();
        self.arena.extend_from_slice(lines);
        let mut seen = 0;
        for (name, value) in found {
            let known = Known::lookup(name);
            match place(lines, name, value) {
                Some(at) => {
                    self.note(known, base + at, name.len(), value.len());
                    if at == seen {
                        seen = at + name.len() + COLON.len() + value.len() + LINE_END.len();
                    }
                }
                None => self.push(known, name, value),
            }
        }
        seen == lines.len()
    }

    /// Writes the lines of the fields with unknown names, and of those known ones that are not in `left_out`.
    pub(crate) fn write_lines(&self, left_out: KnownSet, out: &mut Vec<u8>) {
        let leaves_out = self.may_have_any(left_out);
        let (mut from, mut to) = (0, 0);
        for entry in &self.entries {
            if leaves_out && entry.known.is_some_and(|known| left_out.has(known)) {
                continue;
            }
            let at = entry.at as usize;
            if at != to {
                out.extend_from_slice(&self.arena[from..to]);
                from = at;
            }
            to = entry.end();
        }
        out.extend_from_slice(&self.arena[from..to]);
    }

    /// How many bytes the fields take on the wire of HTTP/1, at most.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        self.arena.len()
    }

    /// Puts `value` in the place of whatever fields of that name there are.
    pub fn set(&mut self, name: Known, value: &[u8]) {
        self.remove(name);
        self.append_known(name, value);
    }

    /// Removes every field of that name.
    pub fn remove(&mut self, name: Known) {
        self.remove_all(KnownSet::of(&[name]));
    }

    /// Removes every field of those names.
    pub fn remove_all(&mut self, names: KnownSet) {
        if self.may_have_any(names) {
            self.entries.retain(|entry| !entry.known.is_some_and(|known| names.has(known)));
            self.may_have = self.may_have.without(names);
        }
    }

    /// Whether there may be a field of one of those names. `false`: there is none.
    #[inline]
    #[must_use]
    pub fn may_have_any(&self, names: KnownSet) -> bool {
        self.may_have.meets(names)
    }

    /// Removes every field whose name is `name`, in any case.
    pub fn remove_named(&mut self, name: &[u8]) {
        let arena = &self.arena;
        self.entries.retain(|entry| !name_of(arena, entry).eq_ignore_ascii_case(name));
    }

    /// Removes the fields with unknown names for which `is_unwanted(name)` holds.
    pub fn remove_unknown(&mut self, is_unwanted: impl Fn(&[u8]) -> bool) {
        let arena = &self.arena;
        let goes = |entry: &Entry| entry.known.is_none() && is_unwanted(name_of(arena, entry));
        if self.entries.iter().any(goes) {
            self.entries.retain(|entry| !goes(entry));
        }
    }

    /// Keeps the fields for which `keep(known, name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(Option<Known>, &[u8], &[u8]) -> bool) {
        let arena = &self.arena;
        self.entries.retain(|entry| keep(entry.known, name_of(arena, entry), value_of(arena, entry)));
    }

    /// The value of the first field of that name.
    #[must_use]
    pub fn get(&self, name: Known) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The value of the first field of that name, when it is text.
    #[must_use]
    pub fn text(&self, name: Known) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Whether there is a field of that name.
    #[inline]
    #[must_use]
    pub fn has(&self, name: Known) -> bool {
        self.all(name).next().is_some()
    }

    /// The values of all fields of that name, in order.
    #[inline]
    pub fn all(&self, name: Known) -> impl Iterator<Item = &[u8]> {
        let entries = if self.may_have.has(name) { self.entries.as_slice() } else { &[] };
        entries
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
        let at = self.arena.len();
        self.arena.reserve(name.len() + value.len() + COLON.len() + LINE_END.len());
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(COLON);
        self.arena.extend_from_slice(value);
        self.arena.extend_from_slice(LINE_END);
        self.note(known, at, name.len(), value.len());
    }

    /// Remembers a field whose line stands in the arena.
    #[inline]
    fn note(&mut self, known: Option<Known>, at: usize, name_bytes: usize, value_bytes: usize) {
        if let Some(known) = known {
            self.may_have.add(known);
        }
        // Where the line ends says how large each part can be.
        let end = narrow(at + name_bytes + COLON.len() + value_bytes + LINE_END.len());
        let (name_bytes, value_bytes) = (name_bytes as u32, value_bytes as u32);
        let at = end - name_bytes - value_bytes - (COLON.len() + LINE_END.len()) as u32;
        self.entries.push(Entry { known, at, name_bytes, value_bytes });
    }
}

fn narrow(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("invariant: heads are bounded far below 4 GiB")
}

/// Where in `lines` the line of a field begins, if name and value are parts of it and it is written as ours are. Only addresses are
/// compared: what is found there is read from `lines`.
fn place(lines: &[u8], name: &[u8], value: &[u8]) -> Option<usize> {
    let at = name.as_ptr().addr().checked_sub(lines.as_ptr().addr())?;
    let value_at = at + name.len() + COLON.len();
    let is_ours = value.as_ptr().addr() == lines.as_ptr().addr() + value_at
        && lines.get(at + name.len()..value_at)? == COLON
        && lines.get(value_at + value.len()..)?.starts_with(LINE_END);
    is_ours.then_some(at)
}

fn name_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    let at = entry.at as usize;
    &arena[at..at + entry.name_bytes as usize]
}

fn value_of<'a>(arena: &'a [u8], entry: &Entry) -> &'a [u8] {
    let at = entry.value_at();
    &arena[at..at + entry.value_bytes as usize]
}

/// The same names, in the same letters, with the same values, in the same order.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
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

    fn written(fields: &Fields, left_out: KnownSet) -> String {
        let mut out = Vec::new();
        fields.write_lines(left_out, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_are_written_as_they_came_without_those_that_were_taken_out() {
        let mut fields = sample();
        assert_eq!(
            written(&fields, KnownSet::EMPTY),
            "Host: a\r\nX-One: 1\r\nCOOKIE: c=1\r\nCookie: d=2\r\n"
        );
        fields.append_with(Known::Via, |out| out.extend_from_slice(b"1.1 a"));
        fields.remove_named(b"x-one");
        let mut more = Fields::new();
        more.append(b"X-Two", b"2");
        more.append_known(Known::Date, b"");
        fields.append_all(&more);
        fields.remove_unknown(|name| name == b"Via" || name == b"Host");
        assert!(fields != more && more == more.clone());
        assert_eq!(fields.get(Known::Date), Some(&b""[..]));
        fields.append(b"Last", b"3");
        let some = KnownSet::of(&[Known::Cookie]);
        assert_eq!(written(&fields, some), "Host: a\r\nvia: 1.1 a\r\nX-Two: 2\r\ndate: \r\nLast: 3\r\n");
        fields.remove_all(KnownSet::of(&[Known::Host, Known::Via]));
        assert!(!fields.has(Known::Host) && !fields.may_have_any(KnownSet::of(&[Known::Via])));
        assert_eq!(fields.named(b"LAST"), Some(&b"3"[..]));
    }

    #[test]
    fn debug_shows_no_value() {
        assert_eq!(format!("{:?}", sample()), r#"["Host", "X-One", "COOKIE", "Cookie"]"#);
    }
}
