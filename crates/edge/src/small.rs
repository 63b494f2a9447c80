//! Short texts kept by value: a request's notes hold a few, and an allocation for each would cost more than the notes.

use std::fmt;

/// A text of any length; up to `NEAR` bytes of it cost no allocation.
#[derive(Clone)]
pub(crate) struct SmallText<const NEAR: usize> {
    near: [u8; NEAR],
    bytes: usize,
    far: Option<Box<[u8]>>,
}

impl<const NEAR: usize> SmallText<NEAR> {
    #[inline]
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut small = Self { near: [0; NEAR], bytes: text.len(), far: None };
        match small.near.get_mut(..text.len()) {
            Some(near) => near.copy_from_slice(text),
            None => small.far = Some(text.into()),
        }
        small
    }

    /// Becomes at most `NEAR` bytes of a text, whole characters: for what a client chose, and many of which are kept.
    #[inline]
    pub(crate) fn set_cut(&mut self, text: &str) {
        let end = match text.len() <= NEAR {
            true => text.len(),
            false => (0..=NEAR).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0),
        };
        self.near[..end].copy_from_slice(&text.as_bytes()[..end]);
        self.bytes = end;
        self.far = None;
    }

    /// The same as a new text.
    #[cfg(test)]
    pub(crate) fn cut(text: &str) -> Self {
        let mut small = Self::new(b"");
        small.set_cut(text);
        small
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match &self.far {
            None => &self.near[..self.bytes],
            Some(far) => far,
        }
    }

    /// As text; what is none is shown with U+FFFD.
    pub(crate) fn to_text(&self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

impl<const NEAR: usize> fmt::Debug for SmallText<NEAR> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_whole_however_long_it_is() {
        for text in ["", "orders-1", "exactly8", "longer than eight bytes"] {
            assert_eq!(SmallText::<8>::new(text.as_bytes()).as_bytes(), text.as_bytes());
        }
    }

    #[test]
    fn what_a_client_chose_is_cut_between_characters() {
        assert_eq!(SmallText::<4>::cut("/äöü").to_text(), "/ä");
        assert_eq!(SmallText::<4>::cut("/abc").to_text(), "/abc");
        assert!(SmallText::<4>::cut("/a long one").far.is_none());
    }
}
