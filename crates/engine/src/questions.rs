//! What can be asked of whoever leads a partition: here by a call, elsewhere by a message (ADR 16).
//!
//! Every question may be asked again: what it asks for is named by keys of its own.

use std::{future::Future, sync::Arc, time::Duration};

use eventflow_domain::{Position, Timestamp, execution::Requested, plan::Plan};
use eventflow_ports::{
    ListQuery,
    inbound::{Action, ExecutionView, Explanation, Refusal, ResultOutcome, Started},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    engine::Inner,
    partition::{AttemptBegin, AttemptResult, Key, Partition},
    seat::Standing,
};

/// How long a leader may take to answer what it is not asked to wait for: a store that hesitates is waited for, and
/// whoever asked still gets its answer while it is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The same of what is answered from memory, and asked again soon.
const STAND_WITHIN: Duration = Duration::from_secs(1);

/// Something that the leader of a partition knows or does.
pub(crate) trait Question: Into<Ask> + Clone + Send + Sync + 'static {
    /// What it answers.
    type Answer: Serialize + DeserializeOwned + Send;

    /// Answers it, on the node that leads the partition.
    fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> impl Future<Output = Result<Self::Answer, Refusal>> + Send;

    /// How long the answer may take.
    fn within(&self) -> Duration {
        ANSWER_WITHIN
    }

    /// It was asked so long ago, somebody may have heard it, and now it is asked again.
    fn again(&mut self, _after: Duration) {}
}

macro_rules! questions {
    ($($question:ident),+) => {
        /// A question on its way to another node.
        #[derive(Debug, Serialize, Deserialize)]
        pub(crate) enum Ask {
            $(#[doc = "See the question of this name."] $question($question)),+
        }

        $(impl From<$question> for Ask {
            fn from(question: $question) -> Self {
                Self::$question(question)
            }
        })+

        impl Ask {
            /// The answer to whichever question it is, given to `reply`.
            pub(crate) async fn answer(self, inner: &Arc<Inner>, partition: &Partition) -> bytes::Bytes {
                match self {
                    $(Self::$question(question) => inner.reply(partition, question).await),+
                }
            }
        }
    };
}

questions!(
    Start, View, Wait, List, Locate, Trace, Follow, Stand, Control, Explain, Begin, Results
);

/// Starts an execution.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) key: Key,
    #[serde(with = "complete")]
    pub(crate) requested: Requested,
    /// Where it is at hand: every node finds it by its digest.
    #[serde(skip)]
    pub(crate) plan: Option<Arc<Plan>>,
    /// Nobody can have used the id before.
    pub(crate) is_fresh: bool,
}

impl Question for Start {
    type Answer = Started;

    async fn answer(self, inner: &Arc<Inner>, partition: &Partition) -> Result<Started, Refusal> {
        inner.start(partition, self).await
    }

    fn again(&mut self, _after: Duration) {
        self.is_fresh = false;
    }
}

/// Shows an execution.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct View(pub(crate) Key);

impl Question for View {
    type Answer = ExecutionView;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<ExecutionView, Refusal> {
        let snapshot = inner.find(partition, &self.0, false).await?;
        Ok(inner.render(&snapshot))
    }
}

/// Shows an execution once it has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Wait {
    pub(crate) key: Key,
    pub(crate) within: Duration,
}

impl Question for Wait {
    type Answer = ExecutionView;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<ExecutionView, Refusal> {
        inner.wait(partition, &self.key, self.within).await
    }

    fn within(&self) -> Duration {
        self.within + ANSWER_WITHIN
    }

    fn again(&mut self, after: Duration) {
        self.within = self.within.saturating_sub(after);
    }
}

/// Shows a page of a tenant's executions, of this partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct List(pub(crate) ListQuery);

impl Question for List {
    type Answer = Vec<ExecutionView>;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<Vec<ExecutionView>, Refusal> {
        inner.list(partition, &self.0).await
    }
}

/// Tells which records hold an execution's history: every node can read them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Locate(pub(crate) Key);

impl Question for Locate {
    type Answer = Vec<Position>;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<Vec<Position>, Refusal> {
        let snapshot = inner.find(partition, &self.0, true).await?;
        Ok(snapshot.positions)
    }
}

/// The same of those after a record, as soon as there is one, or none after a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) key: Key,
    pub(crate) after: Position,
    pub(crate) wait: Duration,
}

impl Question for Trace {
    type Answer = Vec<Position>;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<Vec<Position>, Refusal> {
        inner.trace(partition, &self).await
    }

    fn within(&self) -> Duration {
        self.wait + ANSWER_WITHIN
    }
}

/// Tells the last durable record, as soon as it is later than one, or after a while.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Follow {
    pub(crate) after: Position,
    pub(crate) wait: Duration,
}

impl Question for Follow {
    type Answer = Position;

    async fn answer(self, _: &Arc<Inner>, partition: &Partition) -> Result<Position, Refusal> {
        partition.follow_to(self.after, self.wait).await
    }

    fn within(&self) -> Duration {
        self.wait + ANSWER_WITHIN
    }
}

/// Tells how the partition is doing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stand;

impl Question for Stand {
    type Answer = Standing;

    async fn answer(self, _: &Arc<Inner>, partition: &Partition) -> Result<Standing, Refusal> {
        let status = partition.status();
        Ok(Standing {
            epoch: status.epoch,
            position: status.position,
            reason: status.state.reason().map(ToOwned::to_owned),
        })
    }

    fn within(&self) -> Duration {
        STAND_WITHIN
    }
}

/// Pauses, resumes or stops an execution.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Control {
    pub(crate) key: Key,
    pub(crate) action: Action,
    pub(crate) reason: Option<Arc<str>>,
}

impl Question for Control {
    type Answer = ExecutionView;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<ExecutionView, Refusal> {
        inner.control(partition, self).await
    }
}

/// Tells what an execution waits for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Explain(pub(crate) Key);

impl Question for Explain {
    type Answer = Explanation;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<Explanation, Refusal> {
        inner.explain(partition, &self.0).await
    }
}

/// Begins attempts, answered one by one in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begin(pub(crate) Vec<AttemptBegin>);

impl Question for Begin {
    type Answer = Vec<Result<Timestamp, Refusal>>;

    async fn answer(self, _: &Arc<Inner>, partition: &Partition) -> Result<Self::Answer, Refusal> {
        partition.begin(self.0).await
    }
}

/// Brings results and signs of life, answered one by one in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results(pub(crate) Vec<AttemptResult>);

impl Question for Results {
    type Answer = Vec<ResultOutcome>;

    async fn answer(
        self,
        inner: &Arc<Inner>,
        partition: &Partition,
    ) -> Result<Vec<ResultOutcome>, Refusal> {
        inner.results(partition, self.0).await
    }
}

/// A start with its input, also where that is too large for an event: no blob of it is stored yet.
mod complete {
    use eventflow_domain::{Json, Value, execution::Requested};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        requested: &Requested,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let large = match &requested.input {
            Value::Inline(_) => None,
            Value::Ref { content, .. } => content.as_ref(),
        };
        (requested, large).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Requested, D::Error> {
        let (mut requested, large) = <(Requested, Option<Json>)>::deserialize(deserializer)?;
        if let Some(input) = large {
            requested.input = Value::new(input);
        }
        Ok(requested)
    }
}
