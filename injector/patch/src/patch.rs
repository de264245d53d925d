//! Writer of JSON patches whose operations never fail on the object they are written for.

use json_patch::{AddOperation, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Value, json};

use crate::Error;

/// Changes to an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Patch {
    /// Operations, in order.
    pub operations: Vec<PatchOperation>,
}

impl Patch {
    /// Returns true if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Applies the patch to the object it was written for.
    pub fn apply(&self, object: &mut Value) -> Result<(), Error> {
        json_patch::patch(object, &self.operations).map_err(|error| Error::Apply(error.to_string()))
    }
}

/// Writer of a patch for the pod at a path of an object.
pub(crate) struct Writer<'a> {
    object: &'a Value,
    prefix: &'a [&'a str],
    patch: Patch,
    /// Maps and lists that the patch has already added.
    made: Vec<Vec<&'a str>>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(object: &'a Value, prefix: &'a [&'a str]) -> Self {
        Self {
            object,
            prefix,
            patch: Patch::default(),
            made: vec![],
        }
    }

    /// Sets a key of the map at `path`; creates the map if it is missing.
    pub(crate) fn set(&mut self, path: &[&'a str], key: &str, value: impl Into<Value>) {
        for depth in 1..=path.len() {
            self.make(&path[..depth], json!({}));
        }
        self.add(path, key, value.into());
    }

    /// Appends to the list at `path`; creates the list if it is missing.
    pub(crate) fn append(&mut self, path: &[&'a str], value: Value) {
        self.make(path, json!([]));
        self.add(path, "-", value);
    }

    /// Inserts before the element `index` of the list at `path`; creates the list if it is missing.
    pub(crate) fn insert(&mut self, path: &[&'a str], index: usize, value: Value) {
        self.make(path, json!([]));
        self.add(path, &index.to_string(), value);
    }

    fn make(&mut self, path: &[&'a str], empty: Value) {
        let there = self
            .prefix
            .iter()
            .chain(path)
            .try_fold(self.object, |value, key| value.get(key));
        // Some tools write `null` for a missing field.
        if there.is_none_or(Value::is_null) && !self.made.iter().any(|made| made == path) {
            self.made.push(path.to_vec());
            if let Some((last, parents)) = path.split_last() {
                self.add(parents, last, empty);
            }
        }
    }

    fn add(&mut self, path: &[&str], key: &str, value: Value) {
        let tokens = self.prefix.iter().chain(path).copied().chain([key]);
        let path = PointerBuf::from_tokens(tokens);
        self.patch
            .operations
            .push(PatchOperation::Add(AddOperation { path, value }));
    }

    pub(crate) fn finish(self) -> Patch {
        self.patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_missing_and_null_fields_once() {
        let mut object = json!({"spec": {"volumes": null, "containers": [{"name": "a"}]}});
        let mut writer = Writer::new(&object, &[]);
        writer.set(&["metadata", "annotations"], "a/b~c", "1");
        writer.set(&["metadata", "annotations"], "d", "2");
        writer.append(&["spec", "volumes"], json!({"name": "v"}));
        writer.append(&["spec", "volumes"], json!({"name": "w"}));
        writer.insert(&["spec", "containers"], 0, json!({"name": "b"}));
        let patch = writer.finish();
        patch.apply(&mut object).expect("fits");
        let expected = json!({"metadata": {"annotations": {"a/b~c": "1", "d": "2"}},
            "spec": {"volumes": [{"name": "v"}, {"name": "w"}], "containers": [{"name": "b"}, {"name": "a"}]}});
        assert_eq!(object, expected);
    }
}
