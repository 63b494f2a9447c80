//! What a schema says of the make of its values, as far as that shows without a value: parameters come as bare text, and
//! only the schema tells whether `7` is a number.

use super::compile::{Check, Types};
use super::{SchemaId, SchemaSet};

/// How far references are followed.
const HOPS_MAX: usize = 16;

impl Types {
    /// Every kind: nothing was said.
    const ANY: Self = Self::all();

    pub(crate) fn is_array_only(self) -> bool {
        self.has("array") && !self.has("string") && !self.has("number") && !self.has("integer")
    }

    pub(crate) fn is_object_only(self) -> bool {
        self.has("object") && !self.has("string") && !self.has("number") && !self.has("integer")
    }

    pub(crate) fn admits_number(self) -> bool {
        self.has("number") || self.has("integer")
    }

    pub(crate) fn admits_boolean(self) -> bool {
        self.has("boolean")
    }

    pub(crate) fn admits_string(self) -> bool {
        self.has("string")
    }
}

impl SchemaSet {
    /// The types that values may have; all where the schema does not say.
    pub(crate) fn types(&self, id: SchemaId) -> Types {
        let said = self.look(id, HOPS_MAX, &|check| match check {
            Check::Type(types) => Some(*types),
            _ => None,
        });
        said.unwrap_or(Types::ANY)
    }

    /// The schema of an array's items.
    pub(crate) fn items(&self, id: SchemaId) -> Option<SchemaId> {
        self.look(id, HOPS_MAX, &|check| match check {
            Check::Items(items) => items.rest,
            _ => None,
        })
    }

    /// The schema of an object's member of that name.
    pub(crate) fn member(&self, id: SchemaId, name: &str) -> Option<SchemaId> {
        self.look(id, HOPS_MAX, &|check| match check {
            Check::Members(members) => members.named.get(name).copied(),
            _ => None,
        })
    }

    /// The names that an object's members may have, as far as they are listed.
    pub(crate) fn member_names(&self, id: SchemaId) -> Vec<Box<str>> {
        let names = self.look(id, HOPS_MAX, &|check| match check {
            Check::Members(members) if !members.named.is_empty() => {
                Some(members.named.keys().cloned().collect::<Vec<_>>())
            }
            _ => None,
        });
        names.unwrap_or_default()
    }

    fn look<T>(&self, id: SchemaId, hops: usize, find: &dyn Fn(&Check) -> Option<T>) -> Option<T> {
        let checks = &self.schema(id).checks;
        if hops == 0 {
            return None;
        }
        checks.iter().find_map(find).or_else(|| {
            checks.iter().find_map(|check| match check {
                Check::Ref(to) | Check::DynamicRef(to, _) => self.look(*to, hops - 1, find),
                Check::All(list) => list.iter().find_map(|to| self.look(*to, hops - 1, find)),
                _ => None,
            })
        })
    }
}
