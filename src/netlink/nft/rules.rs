//! Rules of other owners' tables, read as far as it takes to say what becomes of which packets.

use super::Family;
use super::connection::{GENERIC_LEN, Nft};
use super::decode::begin;
use super::uapi::{
    DATA_VALUE, DATA_VERDICT, EXPRESSION_DATA, EXPRESSION_NAME, GETRULE, RULE_CHAIN,
    RULE_EXPRESSIONS, TABLE, VERDICT_CODE,
};
use crate::error::Result;
use crate::message::{Attribute, Attributes, Message, NLM_F_DUMP};

/// `NFTA_CMP_OP` and the value of it that is "equal".
const COMPARE_OPERATION: u16 = 2;
const EQUAL: u32 = 0;
const COMPARE_DATA: u16 = 3;
const LOOKUP_SET: u16 = 1;
const IMMEDIATE_DATA: u16 = 2;
const TARGET_NAME: u16 = 1;

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// The chain that it is in.
    pub chain: String,
    /// What packets have to pass for the rule to apply to them.
    pub tests: Vec<Test>,
    /// What becomes of them.
    pub outcome: Outcome,
}

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// Something loaded before has these bytes.
    Equals(Vec<u8>),
    /// Something loaded before is in the set of this name.
    InSet(String),
    /// Any other condition, by the name of its expression.
    Other(String),
}

/// What a rule does with packets that it applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They pass.
    Accept,
    /// They are dropped or refused.
    Drop,
    /// Another chain decides.
    Jump,
    /// Nothing final: they are counted, logged, changed.
    None,
}

impl RuleInfo {
    /// Whether no packet gets past the rule.
    pub fn drops_all(&self) -> bool {
        self.tests.is_empty() && self.outcome == Outcome::Drop
    }
}

impl Nft {
    /// The rules of a table, chain by chain in their order.
    pub fn rules(&mut self, family: Family, table: &str) -> Result<Vec<RuleInfo>> {
        let build = |m: &mut Message, sequence| {
            let start = begin(m, GETRULE, NLM_F_DUMP, family as u8, sequence);
            m.put_str(TABLE, table);
            m.end(start);
        };
        self.socket.dump("list nf_tables rules", build, read_rule)
    }
}

fn read_rule(payload: &[u8]) -> Option<RuleInfo> {
    let attributes = Attributes(payload.get(GENERIC_LEN..)?);
    let chain = attributes.get(RULE_CHAIN)?.str()?.to_owned();
    let mut rule = RuleInfo { chain, tests: Vec::new(), outcome: Outcome::None };
    let expressions = attributes.get(RULE_EXPRESSIONS).map(|list| list.nested());
    for expression in expressions.into_iter().flatten() {
        rule.read(expression);
    }
    Some(rule)
}

impl RuleInfo {
    fn read(&mut self, expression: Attribute<'_>) {
        let expression = expression.nested();
        let Some(name) = expression.get(EXPRESSION_NAME).and_then(|name| name.str()) else {
            return;
        };
        let data = expression.get(EXPRESSION_DATA).map(|data| data.nested());
        let get = |kind| data.and_then(|data| data.get(kind));
        match name {
            // These load, note or change something, but let every packet go on.
            "payload" | "meta" | "ct" | "fib" | "socket" | "rt" | "bitwise" | "byteorder"
            | "counter" | "log" | "notrack" => {}
            "cmp" if get(COMPARE_OPERATION).and_then(|a| a.be32()) == Some(EQUAL) => {
                let value = get(COMPARE_DATA).and_then(|a| a.nested().get(DATA_VALUE));
                self.tests
                    .push(Test::Equals(value.map(|v| v.payload.to_vec()).unwrap_or_default()));
            }
            "lookup" => {
                let set = get(LOOKUP_SET).and_then(|a| a.str()).unwrap_or_default();
                self.tests.push(Test::InSet(set.to_owned()));
            }
            "immediate" => {
                let verdict = get(IMMEDIATE_DATA).and_then(|a| a.nested().get(DATA_VERDICT));
                let code = verdict.and_then(|v| v.nested().get(VERDICT_CODE)?.be32());
                self.outcome = match code.map(|code| code as i32) {
                    Some(0) => Outcome::Drop,
                    Some(1) => Outcome::Accept,
                    Some(-3 | -4) => Outcome::Jump,
                    _ => self.outcome,
                };
            }
            "reject" => self.outcome = Outcome::Drop,
            // A target of iptables.
            "target" => {
                if get(TARGET_NAME).and_then(|a| a.str()) == Some("REJECT") {
                    self.outcome = Outcome::Drop;
                }
            }
            other => self.tests.push(Test::Other(other.to_owned())),
        }
    }
}
