//! The SDK against a service of the same protocol in memory, over HTTP and over a real NATS server.

mod both;
mod fake;
mod nats;

use eventflow_agent::{Agent, AgentBuilder, AgentError, Failure, Task};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

async fn double(task: Task) -> Result<Value, Failure> {
    let input: Value = task.input()?;
    let n = input["n"]
        .as_u64()
        .ok_or_else(|| Failure::invalid_input("n is no number"))?;
    Ok(json!({ "doubled": n * 2 }))
}

/// An agent that runs until the test is done with it.
struct Working {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), AgentError>>,
}

impl Working {
    fn new(builder: AgentBuilder) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let agent = builder.build().unwrap();
        let ended = tokio::spawn(agent.run_until(async { drop(stopped.await) }));
        Self { stop, ended }
    }

    async fn stop(self) -> Result<(), AgentError> {
        let _ = self.stop.send(());
        self.ended.await.unwrap()
    }
}

fn agent(url: &str) -> AgentBuilder {
    Agent::builder(url).name("worker-1").concurrency(100)
}
