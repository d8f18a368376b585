//! The contract of `HttpClient`, on real sockets.

use std::sync::Arc;

use async_trait::async_trait;
use eventflow_adapter_http_client::{AllowedTargets, ReqwestHttpClient};
use eventflow_contracts::{http_client::HttpClientFixture, http_client_contract};
use eventflow_ports::HttpClient;

struct ThisMachine;

#[async_trait]
impl HttpClientFixture for ThisMachine {
    async fn open(&self) -> Arc<dyn HttpClient> {
        let client = ReqwestHttpClient::new(AllowedTargets::with_loopback());
        Arc::new(client.expect("the client is set up"))
    }
}

http_client_contract!(reqwest, || async { ThisMachine });
