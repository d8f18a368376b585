//! Operators, pipes and choices.

use jaq_core::{
    load::{
        lex::StrPart,
        parse::{BinaryOp, Pattern, Term},
    },
    ops::{Cmp, Math},
};

use super::{Admission, Node, is_number};
use crate::expression::{
    bounds::{Bounded, Bounds, balanced, join, piped},
    refused,
};

impl<'s> Admission<'s, '_> {
    /// `a + b` and the like.
    pub(super) fn operation(
        &mut self,
        left: Node<'s>,
        operator: BinaryOp<&'s str>,
        right: Node<'s>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        let native = match &operator {
            BinaryOp::Pipe(None) => return self.pipe(left, right, at_dot, nesting),
            BinaryOp::Pipe(Some(_)) => return self.binding(left, operator, right, at_dot, nesting),
            BinaryOp::Comma => return self.comma(left, right, at_dot, nesting),
            BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                return Err(refused::ASSIGNMENT.into());
            }
            BinaryOp::Alt | BinaryOp::Or | BinaryOp::And => None,
            BinaryOp::Cmp(_) if is_short_scalar(&left) || is_short_scalar(&right) => None,
            BinaryOp::Math(Math::Add | Math::Sub) if is_number(&left) || is_number(&right) => None,
            BinaryOp::Cmp(comparison) => Some(native_of_comparison(*comparison)),
            BinaryOp::Math(operation) => Some(native_of_operation(*operation)),
        };
        let left = self.term(left, at_dot, nesting)?;
        let right = self.term(right, at_dot, nesting)?;
        Ok(match native {
            Some(native) => self.native(native, [left, right]),
            None => join(left, operator, right),
        })
    }

    /// `a | b | c`, as a balanced tree: jaq would recurse once per bar.
    fn pipe(
        &mut self,
        first: Node<'s>,
        rest: Node<'s>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        let mut stages = vec![self.term(first, at_dot, nesting)?];
        let mut rest = rest;
        loop {
            match rest {
                Term::BinOp(next, BinaryOp::Pipe(None), others) => {
                    stages.push(self.term(*next, false, nesting)?);
                    rest = *others;
                }
                last => {
                    stages.push(self.term(last, false, nesting)?);
                    return Ok(balanced(stages, &mut piped));
                }
            }
        }
    }

    /// `a, b, c`, as a balanced tree.
    fn comma(
        &mut self,
        rest: Node<'s>,
        last: Node<'s>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        let mut outputs = vec![last];
        let mut rest = rest;
        loop {
            match rest {
                Term::BinOp(others, BinaryOp::Comma, next) => {
                    outputs.push(*next);
                    rest = *others;
                }
                first => {
                    outputs.push(first);
                    break;
                }
            }
        }
        let outputs = outputs
            .into_iter()
            .rev()
            .map(|output| self.term(output, at_dot, nesting));
        let outputs = outputs.collect::<Result<_, _>>()?;
        Ok(balanced(outputs, &mut |one, two| {
            join(one, BinaryOp::Comma, two)
        }))
    }

    /// `a as $x | b`
    fn binding(
        &mut self,
        value: Node<'s>,
        operator: BinaryOp<&'s str>,
        body: Node<'s>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        let BinaryOp::Pipe(Some(Pattern::Var(name))) = operator else {
            return Err(refused::PATTERN.into());
        };
        let value = self.term(value, at_dot, nesting)?;
        self.locals.push(name);
        let body = self.term(body, at_dot, nesting);
        self.locals.pop();
        let body = body?;
        // What is bound may come back inside of what the body builds.
        let levels = value.bounds.levels + body.bounds.levels;
        let mut bound = join(value, operator, body);
        bound.bounds.levels = levels;
        Ok(bound)
    }

    /// `if a then b elif c then d else e end`
    pub(super) fn choice(
        &mut self,
        branches: Vec<(Node<'s>, Node<'s>)>,
        otherwise: Option<Box<Node<'s>>>,
        at_dot: bool,
        nesting: usize,
    ) -> Result<Bounded<'s>, String> {
        let mut all = vec![];
        let mut admitted = vec![];
        for (condition, then) in branches {
            let condition = self.term(condition, at_dot, nesting)?;
            let then = self.term(then, at_dot, nesting)?;
            all.extend([condition.bounds, then.bounds]);
            admitted.push((condition.term, then.term));
        }
        // jaq nests each `elif` in the `else` before it.
        let mut bounds = Bounds::around(all);
        bounds.depth += admitted.len();
        let otherwise = if let Some(otherwise) = otherwise {
            let otherwise = self.term(*otherwise, at_dot, nesting)?;
            bounds = Bounds::around([bounds, otherwise.bounds]);
            Some(Box::new(otherwise.term))
        } else {
            self.read_dot(at_dot);
            None
        };
        Ok(Bounded {
            term: Term::IfThenElse(admitted, otherwise),
            bounds,
        })
    }
}

/// A literal next to which any value is compared in constant time.
fn is_short_scalar(term: &Node<'_>) -> bool {
    match term {
        Term::Str(None, parts) => matches!(parts.as_slice(), [] | [StrPart::Str(_)]),
        Term::Call(name, arguments) => {
            arguments.is_empty() && ["true", "false", "null"].contains(name)
        }
        term => is_number(term),
    }
}

fn native_of_comparison(comparison: Cmp) -> &'static str {
    match comparison {
        Cmp::Eq => "_eq",
        Cmp::Ne => "_ne",
        Cmp::Lt => "_lt",
        Cmp::Le => "_le",
        Cmp::Gt => "_gt",
        Cmp::Ge => "_ge",
    }
}

fn native_of_operation(operation: Math) -> &'static str {
    match operation {
        Math::Add => "_add",
        Math::Sub => "_sub",
        Math::Mul => "_mul",
        Math::Div => "_div",
        Math::Rem => "_rem",
    }
}
