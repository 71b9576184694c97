//! Which types fit which, and what that says about those still unknown. The rules are cel-go's.

use std::sync::Arc;

use crate::types::Type;

/// What is known about the unknown types of one expression.
#[derive(Default)]
pub(crate) struct Bindings {
    bound: Vec<Option<Type>>,
    /// What was bound before, to go back.
    trail: Vec<(u32, Option<Type>)>,
}

/// Deepest type that is looked into.
const DEEPEST: usize = 64;

impl Bindings {
    /// A new unknown.
    pub(crate) fn fresh(&mut self) -> Type {
        self.bound.push(None);
        Type::Param(u32::try_from(self.bound.len() - 1).unwrap_or(u32::MAX))
    }

    fn find(&self, number: u32) -> Option<&Type> {
        self.bound.get(number as usize)?.as_ref()
    }

    fn bind(&mut self, number: u32, to: Type) {
        if let Some(slot) = self.bound.get_mut(number as usize) {
            self.trail.push((number, slot.replace(to)));
        }
    }

    /// Whether things of these types go where those are wanted. What was unknown is then known.
    pub(crate) fn all_fit(&mut self, given: &[Type], wanted: &[Type]) -> bool {
        self.trail.clear();
        let fits = given.len() == wanted.len()
            && given.iter().zip(wanted).all(|(one, another)| self.try_fit(one, another, 0));
        if !fits {
            while let Some((number, before)) = self.trail.pop() {
                if let Some(slot) = self.bound.get_mut(number as usize) {
                    *slot = before;
                }
            }
        }
        fits
    }

    /// The same for one.
    pub(crate) fn fits(&mut self, given: &Type, wanted: &Type) -> bool {
        self.all_fit(std::slice::from_ref(given), std::slice::from_ref(wanted))
    }

    fn try_fit(&mut self, given: &Type, wanted: &Type, depth: usize) -> bool {
        if depth > DEEPEST {
            return false;
        }
        if let Type::Param(number) = wanted {
            let (fits, known) = self.stands_for(given, *number, depth);
            if fits || known {
                return fits;
            }
        }
        if let Type::Param(number) = given {
            return self.stands_for(wanted, *number, depth).0;
        }
        if given.is_dyn_or_error() || wanted.is_dyn_or_error() {
            return true;
        }
        if matches!(given, Type::Null) {
            return nullable(wanted);
        }
        if matches!(wanted, Type::Null) {
            return nullable(given);
        }
        if let (Some(one), Some(another)) = (given.element(), wanted.element()) {
            return self.try_fit(one, another, depth + 1);
        }
        match (given, wanted) {
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Map(one), Type::Map(another)) => {
                self.try_fit(&one.0, &another.0, depth + 1)
                    && self.try_fit(&one.1, &another.1, depth + 1)
            }
            (Type::Optional(one), Type::Optional(another)) => self.try_fit(one, another, depth + 1),
            _ => given == wanted,
        }
    }

    /// Whether the unknown `number` may be `other`, and whether something is known of it.
    fn stands_for(&mut self, other: &Type, number: u32, depth: usize) -> (bool, bool) {
        if matches!(other, Type::Param(same) if *same == number) {
            return (true, true);
        }
        if let Some(known) = self.find(number).cloned() {
            if *other == known {
                return (true, true);
            }
            if self.try_fit(other, &known, depth + 1) {
                let general = most_general(other, &known);
                if !self.occurs(number, &general, 0) {
                    self.bind(number, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.occurs(number, other, 0) {
            return (false, false);
        }
        self.bind(number, other.clone());
        (true, false)
    }

    fn occurs(&self, number: u32, within: &Type, depth: usize) -> bool {
        if depth > DEEPEST {
            return true;
        }
        match within {
            Type::Param(other) if *other == number => true,
            Type::Param(other) => {
                self.find(*other).is_some_and(|known| self.occurs(number, known, depth + 1))
            }
            Type::List(of) | Type::Set(of) | Type::Keyed(of, _) | Type::Optional(of) => {
                self.occurs(number, of, depth + 1)
            }
            Type::Map(of) => {
                self.occurs(number, &of.0, depth + 1) || self.occurs(number, &of.1, depth + 1)
            }
            Type::Type(Some(of)) => self.occurs(number, of, depth + 1),
            _ => false,
        }
    }

    /// The type with what is known put in. What is not becomes `dyn` where `finish` says so.
    pub(crate) fn resolve(&self, of: &Type, finish: bool) -> Type {
        self.resolve_at(of, finish, 0)
    }

    fn resolve_at(&self, of: &Type, finish: bool, depth: usize) -> Type {
        if depth > DEEPEST {
            return Type::Dyn;
        }
        let inner = |of: &Type| Arc::new(self.resolve_at(of, finish, depth + 1));
        match of {
            Type::Param(number) => match self.find(*number) {
                Some(known) => self.resolve_at(known, finish, depth + 1),
                None if finish => Type::Dyn,
                None => of.clone(),
            },
            Type::List(it) => Type::List(inner(it)),
            Type::Optional(it) => Type::Optional(inner(it)),
            Type::Type(Some(it)) => Type::Type(Some(inner(it))),
            Type::Map(it) => Type::map(
                self.resolve_at(&it.0, finish, depth + 1),
                self.resolve_at(&it.1, finish, depth + 1),
            ),
            _ => of.clone(),
        }
    }
}

fn nullable(of: &Type) -> bool {
    matches!(
        of,
        Type::Null
            | Type::Dyn
            | Type::Error
            | Type::Object(_)
            | Type::Optional(_)
            | Type::Opaque(_)
            | Type::Duration
            | Type::Timestamp
    )
}

/// The more general of two types that fit each other.
pub(crate) fn most_general(one: &Type, another: &Type) -> Type {
    if less_specific(one, another) { one.clone() } else { another.clone() }
}

fn less_specific(one: &Type, another: &Type) -> bool {
    if one.is_dyn() || matches!(one, Type::Param(_)) {
        return true;
    }
    if another.is_dyn() || matches!(another, Type::Param(_)) {
        return false;
    }
    if let (Some(one), Some(another)) = (one.element(), another.element()) {
        return less_specific(one, another);
    }
    match (one, another) {
        (Type::Map(one), Type::Map(another)) => {
            less_specific(&one.0, &another.0) && less_specific(&one.1, &another.1)
        }
        (Type::Optional(one), Type::Optional(another)) => less_specific(one, another),
        (Type::Type(_), Type::Type(_)) => true,
        _ => one == another,
    }
}
