//! Which members or items of one value were looked at by a schema, for `unevaluatedProperties` and `unevaluatedItems`
//! (JSON Schema 2020-12, Core, section 11).

/// A set of members or items, by their places in the value.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    has_all: bool,
    places: Vec<u64>,
}

impl Seen {
    pub(super) fn add(&mut self, place: usize) {
        let word = place / 64;
        if self.places.len() <= word {
            self.places.resize(word + 1, 0);
        }
        self.places[word] |= 1 << (place % 64);
    }

    pub(super) fn add_all(&mut self) {
        self.has_all = true;
    }

    pub(super) fn has(&self, place: usize) -> bool {
        self.has_all || self.places.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    pub(super) fn add_those_of(&mut self, other: &Self) {
        self.has_all |= other.has_all;
        if self.places.len() < other.places.len() {
            self.places.resize(other.places.len(), 0);
        }
        self.places.iter_mut().zip(&other.places).for_each(|(ours, theirs)| *ours |= theirs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there() {
        let (mut one, mut other) = (Seen::default(), Seen::default());
        one.add(3);
        other.add(200);
        one.add_those_of(&other);
        assert!(one.has(3) && one.has(200) && !one.has(4) && !one.has(9999));
        other.add_all();
        one.add_those_of(&other);
        assert!(one.has(9999));
    }
}
