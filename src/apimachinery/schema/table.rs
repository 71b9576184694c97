//! The text of `embedded/schema/types.txt`, taken apart: its first lines say how it is written.

use std::collections::HashMap;

use super::graph::NodeId;

/// One type of the table, as written there.
pub(super) enum Declaration<'a> {
    Struct { facts: &'a str, lines: Vec<&'a str>, line: u16, node: NodeId },
    Text { values: &'a str },
    Alias { target: &'a str, message: bool },
    Opaque { line: u16 },
}

#[derive(Default)]
pub(super) struct Declarations<'a> {
    pub(super) types: HashMap<&'a str, Declaration<'a>>,
    packages: HashMap<&'a str, &'a str>,
    /// The structs in the order of the table.
    pub(super) structs: Vec<&'a str>,
}

impl<'a> Declarations<'a> {
    pub(super) fn read(text: &'a str) -> Self {
        let mut all = Declarations::default();
        // The number of the line in the table of descriptions, which has only types and fields.
        let mut described = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(member) = line.strip_prefix(' ') {
                described += u16::from(!member.starts_with('+'));
                let open = all.structs.last().and_then(|name| all.types.get_mut(name));
                if let Some(Declaration::Struct { lines, .. }) = open {
                    lines.push(member);
                }
                continue;
            }
            let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
            let (name, facts) = rest.split_once(' ').unwrap_or((rest, ""));
            let declaration = match keyword {
                "package" => {
                    all.packages.insert(name, facts);
                    continue;
                }
                "string" => Declaration::Text { values: facts },
                "alias" => {
                    let (target, message) = facts.split_once(' ').unwrap_or((facts, ""));
                    Declaration::Alias { target, message: message == "message" }
                }
                "opaque" => Declaration::Opaque { line: described },
                _ => {
                    let node = all.structs.len() as NodeId;
                    all.structs.push(name);
                    Declaration::Struct { facts, lines: Vec::new(), line: described, node }
                }
            };
            described += u16::from(matches!(keyword, "type" | "opaque"));
            all.types.insert(name, declaration);
        }
        all
    }

    pub(super) fn type_name(&self, name: &str) -> Option<Box<str>> {
        let (package, base) = name.rsplit_once('.')?;
        Some(format!("{}.{base}", self.packages.get(package)?).into())
    }

    /// The fields of a struct with those of its inlined structs: line, description line, depth.
    pub(super) fn members(&self, name: &str, depth: usize, out: &mut Vec<(&'a str, u16, usize)>) {
        if let Some(Declaration::Struct { lines, line, .. }) = self.types.get(name) {
            let mut description = *line;
            for member in lines {
                match member.strip_prefix("+ ").and_then(|inlined| inlined.split_once(' ')) {
                    Some((_, inlined)) => self.members(inlined, depth + 1, out),
                    None => {
                        description += 1;
                        out.push((member, description, depth));
                    }
                }
            }
        }
    }

    pub(super) fn inlined_path(&self, name: &str, field: &str, path: &mut Vec<String>) -> bool {
        let Some(Declaration::Struct { lines, .. }) = self.types.get(name) else { return false };
        if lines.iter().any(|line| line.split(' ').next() == Some(field)) {
            return true;
        }
        lines.iter().any(|line| {
            let Some((_, inlined)) = line.strip_prefix("+ ").and_then(|l| l.split_once(' ')) else {
                return false;
            };
            path.push(inlined.rsplit('.').next().unwrap_or(inlined).to_owned());
            let found = self.inlined_path(inlined, field, path);
            if !found {
                path.pop();
            }
            found
        })
    }
}
