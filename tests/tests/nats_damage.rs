//! A journal's stream on NATS that holds a hole, a flipped bit, a fork or a stranger's message: only that partition stops
//! and says why, `eventflow` names the record, and after a quarantine the service goes on.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::jetstream::{
    self,
    stream::{Config, Stream},
};
use bytes::Bytes;
use eventflow_domain::{
    ExecutionId, PartitionId, Tenant, Timestamp,
    record::{Body, Chain},
};
use eventflow_nats_server::{NatsServer, Options};
use eventflow_tests::{
    Client, Said, Service, process,
    service::{eventflow, workspace},
    verified::verified_at,
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_mins(1);
const PARTITIONS: u16 = 2;
/// The one that is damaged in every test.
const DAMAGED: PartitionId = PartitionId(1);
const STREAM: &str = "EVENTFLOW_JOURNAL_1";
const SUBJECT: &str = "eventflow.journal.1";
/// In each partition, before the damage.
const ENDED: usize = 4;

/// A server whose partitions have ended executions, and a service.
struct Site {
    service: Service,
    client: Client,
    server: NatsServer,
    directory: tempfile::TempDir,
}

impl Site {
    async fn start() -> anyhow::Result<Self> {
        let server = NatsServer::start(Options { sync_always: true });
        let directory = tempfile::tempdir()?;
        let service = Self::serve(&server, &directory);
        let client = Client::new(&service.url, PATIENCE)?;
        let site = Self {
            service,
            client,
            server,
            directory,
        };
        for partition in 0..PARTITIONS {
            site.work("ended", PartitionId(partition), ENDED).await?;
        }
        Ok(site)
    }

    fn serve(server: &NatsServer, directory: &tempfile::TempDir) -> Service {
        let fixtures = workspace().join("fixtures/workflows");
        let fixtures = fixtures.to_str().expect("the workspace's path is text");
        let arguments = ["--workflows", fixtures, "--partitions", "2"];
        Service::start_at(server.url(), directory.path(), &arguments)
    }

    /// Executions that are at home in the partition, from start to end.
    async fn work(&self, name: &str, home: PartitionId, count: usize) -> anyhow::Result<()> {
        for id in ids(name, home, count) {
            self.client
                .start("greeting", &id, &json!({"name": "Ada"}))
                .await?;
            self.client.ended(&id).await?;
        }
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let url = self.server.url();
        process::run(&mut eventflow(&[arguments, &["--store", &url]].concat()))
    }

    async fn stream(&self) -> anyhow::Result<Stream> {
        let client = async_nats::connect(self.server.url()).await?;
        Ok(jetstream::new(client).get_stream(STREAM).await?)
    }

    async fn records(&self) -> anyhow::Result<Vec<Bytes>> {
        let stream = self.stream().await?;
        let mut records = Vec::new();
        for position in 1..=stream.cached_info().state.last_sequence {
            records.push(stream.get_raw_message(position).await?.payload);
        }
        Ok(records)
    }

    /// The stream with other messages; what is none is published and removed.
    async fn store_instead(&self, messages: &[Option<Bytes>]) -> anyhow::Result<()> {
        let needed = self.stream().await?.cached_info().config.clone();
        let context = jetstream::new(async_nats::connect(self.server.url()).await?);
        context.delete_stream(STREAM).await?;
        let open = Config {
            deny_delete: false,
            deny_purge: false,
            ..needed.clone()
        };
        let stream = context.create_stream(open).await?;
        for message in messages {
            let payload = message.clone().unwrap_or_else(|| "gone".into());
            let stored = context.publish(SUBJECT, payload).await?.await?;
            if message.is_none() {
                stream.delete_message(stored.sequence).await?;
            }
        }
        context.update_stream(needed).await?;
        Ok(())
    }

    /// Starts the service again and expects it to say these words of the damaged partition, and to serve the other one.
    async fn stops_alone(&mut self, words: &[&str]) -> anyhow::Result<()> {
        self.service.restart();
        let is_named = |system: &Value| {
            let reason = system["partitions"][1]["reason"].as_str();
            reason.is_some_and(|reason| words.iter().all(|word| reason.contains(word)))
        };
        let system = self.client.until("/v1/system", is_named).await;
        system.with_context(|| format!("partition 1 is not said to have {words:?}"))?;
        self.work("other", PartitionId(0), 1).await
    }

    /// The record is named, and nothing is wrong with the other partition.
    fn is_named(&self, position: usize, words: &[&str]) -> anyhow::Result<()> {
        let said = self.run(&["journal", "verify"]).exits(1);
        let line = said
            .out
            .lines()
            .find(|line| line.starts_with("partition 1"));
        let line = line.with_context(|| said.out.clone())?;
        for word in [&[format!("record {position}:").as_str()], words].concat() {
            ensure!(line.contains(word), "no `{word}` in: {line}");
        }
        ensure!(
            said.out.contains("partition 0: ") && said.out.contains("whole ("),
            "{}",
            said.out
        );
        let checked = self.run(&["verify", "--output", "json"]).exits(1).json();
        ensure!(
            checked["violations"][0]["invariant"] == "chain",
            "{checked}"
        );
        ensure!(checked["violations"][0]["partition"] == 1, "{checked}");
        Ok(())
    }

    /// Sets the record aside while no service runs; what was said of it.
    async fn repair(&mut self, position: usize) -> anyhow::Result<Value> {
        self.service.kill();
        let position = position.to_string();
        let said = self.run(&[
            "journal",
            "quarantine",
            "--partition",
            "1",
            "--position",
            &position,
            "--reason",
            "a test of damage",
            "--output",
            "json",
        ]);
        let said = said.exits(0).json();
        self.run(&["journal", "verify"]).exits(0);
        let doctor = self.run(&["doctor"]).exits(0);
        ensure!(doctor.out.contains("a test of damage"), "{}", doctor.out);
        self.service.restart();
        self.client = Client::new(&self.service.url, PATIENCE)?;
        self.work("after", DAMAGED, 2).await?;
        self.service.kill();
        verified_at(&self.server.url(), &[]);
        Ok(said)
    }
}

/// The first ids with this prefix that are at home in the partition.
fn ids(prefix: &str, partition: PartitionId, count: usize) -> Vec<String> {
    let home = |id: &String| {
        let id = ExecutionId::try_from(id.clone()).expect("an id");
        PartitionId::of(&Tenant::default_tenant(), &id, PARTITIONS) == partition
    };
    let numbered = (0..).map(|number| format!("{prefix}-{number}"));
    numbered.filter(home).take(count).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_message_is_named_and_taken_out() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    site.service.kill();
    let client = async_nats::connect(site.server.url()).await?;
    let stored = jetstream::new(client)
        .publish(SUBJECT, "hello".into())
        .await?
        .await?;
    let position = usize::try_from(stored.sequence)?;
    site.is_named(position, &["stranger", "begins with `hello`", SUBJECT])?;
    let words = [
        format!("partition 1 is damaged at record {position}"),
        "5 bytes".to_owned(),
    ];
    site.stops_alone(&words.each_ref().map(String::as_str))
        .await?;
    let said = site.repair(position).await?;
    ensure!(said["loses"] == false && said["records"] == 1, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_named_and_what_follows_is_set_aside() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    site.service.kill();
    let records = site.records().await?;
    let position = records.len() - 2;
    let mut messages: Vec<_> = records.iter().cloned().map(Some).collect();
    messages[position - 1] = None;
    site.store_instead(&messages).await?;
    site.is_named(position, &["missing"])?;
    let hole = format!("position {position} was removed");
    site.stops_alone(&["partition 1", "hole", &hole]).await?;
    let said = site.repair(position).await?;
    ensure!(said["loses"] == true && said["records"] == 2, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_is_named_and_what_follows_is_set_aside() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    site.service.kill();
    let records = site.records().await?;
    let position = records.len() - 1;
    let mut messages: Vec<_> = records.iter().cloned().map(Some).collect();
    let mut flipped = records[position - 1].to_vec();
    flipped[70] ^= 0x10;
    messages[position - 1] = Some(flipped.into());
    site.store_instead(&messages).await?;
    site.is_named(position, &["checksum"])?;
    let damaged = format!("partition 1 is damaged at record {position}");
    site.stops_alone(&[&damaged, "checksum"]).await?;
    let said = site.repair(position).await?;
    ensure!(
        said["loses"] == true && said["lost"]["unreadable"] == 1,
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_an_older_epoch_is_named_and_taken_out() -> anyhow::Result<()> {
    let mut site = Site::start().await?;
    site.service.kill();
    let first = site.records().await?;
    // A second reign.
    site.service.restart();
    site.work("second", DAMAGED, 2).await?;
    site.service.kill();
    let records = site.records().await?;
    // What the first writer had under way, had it not been fenced.
    let chain = Chain::at(DAMAGED, first.last().context("a record")?)?;
    let header = chain.next_header(chain.epoch, Timestamp(chain.time.0 + 1));
    let late = Body::default().seal(&header);
    let position = records.len();
    let mut messages: Vec<_> = records.into_iter().map(Some).collect();
    messages.insert(position - 1, Some(late.into()));
    site.store_instead(&messages).await?;
    let fork = format!("a record of epoch {} behind", chain.epoch);
    site.is_named(position, &["fork", &fork])?;
    let damaged = format!("partition 1 is damaged at record {position}");
    site.stops_alone(&[&damaged, "chain"]).await?;
    let said = site.repair(position).await?;
    ensure!(said["loses"] == false && said["records"] == 1, "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_store_is_looked_at_while_a_service_runs() -> anyhow::Result<()> {
    let site = Site::start().await?;
    let checked = site.run(&["verify", "--output", "json"]).exits(0).json();
    for partition in &checked["partitions"]
        .as_array()
        .cloned()
        .unwrap_or_default()
    {
        ensure!(partition["executions"]["completed"] == ENDED, "{checked}");
    }
    let shown = site
        .run(&["journal", "show", "--partition", "1", "--limit", "3"])
        .exits(0);
    ensure!(shown.out.contains("epoch_started by"), "{}", shown.out);
    let system = site.server.system_url();
    let doctor = site.run(&["doctor", "--nats-system", &system]).exits(0);
    for words in [
        "sync_interval always",
        "1 replica",
        "stream EVENTFLOW_JOURNAL_1: ",
        "stream KV_EVENTFLOW_LEASES: ",
        "partition 1: ",
        "leader 1: ",
        "limit blobBytes: 67108864",
    ] {
        ensure!(doctor.out.contains(words), "no `{words}` in {}", doctor.out);
    }
    let context = jetstream::new(async_nats::connect(site.server.url()).await?);
    let views = context.get_stream("OBJ_EVENTFLOW_VIEWS").await?;
    let mut config = views.cached_info().config.clone();
    config.allow_direct = true;
    context.update_stream(config).await?;
    let wrong = site.run(&["doctor"]).exits(1);
    ensure!(
        wrong
            .out
            .contains("✗ stream OBJ_EVENTFLOW_VIEWS: allow_direct must be false, is true"),
        "{}",
        wrong.out
    );
    let nowhere = site.run(&["verify", "--prefix", "nowhere"]).exits(2);
    ensure!(
        nowhere.err.contains("no store with the prefix `nowhere`"),
        "{}",
        nowhere.err
    );
    let copy = site.directory.path().join("copy");
    let copy = site
        .run(&["backup", copy.to_str().context("text")?])
        .exits(2);
    ensure!(copy.err.contains("nats account backup"), "{}", copy.err);
    Ok(())
}
