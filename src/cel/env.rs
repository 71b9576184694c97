//! What expressions may use, and expressions that are ready to be evaluated.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use regex::Regex;

use crate::{
    ast::Expr,
    check::Checker,
    issue::Issues,
    library::regexes,
    parser,
    types::{ObjectType, Type},
    validators,
};

/// Finds the object type of a name, for expressions that make objects.
pub type Structs = Arc<dyn Fn(&str) -> Option<Arc<dyn ObjectType>> + Send + Sync>;

/// The variables that expressions may use, and the objects that they may make.
#[derive(Clone, Default)]
pub struct Env {
    variables: BTreeMap<String, Type>,
    structs: Option<Structs>,
}

impl fmt::Debug for Env {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Env").field("variables", &self.variables).finish_non_exhaustive()
    }
}

impl Env {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a variable more.
    #[must_use]
    pub fn with(mut self, name: &str, of: Type) -> Self {
        self.variables.insert(name.to_owned(), of);
        self
    }

    /// The same with objects that expressions may make.
    #[must_use]
    pub fn with_structs(mut self, structs: Structs) -> Self {
        self.structs = Some(structs);
        self
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Type> {
        self.variables.get(name)
    }

    pub(crate) fn object(&self, name: &str) -> Option<Arc<dyn ObjectType>> {
        self.structs.as_ref().and_then(|find| find(name))
    }

    /// Reads an expression and checks its types.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let mut issues = Issues::new(source);
        let Some(mut root) = parser::parse(source, &mut issues) else { return Err(issues) };
        let result = Checker::new(self, &mut issues).whole(&mut root);
        if issues.is_empty() {
            validators::check(&root, &mut issues);
        }
        if !issues.is_empty() {
            return Err(issues);
        }
        let mut patterns = HashMap::new();
        for text in validators::patterns(&root) {
            if let Ok(regex) = regexes::compile(text) {
                patterns.insert(text.to_owned(), regex);
            }
        }
        let structs = self.structs.clone();
        Ok(Program { root, result, regexes: patterns, structs })
    }
}

/// An expression that is ready to be evaluated.
pub struct Program {
    pub(crate) root: Expr,
    pub(crate) regexes: HashMap<String, Regex>,
    pub(crate) structs: Option<Structs>,
    result: Type,
}

impl fmt::Debug for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Program -> {}", self.result)
    }
}

impl Program {
    /// The type of what it gives.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// How deep the evaluation goes at most.
    pub fn depth(&self) -> usize {
        self.root.depth
    }

    /// Whether the variable `name` is used, by name alone: one bound inside may be another.
    pub fn uses(&self, name: &str) -> bool {
        let mut found = false;
        self.root.walk(&mut |expr| {
            found |= matches!(&expr.kind, crate::ast::Kind::Ident(it) if it == name);
        });
        found
    }
}
