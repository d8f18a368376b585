//! The nodes of a plan while it is compiled, in document order and bounded in number.

use std::sync::Arc;

use eventflow_domain::{
    limits::TASKS_PER_EXECUTION_MAX,
    plan::{Kind, Node, NodeId, Then},
};

/// Nodes so far. The root is the first and no task.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    nodes: Vec<Node>,
}

impl Arena {
    /// Adds a node that does nothing yet; none where the plan has as many tasks as an execution may have.
    pub(crate) fn add(
        &mut self,
        pointer: String,
        name: &str,
        parent: Option<NodeId>,
    ) -> Option<NodeId> {
        let id = u32::try_from(self.nodes.len())
            .ok()
            .filter(|id| *id <= TASKS_PER_EXECUTION_MAX)?;
        self.nodes.push(Node {
            pointer: pointer.into(),
            name: Arc::from(name),
            parent,
            condition: None,
            input: None,
            output: None,
            export: None,
            then: Then::Continue,
            timeout: None,
            kind: Kind::Sequence(Vec::new()),
        });
        Some(NodeId(id))
    }

    /// A node of this arena.
    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// All of them.
    pub(crate) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }
}
