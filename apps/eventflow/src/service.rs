//! The service that most commands talk to.

use eventflow_agent::{Answer, Call, HeaderName, HeaderValue, Server};
use eventflow_wire::v1::executions::ExecutionView;
use serde::de::DeserializeOwned;

use crate::{Common, error::Refused};

/// Where a service listens that was started without arguments.
const USUAL: &str = "http://127.0.0.1:8080";
/// How long the service may hold an answer back for an execution's end; asked again after it.
const WAIT_SECONDS: u64 = 30;

/// A service, where every answer but success is an error.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) server: Server,
}

impl Service {
    pub(crate) fn new(common: &Common) -> anyhow::Result<Self> {
        Ok(Self {
            server: Server::new(url(common), common.token.as_deref())?,
        })
    }

    /// A success, or the service's problem as the error.
    pub(crate) async fn ask(&self, call: Call) -> anyhow::Result<Answer> {
        let answer = self.server.send(call).await?;
        if answer.is_success() {
            Ok(answer)
        } else {
            Err(Refused(answer.problem()).into())
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: String) -> anyhow::Result<T> {
        Ok(self.ask(Call::get(path)).await?.json()?)
    }

    pub(crate) async fn execution(&self, id: &str) -> anyhow::Result<ExecutionView> {
        self.get(execution_path(id)).await
    }
}

/// The URL that was given, or the usual one.
pub(crate) fn url(common: &Common) -> &str {
    common.server.as_deref().unwrap_or(USUAL)
}

/// The path of an execution.
pub(crate) fn execution_path(id: &str) -> String {
    format!("/v1/executions/{}", crate::input::encoded(id))
}

/// Asks for the answer to be held back until the execution has ended.
pub(crate) fn waiting(call: Call) -> Call {
    let value = HeaderValue::from_str(&format!("wait={WAIT_SECONDS}"))
        .expect("a number is a header's value");
    let margin = std::time::Duration::from_secs(WAIT_SECONDS + 10);
    call.header(HeaderName::from_static("prefer"), value)
        .within(margin)
}
