//! Sets of field paths, as a tree whose nodes are sorted.

use super::element::PathElement;

/// A set of field paths. A path's membership says nothing about the paths above or below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Sorted by element; every node is a member or has members below it.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) element: PathElement,
    pub(super) member: bool,
    pub(super) below: Set,
}

impl Set {
    /// The set of these paths of field names: `[&["status"], &["metadata", "labels"]]`.
    pub fn of_fields<'a>(paths: impl IntoIterator<Item = &'a [&'a str]>) -> Self {
        let mut set = Set::default();
        for path in paths {
            set.insert(path.iter().map(|name| PathElement::Field((*name).into())));
        }
        set
    }

    /// Adds a path; the empty path, the whole object, is never a member.
    pub fn insert(&mut self, path: impl IntoIterator<Item = PathElement>) {
        let mut path = path.into_iter().peekable();
        let mut set = self;
        while let Some(element) = path.next() {
            let at = match set.nodes.binary_search_by(|n| n.element.cmp(&element)) {
                Ok(at) => at,
                Err(at) => {
                    set.nodes.insert(at, Node { element, member: false, below: Set::default() });
                    at
                }
            };
            if path.peek().is_none() {
                set.nodes[at].member = true;
                return;
            }
            set = &mut set.nodes[at].below;
        }
    }

    /// Whether the path of field names is a member.
    pub fn has_fields(&self, path: &[&str]) -> bool {
        let mut set = self;
        for (i, name) in path.iter().enumerate() {
            let Some(node) = set.field(name) else { return false };
            if i + 1 == path.len() {
                return node.member;
            }
            set = &node.below;
        }
        false
    }

    /// Whether the path is a member.
    pub fn has(&self, path: &[PathElement]) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let mut set = self;
        for element in parents {
            match set.get(element) {
                Some(node) => set = &node.below,
                None => return false,
            }
        }
        set.get(last).is_some_and(|node| node.member)
    }

    /// Whether it has no members.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|n| usize::from(n.member) + n.below.len()).sum()
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn nodes_mut(&mut self) -> &mut Vec<Node> {
        &mut self.nodes
    }

    pub(super) fn get(&self, element: &PathElement) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|n| n.element.cmp(element)).ok()?;
        Some(&self.nodes[at])
    }

    /// The node of a field, without making an element to look it up by.
    pub(super) fn field(&self, name: &str) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|n| match &n.element {
            PathElement::Field(field) => (**field).cmp(name),
            _ => std::cmp::Ordering::Greater,
        });
        at.ok().map(|at| &self.nodes[at])
    }

    /// Adds a node behind all others, which has to be its place; nothing where it would be empty.
    pub(super) fn push(&mut self, element: PathElement, member: bool, below: Set) {
        if member || !below.is_empty() {
            debug_assert!(self.nodes.last().is_none_or(|last| last.element < element));
            self.nodes.push(Node { element, member, below });
        }
    }

    /// A set of nodes in any order; nodes of the same element become one.
    pub(super) fn from_nodes(mut nodes: Vec<Node>) -> Self {
        if !nodes.is_sorted_by(|a, b| a.element < b.element) {
            nodes.sort_by(|a, b| a.element.cmp(&b.element));
            nodes.dedup_by(|next, kept| {
                let same = next.element == kept.element;
                if same {
                    kept.member |= next.member;
                    kept.below.union(std::mem::take(&mut next.below));
                }
                same
            });
        }
        Set { nodes }
    }

    /// Adds all members of the other set.
    pub fn union(&mut self, other: Set) {
        if self.is_empty() {
            *self = other;
            return;
        }
        if other.is_empty() {
            return;
        }
        let mut merged = Vec::with_capacity(self.nodes.len() + other.nodes.len());
        let mut theirs = other.nodes.into_iter().peekable();
        for mut node in std::mem::take(&mut self.nodes) {
            while let Some(next) = theirs.next_if(|n| n.element < node.element) {
                merged.push(next);
            }
            if let Some(same) = theirs.next_if(|n| n.element == node.element) {
                node.member |= same.member;
                node.below.union(same.below);
            }
            merged.push(node);
        }
        merged.extend(theirs);
        self.nodes = merged;
    }

    /// The members that both sets have.
    #[must_use]
    pub fn intersection(&self, other: &Set) -> Set {
        let mut both = Set::default();
        for (a, b) in pairs(self, other) {
            both.push(a.element.clone(), a.member && b.member, a.below.intersection(&b.below));
        }
        both
    }

    /// Whether both sets have a member in common.
    pub fn intersects(&self, other: &Set) -> bool {
        pairs(self, other).any(|(a, b)| a.member && b.member || a.below.intersects(&b.below))
    }

    /// Whether the other set has all members of this one.
    pub fn is_subset(&self, other: &Set) -> bool {
        let mut at = 0;
        self.nodes.iter().all(|node| {
            seek(other, &mut at, &node.element).is_some_and(|theirs| {
                (theirs.member || !node.member) && node.below.is_subset(&theirs.below)
            })
        })
    }

    /// Removes the members of the other set; what is below them stays.
    pub fn subtract(&mut self, other: &Set) {
        let mut at = 0;
        self.nodes.retain_mut(|node| {
            if let Some(theirs) = seek(other, &mut at, &node.element) {
                node.member &= !theirs.member;
                node.below.subtract(&theirs.below);
            }
            node.member || !node.below.is_empty()
        });
    }

    /// Removes the members of the other set and all that is below them.
    pub fn subtract_with_children(&mut self, other: &Set) {
        let mut at = 0;
        self.nodes.retain_mut(|node| {
            if let Some(theirs) = seek(other, &mut at, &node.element) {
                if theirs.member {
                    return false;
                }
                node.below.subtract_with_children(&theirs.below);
            }
            node.member || !node.below.is_empty()
        });
    }

    /// The members that have no members below them.
    #[must_use]
    pub fn leaves(&self) -> Set {
        let mut leaves = Set::default();
        for node in &self.nodes {
            let member = node.member && node.below.is_empty();
            leaves.push(node.element.clone(), member, node.below.leaves());
        }
        leaves
    }

    /// All paths: at each level the members first, then what is below each.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        fn visit(set: &Set, path: &mut Vec<PathElement>, paths: &mut Vec<Vec<PathElement>>) {
            for node in set.nodes.iter().filter(|n| n.member) {
                paths.push(path.iter().chain([&node.element]).cloned().collect());
            }
            for node in set.nodes.iter().filter(|n| !n.below.is_empty()) {
                path.push(node.element.clone());
                visit(&node.below, path, paths);
                path.pop();
            }
        }
        let mut paths = Vec::new();
        visit(self, &mut Vec::new(), &mut paths);
        paths
    }
}

/// A path as messages show it: `.spec.containers[name="a"].image`.
pub fn path_text(path: &[PathElement]) -> String {
    path.iter().map(PathElement::to_string).collect()
}

/// The nodes that both sets have. Where one set is much smaller it leads and the other is
/// searched: comparisons of an update touch few of the many fields a manager owns.
fn pairs<'a>(a: &'a Set, b: &'a Set) -> impl Iterator<Item = (&'a Node, &'a Node)> {
    let swap = a.nodes.len() > b.nodes.len();
    let (small, large) = if swap { (b, a) } else { (a, b) };
    let found = small.nodes.iter().filter_map(|node| Some((node, large.get(&node.element)?)));
    found.map(move |(s, l)| if swap { (l, s) } else { (s, l) })
}

/// The node of the element in a set that is passed through in order.
fn seek<'a>(set: &'a Set, at: &mut usize, element: &PathElement) -> Option<&'a Node> {
    while let Some(node) = set.nodes.get(*at) {
        match node.element.cmp(element) {
            std::cmp::Ordering::Less => *at += 1,
            std::cmp::Ordering::Equal => return Some(node),
            std::cmp::Ordering::Greater => return None,
        }
    }
    None
}
