//! The second round of mutating admission (KEP-492): where a webhook or a policy has changed the
//! object, all plugins see it once more, so that defaults reach what was added. Webhooks and policies
//! are asked again only if they wish so and something was changed after them.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

/// What the rounds of one request have to know. Shared by the plugins, which run one at a time.
#[derive(Default)]
pub(super) struct Rounds {
    second: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether somebody changed the object.
    wanted: bool,
    webhooks: Asked,
    policies: Asked,
}

/// What is known of the webhooks, or of the policies.
#[derive(Default)]
struct Asked {
    /// The object as the last of them left it.
    left_as: Value,
    /// Who was asked and would like to be asked again after a change.
    before: HashSet<String>,
    /// Who is to be asked again.
    due: HashSet<String>,
}

/// Whose turns are counted: each sort heeds what its own members change. What the other sort and
/// the plugins change it sees at the beginning of the second round.
#[derive(Clone, Copy)]
pub(super) enum Sort {
    Webhooks,
    Policies,
}

impl Rounds {
    /// The second round, if anything calls for one.
    pub(super) fn next(self) -> Option<Self> {
        let wanted = !self.second && self.state().wanted;
        wanted.then(|| Self { second: true, ..self })
    }

    /// The members of a sort begin with this object.
    pub(super) fn begin(&self, sort: Sort, object: &Value) {
        let mut state = self.state();
        let asked = state.of(sort);
        if self.second && asked.left_as != *object {
            asked.require_all();
        }
    }

    /// The members of a sort are done, and leave the object so.
    pub(super) fn end(&self, sort: Sort, object: &Value) {
        // Nobody will look after the second round.
        if !self.second {
            self.state().of(sort).left_as = object.clone();
        }
    }

    /// Whether a member is asked in this round. Nobody is asked for the first time in the second.
    pub(super) fn asks(&self, sort: Sort, member: &str) -> bool {
        !self.second || self.state().of(sort).due.contains(member)
    }

    /// A member has changed the object.
    pub(super) fn changed(&self, sort: Sort) {
        let mut state = self.state();
        state.wanted = true;
        state.of(sort).require_all();
    }

    /// A member that would like to be asked again has been asked.
    pub(super) fn asked(&self, sort: Sort, member: String) {
        self.state().of(sort).before.insert(member);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, sort: Sort) -> &mut Asked {
        match sort {
            Sort::Webhooks => &mut self.webhooks,
            Sort::Policies => &mut self.policies,
        }
    }
}

impl Asked {
    fn require_all(&mut self) {
        self.due.extend(self.before.drain());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_brings_a_second_round_to_those_before_it() {
        let rounds = Rounds::default();
        assert!(rounds.asks(Sort::Webhooks, "a") && rounds.asks(Sort::Webhooks, "b"));
        rounds.asked(Sort::Webhooks, "a".to_owned());
        rounds.changed(Sort::Webhooks);
        rounds.asked(Sort::Webhooks, "b".to_owned());
        rounds.end(Sort::Webhooks, &json!(1));
        let second = rounds.next().unwrap();
        second.begin(Sort::Webhooks, &json!(1));
        assert!(second.asks(Sort::Webhooks, "a"), "changed after it was asked");
        assert!(!second.asks(Sort::Webhooks, "b"), "it made the change itself");
        assert!(!second.asks(Sort::Webhooks, "c"), "not asked in the first round");
        second.changed(Sort::Webhooks);
        assert!(second.next().is_none());
    }

    #[test]
    fn what_others_change_is_seen_at_the_beginning() {
        let rounds = Rounds::default();
        rounds.asked(Sort::Policies, "p".to_owned());
        rounds.end(Sort::Policies, &json!(1));
        rounds.changed(Sort::Webhooks);
        let second = rounds.next().unwrap();
        assert!(!second.asks(Sort::Policies, "p"));
        second.begin(Sort::Policies, &json!(2));
        assert!(second.asks(Sort::Policies, "p"));
        assert!(Rounds::default().next().is_none(), "nothing was changed");
    }
}
