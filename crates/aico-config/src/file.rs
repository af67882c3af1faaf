//! Reads the YAML file into dotted keys, each with its line.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::error::ConfigError;

/// Bytes that a configuration file may have: far above any real one, and little to parse.
const LIMIT: u64 = 256 * 1024;

/// A scalar or list at the end of a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Leaf {
    Null,
    Bool,
    Integer(i128),
    Float,
    Text(String),
    List(Vec<Leaf>),
    /// A mapping inside a list.
    Mapping,
}

/// One setting of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Setting {
    pub(crate) key: String,
    pub(crate) line: u64,
    pub(crate) leaf: Leaf,
}

/// Reads and flattens `path`.
pub(crate) fn read(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let fail = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let length = fs::metadata(path).map_err(fail)?.len();
    if length > LIMIT {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
            limit: LIMIT,
        });
    }
    parse(path, &fs::read_to_string(path).map_err(fail)?)
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<Setting>, ConfigError> {
    let syntax = |line, reason: String| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        reason,
    };
    let root: Spanned<Node> = serde_saphyr::from_str(text).map_err(|error| {
        // The parser's message may be rendered with a piece of the file: take its first line only.
        let plain = error.without_snippet().to_string();
        let reason = plain.lines().next().unwrap_or_default().to_owned();
        syntax(error.location().map(|l| l.line()), reason)
    })?;
    let mut settings = Vec::new();
    match root.value {
        Node::Leaf(Leaf::Null) => {}
        node @ Node::Map(_) => flatten("", root.referenced.line(), node, &mut settings),
        Node::Leaf(_) => {
            let reason = "the file has to be a list of sections, such as `gateway:`".to_owned();
            return Err(syntax(Some(root.referenced.line()), reason));
        }
    }
    Ok(settings)
}

fn flatten(prefix: &str, line: u64, node: Node, out: &mut Vec<Setting>) {
    match node {
        Node::Leaf(leaf) => out.push(Setting {
            key: prefix.to_owned(),
            line,
            leaf,
        }),
        Node::Map(entries) => {
            for (key, value) in entries {
                let name = match prefix {
                    "" => key.value,
                    _ => format!("{prefix}.{}", key.value),
                };
                flatten(&name, key.referenced.line(), value, out);
            }
        }
    }
}

enum Node {
    Leaf(Leaf),
    Map(Vec<(Spanned<String>, Node)>),
}

impl Node {
    fn into_leaf(self) -> Leaf {
        match self {
            Self::Leaf(leaf) => leaf,
            Self::Map(_) => Leaf::Mapping,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section, a list or a value")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Bool))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Integer(number.into())))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Integer(number.into())))
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Integer(number)))
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Integer(
            i128::try_from(number).unwrap_or(i128::MAX),
        )))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Float))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Text(text.to_owned())))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Leaf::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Node>()? {
            items.push(item.into_leaf());
        }
        Ok(Node::Leaf(Leaf::List(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            entries.push((key, map.next_value::<Node>()?));
        }
        Ok(Node::Map(entries))
    }
}
