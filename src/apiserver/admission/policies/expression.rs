//! Expressions of policies, and what they are given.

use std::{cell::Cell, rc::Rc};

use cel::{Env, Program, Type, Value, Variable};

use super::Head;
use crate::expressions::{
    compile,
    input::{Budget, Input, Spent, evaluate},
};

/// An expression, compiled or not.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) text: String,
    program: Result<Program, String>,
}

impl Expression {
    pub(super) fn new(env: &Env, text: &str, gives: &[Type]) -> Self {
        Self { text: text.to_owned(), program: compile(env, text, gives) }
    }
}

/// The variables of an input, with those of the policy.
pub(super) struct Given<'a> {
    variables: Vec<Variable<'a>>,
    cost: Rc<Cell<u64>>,
}

impl<'a> Given<'a> {
    pub(super) fn new(head: &'a Head, input: &Input<'a>) -> Self {
        let mut variables = input.variables();
        let cost = Rc::new(Cell::new(0));
        let composed = head.variables.over(variables.clone(), cost.clone());
        variables.push(("variables", composed));
        Self { variables, cost }
    }

    /// Evaluates an expression. The inner error is why it gave nothing.
    ///
    /// # Errors
    /// When the budget is spent.
    pub(super) fn evaluate(
        &self,
        of: &'a Expression,
        budget: &Budget,
    ) -> Result<Result<Value<'a>, String>, Spent> {
        let program = match &of.program {
            Ok(program) => program,
            Err(error) => return Ok(Err(format!("compilation error: {error}"))),
        };
        let outcome = evaluate(program, &of.text, &self.variables, budget)?;
        budget.spend(self.cost.take())?;
        Ok(outcome)
    }
}
