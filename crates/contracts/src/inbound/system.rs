//! The clauses of `System`.

use std::{collections::HashSet, time::Duration};

use eventflow_ports::inbound::{Refusal, SystemView};
use tokio::time::{Instant, timeout};

use super::{EngineFixture, PATIENCE, one_task, request, start, until};

/// Far longer than an answer from memory takes, far shorter than any time-out of a store.
const AT_ONCE: Duration = Duration::from_millis(500);

/// One test per clause of `System`, for the fixture that the closure makes.
#[macro_export]
macro_rules! system_contract {
    ($module:ident, $fixture:expr) => {
        $crate::suite!(
            $module,
            $fixture,
            inbound::system,
            [
                clause_01_readiness_says_whether_work_is_accepted,
                clause_02_system_lists_every_partition_in_order,
                clause_03_metrics_are_prometheus_text,
                clause_04_it_answers_without_waiting,
            ]
        );
    };
}

/// Clause 1.
pub async fn clause_01_readiness_says_whether_work_is_accepted(fixture: &impl EngineFixture) {
    assert_eq!(fixture.system().readiness(), Ok(()));
    start(fixture, request(one_task())).await;
    fixture.restart().await;
    assert_eq!(fixture.system().readiness(), Ok(()));
    start(fixture, request(one_task())).await;

    // Whoever is caught in the middle may be told late, for it is maybe done; whoever comes then is told.
    fixture.cut_off().await;
    let caught = tokio::spawn({
        let executions = fixture.executions();
        async move { executions.start(request(one_task())).await }
    });
    let look = async || fixture.system().readiness().err();
    let reasons = until(fixture, "a node that is not ready", look).await;
    assert!(
        !reasons.is_empty() && reasons.iter().all(|reason| !reason.is_empty()),
        "{reasons:?}"
    );
    let executions = fixture.executions();
    let refused = timeout(PATIENCE, executions.start(request(one_task())));
    let refused = refused.await.expect("an answer");
    assert!(
        matches!(refused, Err(Refusal::Unavailable { .. })),
        "{refused:?}"
    );
    caught.abort();
}

/// Clause 2.
pub async fn clause_02_system_lists_every_partition_in_order(fixture: &impl EngineFixture) {
    let records = |system: &SystemView| -> u64 {
        system
            .partitions
            .iter()
            .map(|partition| partition.position.0)
            .sum()
    };
    let before = fixture.system().system();
    assert!(!before.version.is_empty() && !before.backend.is_empty());
    let ids: Vec<u16> = before
        .partitions
        .iter()
        .map(|partition| partition.id.0)
        .collect();
    let count = u16::try_from(ids.len()).expect("a u16 counts them");
    assert_eq!(ids, (0..count).collect::<Vec<_>>());
    assert!(count > 0);
    for partition in &before.partitions {
        assert!(partition.leader.is_some(), "{partition:?}");
        assert!(partition.epoch.0 > 0, "{partition:?}");
    }
    let names: HashSet<_> = before.limits.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), before.limits.len(), "each limit once");

    start(fixture, request(one_task())).await;
    let look = async || {
        let after = fixture.system().system();
        (records(&after) > records(&before)).then_some(after)
    };
    let after = until(fixture, "the record of a start", look).await;
    fixture.restart().await;
    let reborn = fixture.system().system();
    for (old, new) in after.partitions.iter().zip(&reborn.partitions) {
        assert!(new.epoch > old.epoch, "a new reign: {old:?}, {new:?}");
        assert!(new.position >= old.position);
    }
}

/// Clause 3.
pub async fn clause_03_metrics_are_prometheus_text(fixture: &impl EngineFixture) {
    start(fixture, request(one_task())).await;
    let metrics = fixture.system().metrics();
    assert!(metrics.ends_with('\n'), "the last line ends as well");
    let mut types = HashSet::new();
    let mut samples = 0;
    for line in metrics.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(declared) = comment.strip_prefix(" TYPE ") {
                let (name, kind) = declared.split_once(' ').expect("a name and a type");
                assert!(types.insert(name), "{name} is declared twice");
                let kinds = ["counter", "gauge", "histogram", "summary", "untyped"];
                assert!(kinds.contains(&kind), "{line}");
            }
            continue;
        }
        samples += 1;
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = series.split('{').next().unwrap_or_default();
        assert!(is_metric_name(name), "{line}");
        assert!(series == name || series.ends_with('}'), "{line}");
    }
    assert!(
        samples > 0,
        "a node that started something has counted something"
    );
}

fn is_metric_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    name.bytes()
        .next()
        .is_some_and(|first| !first.is_ascii_digit())
        && name.bytes().all(allowed)
}

/// Clause 4.
pub async fn clause_04_it_answers_without_waiting(fixture: &impl EngineFixture) {
    start(fixture, request(one_task())).await;
    let system = fixture.system();
    let answers = || {
        let started = Instant::now();
        let _ = system.readiness();
        let (partitions, metrics) = (system.system().partitions, system.metrics());
        let took = started.elapsed();
        assert!(took < AT_ONCE, "answered after {took:?}");
        assert!(!partitions.is_empty() && !metrics.is_empty());
    };
    answers();
    fixture.cut_off().await;
    answers();
    let executions = fixture.executions();
    let starting = tokio::spawn(async move { executions.start(request(one_task())).await });
    for _ in 0..10 {
        answers();
        tokio::task::yield_now().await;
    }
    starting.abort();
}
