//! A service in this process for the command line to talk to, and the command line itself.

use std::{
    process::{Command, Output, Stdio},
    sync::Arc,
};

use eventflow_adapter_http_api::{Api, CONNECTIONS_MAX};
use eventflow_adapter_http_client::{AllowedTargets, ReqwestHttpClient};
use eventflow_adapter_memory::{
    MemoryBlobStore, MemoryDefinitionStore, MemoryJournal, MemoryKeyStore, MemoryTaskQueue,
    MemoryView,
};
use eventflow_adapter_system::{SystemClock, UuidIds};
use eventflow_engine::{Backend, Config, Engine, Node};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot};

/// A service in memory with the real HTTP API on a real port.
pub(crate) struct Service {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Service {
    pub(crate) fn start() -> Self {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let engine = Arc::new(Engine::start(backend(), Config::default()).await.unwrap());
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let api = Api {
                    executions: engine.clone(),
                    controls: engine.clone(),
                    workflows: engine.definitions(),
                    tasks: engine.clone(),
                    events: engine.clone(),
                    system: Arc::new(Node::new(engine.clone(), String::new)),
                };
                let stop = async { drop(stopped.await) };
                eventflow_adapter_http_api::serve(listener, api, CONNECTIONS_MAX, stop).await;
                engine.shutdown().await;
            });
        });
        Self {
            url: format!("http://{}", is_ready.recv().unwrap()),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Runs the command line against this service.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(
            eventflow(arguments)
                .env("EVENTFLOW_SERVER", &self.url)
                .output()
                .unwrap(),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn backend() -> Backend {
    Backend {
        name: "memory",
        journal: Arc::new(MemoryJournal::default()),
        view: Arc::new(MemoryView::default()),
        queue: Arc::new(MemoryTaskQueue::default()),
        definitions: Arc::new(MemoryDefinitionStore::default()),
        blobs: Arc::new(MemoryBlobStore::default()),
        keys: Arc::new(MemoryKeyStore::default()),
        http: Arc::new(ReqwestHttpClient::new(AllowedTargets::with_loopback()).unwrap()),
        publisher: None,
        clock: Arc::new(SystemClock),
        ids: Arc::new(UuidIds),
        cluster: None,
    }
}

/// The command line as a person without a terminal starts it.
pub(crate) fn eventflow(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventflow"));
    command
        .args(arguments)
        .env_remove("EVENTFLOW_SERVER")
        .env_remove("EVENTFLOW_TOKEN")
        .stdin(Stdio::null());
    command
}

/// Runs it without a service.
pub(crate) fn run(arguments: &[&str]) -> Said {
    Said::of(eventflow(arguments).output().unwrap())
}

/// What it said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It ended with this code; all it said is shown where it did not.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout: {}\nstderr: {}",
            self.out,
            self.err
        );
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// A document in a file of its own.
pub(crate) fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// The path of a file as an argument.
pub(crate) fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}
