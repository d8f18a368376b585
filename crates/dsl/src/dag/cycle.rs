//! The circles of a graph (Johnson 1975), bounded in number: the time is that of a search per circle.

/// Every elementary circle, each beginning with its lowest node, and whether there are more than `most`.
pub(super) fn cycles(edges: &[Vec<usize>], most: usize) -> (Vec<Vec<usize>>, bool) {
    let mut found = Vec::new();
    if is_acyclic(edges) {
        return (found, false);
    }
    for start in 0..edges.len() {
        let mut search = Search {
            edges,
            start,
            component: component(edges, start),
            blocked: vec![false; edges.len()],
            waiting: vec![Vec::new(); edges.len()],
            path: Vec::new(),
            found: &mut found,
            // One more than is returned, to know that there are more.
            most: most + 1,
        };
        search.circuit(start);
        if found.len() > most {
            found.truncate(most);
            return (found, true);
        }
    }
    (found, false)
}

/// Takes away what needs nothing that is left (Kahn); a circle stays.
fn is_acyclic(edges: &[Vec<usize>]) -> bool {
    let backward = reversed(edges);
    let mut open: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut free: Vec<usize> = (0..edges.len()).filter(|node| open[*node] == 0).collect();
    let mut taken = 0;
    while let Some(node) = free.pop() {
        taken += 1;
        for before in &backward[node] {
            open[*before] -= 1;
            if open[*before] == 0 {
                free.push(*before);
            }
        }
    }
    taken == edges.len()
}

/// The nodes from `start` on that lie on a circle with it.
fn component(edges: &[Vec<usize>], start: usize) -> Vec<bool> {
    let forward = reach(edges, start);
    let backward = reach(&reversed(edges), start);
    forward
        .iter()
        .zip(&backward)
        .map(|(one, two)| *one && *two)
        .collect()
}

fn reach(edges: &[Vec<usize>], start: usize) -> Vec<bool> {
    let mut seen = vec![false; edges.len()];
    seen[start] = true;
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        for next in &edges[node] {
            if *next > start && !seen[*next] {
                seen[*next] = true;
                open.push(*next);
            }
        }
    }
    seen
}

fn reversed(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut reversed = vec![Vec::new(); edges.len()];
    for (from, targets) in edges.iter().enumerate() {
        for to in targets {
            reversed[*to].push(from);
        }
    }
    reversed
}

/// The search for all circles through `start` whose other nodes are higher.
struct Search<'a> {
    edges: &'a [Vec<usize>],
    start: usize,
    component: Vec<bool>,
    /// Nodes from which, for now, no way leads back to the start.
    blocked: Vec<bool>,
    /// Which nodes become free with each.
    waiting: Vec<Vec<usize>>,
    path: Vec<usize>,
    found: &'a mut Vec<Vec<usize>>,
    most: usize,
}

impl Search<'_> {
    /// Whether a circle was closed through this node. As deep as a plan has steps.
    fn circuit(&mut self, node: usize) -> bool {
        let (edges, start) = (self.edges, self.start);
        let mut closed = false;
        self.path.push(node);
        self.blocked[node] = true;
        for next in edges[node].iter().copied().filter(|next| *next >= start) {
            if self.found.len() >= self.most {
                break;
            }
            if next == start {
                self.found.push(self.path.clone());
                closed = true;
            } else if self.component[next] && !self.blocked[next] && self.circuit(next) {
                closed = true;
            }
        }
        if closed {
            self.unblock(node);
        } else {
            for next in edges[node].iter().copied().filter(|next| *next >= start) {
                if self.component[next] && !self.waiting[next].contains(&node) {
                    self.waiting[next].push(node);
                }
            }
        }
        self.path.pop();
        closed
    }

    fn unblock(&mut self, node: usize) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if std::mem::take(&mut self.blocked[node]) {
                open.append(&mut self.waiting[node]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_without_circles_has_none() {
        assert_eq!(cycles(&[vec![1, 2], vec![2], vec![]], 10), (vec![], false));
        assert_eq!(cycles(&[], 10), (vec![], false));
    }

    #[test]
    fn a_step_that_needs_itself_is_a_circle() {
        assert_eq!(cycles(&[vec![0]], 10).0, [vec![0]]);
    }

    #[test]
    fn all_circles_are_found_even_where_they_share_steps() {
        let complete: Vec<Vec<usize>> = (0..3)
            .map(|node| (0..3).filter(|other| *other != node).collect())
            .collect();
        let (mut found, more) = cycles(&complete, 10);
        found.sort();
        assert_eq!(
            found,
            [
                vec![0, 1],
                vec![0, 1, 2],
                vec![0, 2],
                vec![0, 2, 1],
                vec![1, 2]
            ]
        );
        assert!(!more);
    }

    #[test]
    fn the_number_is_bounded() {
        let complete: Vec<Vec<usize>> = (0..50)
            .map(|node| (0..50).filter(|other| *other != node).collect())
            .collect();
        let (found, more) = cycles(&complete, 100);
        assert_eq!((found.len(), more), (100, true));
    }

    #[test]
    fn the_longest_circle_is_found() {
        let ring: Vec<Vec<usize>> = (0..1_000).map(|node| vec![(node + 1) % 1_000]).collect();
        assert_eq!(cycles(&ring, 10).0, [(0..1_000).collect::<Vec<_>>()]);
    }

    /// All simple paths that end where they began, the slow way.
    fn by_force(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
        fn walk(edges: &[Vec<usize>], path: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
            let (start, last) = (path[0], path[path.len() - 1]);
            for next in &edges[last] {
                if *next == start {
                    found.push(path.clone());
                } else if *next > start && !path.contains(next) {
                    path.push(*next);
                    walk(edges, path, found);
                    path.pop();
                }
            }
        }
        let mut found = Vec::new();
        for start in 0..edges.len() {
            walk(edges, &mut vec![start], &mut found);
        }
        found
    }

    proptest::proptest! {
        #[test]
        fn finds_what_a_search_by_force_finds(
            edges in proptest::collection::vec(proptest::collection::btree_set(0_usize..6, 0..4), 6)
        ) {
            let edges: Vec<Vec<usize>> = edges.into_iter().map(|targets| targets.into_iter().collect()).collect();
            let (mut found, more) = cycles(&edges, 10_000);
            let mut expected = by_force(&edges);
            found.sort();
            expected.sort();
            proptest::prop_assert_eq!(found, expected);
            proptest::prop_assert!(!more);
        }
    }
}
