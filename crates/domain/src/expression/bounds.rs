//! Terms with their bounds, and how terms are joined.

use jaq_core::load::parse::{BinaryOp, Term};

/// How deep the terms of a program may nest, definitions included: jaq recurses on them when it runs, with up to
/// 10 KiB of stack each in a debug build.
pub const TERM_DEPTH_MAX: usize = 128;
/// By how many levels an output may nest deeper than the deepest input: values are dropped, compared and written
/// recursively.
pub const LEVELS_MAX: usize = 64;

type Node<'s> = Term<&'s str>;

/// A term with its bounds.
pub(super) struct Bounded<'s> {
    pub(super) term: Node<'s>,
    pub(super) bounds: Bounds,
}

/// How deep a term recurses when it runs, and by how many levels its output may nest deeper than its input.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bounds {
    pub(super) depth: usize,
    pub(super) levels: usize,
}

impl Bounds {
    /// Of a term around others of which each may be what it yields.
    pub(super) fn around(parts: impl IntoIterator<Item = Self>) -> Self {
        let widest = parts.into_iter().fold(Self::default(), |one, two| Self {
            depth: one.depth.max(two.depth),
            levels: one.levels.max(two.levels),
        });
        Self {
            depth: widest.depth + 1,
            ..widest
        }
    }

    pub(super) fn with_levels(self, levels: usize) -> Self {
        Self {
            levels: self.levels + levels,
            ..self
        }
    }
}

impl<'s> Bounded<'s> {
    pub(super) fn wrap(self, around: impl FnOnce(Box<Node<'s>>) -> Node<'s>) -> Self {
        Self {
            term: around(Box::new(self.term)),
            bounds: Bounds::around([self.bounds]),
        }
    }

    pub(super) fn deeper(self, levels: usize) -> Self {
        Self {
            bounds: self.bounds.with_levels(levels),
            ..self
        }
    }
}

pub(super) fn leaf(term: Node<'_>) -> Bounded<'_> {
    Bounded {
        term,
        bounds: Bounds {
            depth: 1,
            levels: 0,
        },
    }
}

pub(super) fn join<'s>(
    left: Bounded<'s>,
    operator: BinaryOp<&'s str>,
    right: Bounded<'s>,
) -> Bounded<'s> {
    Bounded {
        bounds: Bounds::around([left.bounds, right.bounds]),
        term: Term::BinOp(Box::new(left.term), operator, Box::new(right.term)),
    }
}

/// What the right side builds is around what the left side built.
pub(super) fn piped<'s>(left: Bounded<'s>, right: Bounded<'s>) -> Bounded<'s> {
    if let Term::Id = left.term {
        return right;
    }
    let levels = left.bounds.levels + right.bounds.levels;
    let mut pipe = join(left, BinaryOp::Pipe(None), right);
    pipe.bounds.levels = levels;
    pipe
}

/// Joins at least one part to a tree whose depth is the logarithm of their number.
pub(super) fn balanced<'s>(
    mut parts: Vec<Bounded<'s>>,
    join: &mut impl FnMut(Bounded<'s>, Bounded<'s>) -> Bounded<'s>,
) -> Bounded<'s> {
    let right = parts.split_off(parts.len() / 2);
    match (parts.is_empty(), right) {
        (true, right) => right.into_iter().next().unwrap_or_else(|| leaf(Term::Id)),
        (false, right) => {
            let left = balanced(parts, join);
            let right = balanced(right, join);
            join(left, right)
        }
    }
}
