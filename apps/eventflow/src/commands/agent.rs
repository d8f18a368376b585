//! `eventflow agent exec`: any program as an agent.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context;
use eventflow_agent::{Cancellation, Failure, Json, Task};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::{Common, Outcome, service};

/// What a program may write as its output, bytes: a request of the protocol carries no more.
const OUTPUT_BYTES_MAX: usize = 900 * 1024;
/// How much of the end of a program's stderr becomes the failure's detail, bytes.
const SNIPPET_BYTES_MAX: usize = 2 * 1024;
/// `EX_TEMPFAIL` of sysexits.h: another try may help.
const TRY_AGAIN: i32 = 75;

/// `eventflow agent`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Agent {
    /// Perform tasks by running a program for each
    #[command(after_help = "\
The program reads the task's input, JSON, from stdin. What it writes to stdout is the output: JSON, or any other text as
a JSON string, or null where it writes nothing.

It exits with 0 when it is done. Any other exit code fails the task with the end of stderr as the detail; 75 (EX_TEMPFAIL)
and a death by a signal may be retried, others may not.

In its environment: EVENTFLOW_EXECUTION, EVENTFLOW_TASK, EVENTFLOW_ATTEMPT, EVENTFLOW_CAPABILITY, EVENTFLOW_IDEMPOTENCY_KEY
and TRACEPARENT. When the execution is stopped, the program is killed. Ctrl-C lets running programs finish.")]
    Exec(Exec),
}

/// `eventflow agent exec`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Exec {
    /// What it can do; may be given several times
    #[arg(long = "capability", short = 'C', required = true, value_name = "NAME")]
    capabilities: Vec<String>,
    /// Take tasks from the queues on this NATS server instead of from --server; several with commas between them
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// NATS credentials
    #[arg(long, value_name = "FILE", requires = "nats")]
    creds: Option<PathBuf>,
    /// Whose tasks to perform, over NATS
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        requires = "nats"
    )]
    tenant: String,
    /// What the service's NATS subjects begin with
    #[arg(
        long,
        value_name = "NAME",
        default_value = "eventflow",
        requires = "nats"
    )]
    prefix: String,
    /// What it is called in histories
    #[arg(long, default_value = "exec")]
    name: String,
    /// How many tasks at a time
    #[arg(long, default_value_t = 1, value_name = "N")]
    concurrency: u32,
    /// How long a task is held without a sign of life, seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    lease: u64,
    /// How long running programs may take to finish at the end, seconds
    #[arg(long, default_value_t = 25, value_name = "SECONDS")]
    drain: u64,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Agent {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let Self::Exec(exec) = self;
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_env_filter(
                tracing_subscriber::EnvFilter::try_from_default_env()
                    .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
            )
            .init();
        let url = exec
            .nats
            .clone()
            .unwrap_or_else(|| service::url(common).to_owned());
        let mut builder = eventflow_agent::Agent::builder(url)
            .token(common.token.clone())
            .creds(exec.creds.clone())
            .tenant(&exec.tenant)
            .prefix(&exec.prefix)
            .name(&exec.name)
            .concurrency(exec.concurrency)
            .lease(Duration::from_secs(exec.lease))
            .drain_within(Duration::from_secs(exec.drain));
        for capability in &exec.capabilities {
            let command = exec.command.clone();
            builder = builder.capability(capability, move |task| perform(command.clone(), task));
        }
        let agent = builder.build()?;
        let stop = shutdown()?;
        eprintln!(
            "agent `{}` serves {} at {}",
            exec.name,
            exec.capabilities.join(", "),
            agent.transport().url()
        );
        agent.run_until(stop).await?;
        Ok(Outcome::Yes)
    }
}

/// Ctrl-C, or what a supervisor sends.
fn shutdown() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

async fn perform(command: Vec<String>, task: Task) -> Result<Json, Failure> {
    let mut child = spawn(&command, &task)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = task.input_json().clone();
    let exchange = async {
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program need not read its input: a closed pipe is no failure.
                let _ = stdin.write_all(input.as_str().as_bytes()).await;
            }
        };
        let ((), output, errors) = tokio::join!(
            write,
            first(stdout, OUTPUT_BYTES_MAX),
            last(stderr, SNIPPET_BYTES_MAX)
        );
        (child.wait().await, output, errors)
    };
    let (status, output, errors) = tokio::select! {
        done = exchange => done,
        why = task.cancelled() => {
            // The child dies with its handle.
            return Err(Failure::transient(match why {
                Cancellation::Stopped => "the execution was stopped",
                Cancellation::ShuttingDown => "the agent shut down before the program was done",
            }));
        }
    };
    let errors = String::from_utf8_lossy(&errors).trim().to_owned();
    let detail = |what: String| {
        if errors.is_empty() {
            what
        } else {
            format!("{what}: {errors}")
        }
    };
    match status?.code() {
        Some(0) => answer(output?),
        Some(TRY_AGAIN) => Err(Failure::transient(detail(
            "the program asks for another try".into(),
        ))),
        Some(code) => Err(Failure::permanent(detail(format!(
            "the program exited with {code}"
        )))),
        None => Err(Failure::transient(detail(
            "the program was killed by a signal".into(),
        ))),
    }
}

fn spawn(command: &[String], task: &Task) -> Result<Child, Failure> {
    let [program, arguments @ ..] = command else {
        return Err(Failure::permanent("no program was given"));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        // Ctrl-C is for the agent, which lets its programs finish.
        .process_group(0)
        .env("EVENTFLOW_EXECUTION", task.execution().as_str())
        .env("EVENTFLOW_TASK", task.reference())
        .env("EVENTFLOW_ATTEMPT", task.attempt().to_string())
        .env("EVENTFLOW_CAPABILITY", task.capability().as_str())
        .env("EVENTFLOW_IDEMPOTENCY_KEY", task.idempotency_key());
    if let Some(traceparent) = task.traceparent() {
        command.env("TRACEPARENT", traceparent);
    }
    command
        .spawn()
        .map_err(|error| Failure::transient(format!("cannot run `{program}`: {error}")))
}

/// All that is written, or a failure where it is more than allowed.
async fn first(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() > limit {
        return Err(Failure::permanent(format!(
            "the program wrote more than {limit} bytes"
        )));
    }
    Ok(bytes)
}

/// The end of what is written.
async fn last(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; limit];
    if let Some(mut pipe) = pipe {
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..read]);
            let surplus = kept.len().saturating_sub(limit);
            kept.drain(..surplus);
        }
    }
    kept
}

/// JSON as it is, other text as a string, nothing as null.
fn answer(output: Vec<u8>) -> Result<Json, Failure> {
    let text = String::from_utf8(output)
        .map_err(|_| Failure::permanent("the program's output is not UTF-8"))?;
    let text = text.trim();
    if text.is_empty() {
        return Ok(Json::null());
    }
    Ok(Json::parse(text).unwrap_or_else(|_| Json::of(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_json_or_text_or_nothing() {
        let of = |text: &str| answer(text.into()).unwrap().to_value();
        assert_eq!(of(" {\"a\": 1}\n"), serde_json::json!({ "a": 1 }));
        assert_eq!(of("done\n"), serde_json::json!("done"));
        assert_eq!(of("\n"), serde_json::Value::Null);
        assert!(answer(vec![0xff]).is_err());
    }

    #[tokio::test]
    async fn of_stderr_the_end_is_kept_and_of_stdout_all_or_nothing() {
        assert_eq!(last(Some(&b"0123456789"[..]), 4).await, b"6789");
        assert_eq!(first(Some(&b"0123"[..]), 4).await.unwrap(), b"0123");
        assert!(first(Some(&b"01234"[..]), 4).await.is_err());
    }
}
