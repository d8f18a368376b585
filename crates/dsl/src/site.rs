//! A place in a document: the value there and the way to it, from which its JSON Pointer is written when it is needed.

use serde_json::Value;

/// A value and where it stands. Cheap: the pointer is only written for a fault or a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    /// What stands there.
    pub(crate) value: &'a Value,
    parent: Option<&'a Site<'a>>,
    token: Token<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Token<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Site<'a> {
    /// The whole document.
    pub(crate) fn root(value: &'a Value) -> Self {
        Self {
            value,
            parent: None,
            token: Token::Root,
        }
    }

    /// A property, where this is an object that has it.
    pub(crate) fn get(&'a self, key: &str) -> Option<Site<'a>> {
        let (key, value) = self.value.as_object()?.get_key_value(key)?;
        Some(Self {
            value,
            parent: Some(self),
            token: Token::Key(key),
        })
    }

    /// The properties, where this is an object.
    pub(crate) fn properties(&'a self) -> impl Iterator<Item = (&'a str, Site<'a>)> {
        self.value
            .as_object()
            .into_iter()
            .flatten()
            .map(move |(key, value)| {
                (
                    key.as_str(),
                    Self {
                        value,
                        parent: Some(self),
                        token: Token::Key(key),
                    },
                )
            })
    }

    /// The elements, where this is an array.
    pub(crate) fn elements(&'a self) -> impl Iterator<Item = Site<'a>> {
        let elements = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        elements.iter().enumerate().map(move |(index, value)| Self {
            value,
            parent: Some(self),
            token: Token::Index(index),
        })
    }

    /// RFC 6901, into the document as it was given.
    pub(crate) fn pointer(&self) -> String {
        let mut way = Vec::new();
        let mut here = Some(self);
        while let Some(site) = here {
            way.push(site.token);
            here = site.parent;
        }
        way.iter().rev().fold(String::new(), |mut pointer, token| {
            match token {
                Token::Root => {}
                Token::Key(key) => {
                    pointer.push('/');
                    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                }
                Token::Index(index) => {
                    pointer.push('/');
                    pointer.push_str(&index.to_string());
                }
            }
            pointer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_escaped_and_resolves() {
        let document = serde_json::json!({"a/b": [{"~": 1}]});
        let root = Site::root(&document);
        let list = root.get("a/b").unwrap();
        let item = list.elements().next().unwrap();
        let leaf = item.get("~").unwrap();
        assert_eq!(leaf.pointer(), "/a~1b/0/~0");
        assert_eq!(document.pointer(&leaf.pointer()), Some(leaf.value));
        assert_eq!(root.pointer(), "");
    }
}
