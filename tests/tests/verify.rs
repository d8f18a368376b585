//! `eventflow verify`, `journal` and `doctor` on real stores: sound ones, running ones and damaged ones.

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Said, Service, process, service, verified};
use rusqlite::Connection;
use serde_json::{Value, json};

const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);
/// Orders that are started, each charged and none shipped.
const ORDERS: usize = 3;

/// A service with a few executions behind it and a few under way.
struct Site {
    service: Service,
    client: Client,
    directory: tempfile::TempDir,
}

impl Site {
    async fn open() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let service = Service::with_fixtures(directory.path());
        let client = Client::new(&service.url, PATIENCE)?;
        for number in 0..ORDERS {
            let order = json!({"orderId": "o-1", "amount": 42, "inventoryUrl": format!("{}/healthz", service.url)});
            client
                .start("order", &format!("order-{number}"), &order)
                .await?;
            let charge = client.lease("charge").await?;
            client
                .complete(&charge, &json!({"paymentId": number}))
                .await?;
        }
        let view = client.run("clear-failure", &json!({"amount": 42})).await?;
        ensure!(view["status"] == "faulted", "{view}");
        Ok(Self {
            service,
            client,
            directory,
        })
    }

    /// The command line on this store, whatever it answers.
    fn run(&self, arguments: &[&str]) -> Said {
        let store = format!("sqlite:{}", self.directory.path().join("store").display());
        let all = [arguments, &["--store", &store]].concat();
        process::run(&mut service::eventflow(&all))
    }

    fn database(&self, name: &str) -> anyhow::Result<Connection> {
        let path = self.directory.path().join("store").join(name);
        Connection::open(&path).with_context(|| path.display().to_string())
    }

    /// Flips a bit in a record, as a disk does.
    fn damage(&self, position: u64) -> anyhow::Result<()> {
        let journal = self.database("journal.db")?;
        let mut record: Vec<u8> = journal.query_row(
            "SELECT record FROM records_0 WHERE position = ?1",
            [i64::try_from(position)?],
            |row| row.get(0),
        )?;
        *record.last_mut().context("a record has bytes")? ^= 1;
        let changed = journal.execute(
            "UPDATE records_0 SET record = ?1 WHERE position = ?2",
            rusqlite::params![record, i64::try_from(position)?],
        )?;
        ensure!(changed == 1, "there is no record {position}");
        Ok(())
    }

    fn records(&self) -> anyhow::Result<u64> {
        let said = self
            .run(&["journal", "verify", "--output", "json"])
            .exits(0);
        said.json()["records"].as_u64().context("it counts records")
    }
}

/// What was found, by invariant.
fn found(said: &Said) -> Vec<(String, String)> {
    let report = said.json();
    let violations = report["violations"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    violations
        .iter()
        .map(|violation| (text(&violation["invariant"]), text(&violation["detail"])))
        .collect()
}

#[tokio::test]
async fn a_store_is_verified_and_looked_at_while_a_service_writes_to_it() -> anyhow::Result<()> {
    let mut site = Site::open().await?;
    let said = site.run(&["verify", "--output", "json"]).exits(0);
    let partition = &said.json()["partitions"][0];
    assert_eq!(
        partition["executions"],
        json!({"running": ORDERS, "faulted": 1})
    );
    assert!(partition["events"].as_u64() > Some(20), "{partition}");
    let text = site.run(&["verify"]).exits(0);
    assert!(text.out.contains("every invariant holds"), "{}", text.out);

    let records = site
        .run(&["journal", "show", "--limit", "2", "--output", "json"])
        .exits(0);
    let records = records.json_lines();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["entries"][0]["epoch"]["level"], 1);
    assert_eq!(records[1]["previous"], records[0]["hash"]);
    let shown = site
        .run(&["journal", "show", "--from", "2", "--limit", "1"])
        .exits(0);
    assert!(
        shown
            .out
            .contains("default/order-0    1 execution_requested"),
        "{}",
        shown.out
    );
    let nowhere = site.run(&["journal", "show", "--partition", "9"]).exits(2);
    assert!(
        nowhere.err.contains("there is no partition 9"),
        "{}",
        nowhere.err
    );

    let doctor = site.run(&["doctor"]).exits(0);
    for word in [
        "partition 0:",
        "journal_mode wal",
        "disk:",
        "clock:",
        "limit blobBytes: 67108864",
    ] {
        assert!(doctor.out.contains(word), "{word} is not in {}", doctor.out);
    }
    let served = site.service.eventflow(&["doctor"]).exits(0);
    assert!(
        served.out.contains("ready: it accepts work"),
        "{}",
        served.out
    );
    let quarantine = [
        "journal",
        "quarantine",
        "--partition",
        "0",
        "--position",
        "3",
        "--reason",
        "none",
    ];
    let refused = site.run(&quarantine).exits(2);
    assert!(
        refused.err.contains("in use by another process"),
        "{}",
        refused.err
    );

    assert_eq!(site.service.terminate(), Some(0));
    verified(site.directory.path(), &[]);
    let nowhere = ["--store", "sqlite:./nowhere"];
    let missing = process::run(&mut service::eventflow(
        &[&["doctor"], &nowhere[..]].concat(),
    ));
    assert!(missing.exits(1).out.contains("✗ store:"));
    let missing = process::run(&mut service::eventflow(
        &[&["verify"], &nowhere[..]].concat(),
    ));
    assert!(missing.exits(2).err.contains("nowhere"));
    let gone = site.service.eventflow(&["doctor"]).exits(1);
    assert!(gone.out.contains("✗ service:"), "{}", gone.out);
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_and_is_not_there_is_found() -> anyhow::Result<()> {
    let mut site = Site::open().await?;
    site.service.kill();
    let evidence = site.directory.path().join("evidence");
    let path = evidence.to_str().context("a temporary path is text")?;
    let verify = |lines: &[Value]| -> anyhow::Result<Said> {
        let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
        std::fs::write(&evidence, text.join("\n"))?;
        Ok(site.run(&["verify", "--evidence", path, "--output", "json"]))
    };
    let result = |output: Value| json!({"result": {"executionId": "order-0", "task": "/do/1/charge", "output": output}});
    let start = |id: &str| json!({"start": {"executionId": id}});
    verify(&[start("order-0"), result(json!({"paymentId": 0}))])?.exits(0);
    let wrong = verify(&[start("order-9"), result(json!({"paymentId": 7}))])?.exits(1);
    let invariants: Vec<String> = found(&wrong)
        .into_iter()
        .map(|(invariant, _)| invariant)
        .collect();
    assert_eq!(invariants, ["I4", "I1"], "{wrong:#?}");
    std::fs::write(&evidence, "{\"start\": 1}")?;
    let unreadable = site.run(&["verify", "--evidence", path]).exits(2);
    assert!(unreadable.err.contains("line 1"), "{}", unreadable.err);
    Ok(())
}

#[tokio::test]
async fn a_bad_record_is_named_set_aside_and_the_partition_starts_again() -> anyhow::Result<()> {
    let mut site = Site::open().await?;
    assert_eq!(site.service.terminate(), Some(0));
    let records = site.records()?;
    let bad = records - 2;
    site.damage(bad)?;

    let verify = site.run(&["verify", "--output", "json"]).exits(1);
    let (invariant, detail) = found(&verify).first().cloned().context("it is found")?;
    assert_eq!(invariant, "chain");
    assert!(detail.contains("its checksum does not fit"), "{detail}");
    assert_eq!(verify.json()["violations"][0]["position"], bad);
    let chain = site
        .run(&["journal", "verify", "--output", "json"])
        .exits(1);
    assert_eq!(chain.json()["firstBad"]["position"], bad);
    let from = bad.to_string();
    let shown = site
        .run(&["journal", "show", "--from", &from, "--limit", "1"])
        .exits(0);
    assert!(
        shown.out.contains("its checksum does not fit"),
        "{}",
        shown.out
    );

    let set_aside = |reason| {
        site.run(&[
            "journal",
            "quarantine",
            "--partition",
            "0",
            "--position",
            &from,
            "--reason",
            reason,
            "--output",
            "json",
        ])
    };
    let said = set_aside("a flipped bit").exits(0).json();
    assert_eq!(said["records"], 3, "{said}");
    assert_eq!(said["lost"]["unreadable"], 1, "{said}");
    let file = said["file"].as_str().context("it says where")?;
    let kept: u32 =
        Connection::open(file)?.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
    assert_eq!(kept, 3, "no byte is deleted");
    assert_eq!(site.records()?, bad - 1);
    let again = set_aside("once more").exits(2);
    assert!(again.err.contains("nothing was set aside"), "{}", again.err);
    for command in [["journal", "show"].as_slice(), &["doctor"]] {
        let shown = site.run(command).exits(0);
        assert!(shown.out.contains("a flipped bit"), "{}", shown.out);
    }

    site.service.restart();
    // Not over a connection to the one before.
    let view = Client::new(&site.service.url, PATIENCE)?
        .run("clear-failure", &json!({"amount": 1}))
        .await?;
    assert_eq!(view["status"], "faulted", "{view}");
    site.service.kill();
    verified(site.directory.path(), &[]);
    Ok(())
}

#[tokio::test]
async fn a_view_that_says_something_else_than_its_journal_is_found() -> anyhow::Result<()> {
    let mut site = Site::open().await?;
    let has_ended = |rows: &Value| {
        rows["executions"]
            .as_array()
            .is_some_and(|rows| rows.len() == 1)
    };
    site.client
        .until("/v1/executions?status=faulted", has_ended)
        .await?;
    assert_eq!(site.service.terminate(), Some(0));
    let clean = verified(site.directory.path(), &[]);
    assert!(
        clean["partitions"][0]["rows"].as_u64() >= Some(1),
        "{clean:#}"
    );
    let view = site.database("view-0.db")?;
    let changed = view.execute(
        "UPDATE executions SET status = 'completed' WHERE status = 'faulted'",
        [],
    )?;
    assert_eq!(changed, 1);
    drop(view);
    let said = site.run(&["verify", "--output", "json"]).exits(1);
    let (invariant, detail) = found(&said).first().cloned().context("it is found")?;
    assert_eq!(invariant, "I11");
    assert_eq!(
        detail,
        "the view lists it as completed, the journal says faulted"
    );
    Ok(())
}
