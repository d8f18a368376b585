//! `eventflow history ID`: every event of an execution.

use console::style;
use eventflow_domain::{Digest, Json, Sequence, record::history_hash};
use eventflow_wire::v1::executions::{HistoryAnswer, HistoryEvent};

use crate::{
    Common, Outcome,
    output::{self, Format},
    service::{Service, execution_path},
};

/// Events of one request: as many as the service gives.
const PAGE: usize = 1_000;
/// Columns of an event's data for people; the rest is in the JSON.
const DATA_WIDTH: usize = 100;

/// `eventflow history`.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// The execution's id
    id: String,
    /// Check that no event is missing or was changed: each hash is of the one before it and of its own event
    #[arg(long)]
    verify: bool,
}

impl History {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let service = Service::new(common)?;
        let mut chain = Chain::default();
        let mut after = 0;
        loop {
            let path = format!(
                "{}/history?after={after}&limit={PAGE}",
                execution_path(&self.id)
            );
            let page: HistoryAnswer = service.get(path).await?;
            for event in &page.events {
                chain.follow(event);
                match common.output {
                    Format::Json => output::json(event)?,
                    Format::Text => output::line(describe(event))?,
                }
            }
            match page.next {
                Some(next) => after = next.0,
                None => break,
            }
        }
        if !self.verify {
            return Ok(Outcome::Yes);
        }
        let Some(broken) = chain.broken else {
            eprintln!(
                "{} {} events",
                style("verified:").green().for_stderr(),
                chain.sequence.0
            );
            return Ok(Outcome::Yes);
        };
        eprintln!(
            "{} {broken}",
            style("not the history that was written:")
                .red()
                .bold()
                .for_stderr()
        );
        Ok(Outcome::No)
    }
}

/// A history as far as it was followed, and where it broke first.
#[derive(Debug)]
struct Chain {
    sequence: Sequence,
    hash: Digest,
    broken: Option<String>,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            sequence: Sequence(0),
            hash: Digest([0; 32]),
            broken: None,
        }
    }
}

impl Chain {
    fn follow(&mut self, event: &HistoryEvent) {
        let expected = self.sequence.next();
        let hash = history_hash(&self.hash, expected, &written(event));
        if self.broken.is_none() && event.sequence != expected {
            self.broken = Some(format!("event {expected} is missing"));
        } else if self.broken.is_none() && event.hash != hash {
            self.broken = Some(format!("event {expected} or its hash was changed"));
        }
        self.sequence = event.sequence;
        self.hash = event.hash;
    }
}

/// The event as it was written: its type, and behind it all of it.
fn written(event: &HistoryEvent) -> Json {
    let data = event.data.as_str();
    let text = format!("{{\"{}\":{data}}}", event.kind);
    Json::parse(&text).unwrap_or_else(|_| Json::null())
}

fn describe(event: &HistoryEvent) -> String {
    let hash = event.hash.to_string();
    format!(
        "{:>5}  {}  {:<30}  {}  {}",
        event.sequence,
        event.time,
        style(&event.kind).bold(),
        style(&hash[..8]).dim(),
        console::truncate_str(event.data.as_str(), DATA_WIDTH, "…")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chained(data: &[&str]) -> Vec<HistoryEvent> {
        let mut hash = Digest([0; 32]);
        let mut events = Vec::new();
        for (number, data) in data.iter().enumerate() {
            let sequence = Sequence(number as u64 + 1);
            let mut event = HistoryEvent {
                sequence,
                kind: "task_started".into(),
                time: eventflow_domain::Timestamp(0).into(),
                data: Json::parse(data).unwrap(),
                hash,
            };
            hash = history_hash(&hash, sequence, &written(&event));
            event.hash = hash;
            events.push(event);
        }
        events
    }

    fn broken(events: &[HistoryEvent]) -> Option<String> {
        let mut chain = Chain::default();
        for event in events {
            chain.follow(event);
        }
        chain.broken
    }

    #[test]
    fn a_gap_or_a_change_breaks_the_chain() {
        let whole = chained(&["1", "{\"a\":2}", "3"]);
        assert_eq!(broken(&whole), None);
        let mut gap = whole.clone();
        gap.remove(1);
        assert_eq!(broken(&gap).as_deref(), Some("event 2 is missing"));
        let mut changed = whole;
        changed[1].data = Json::parse("{\"a\":3}").unwrap();
        assert_eq!(
            broken(&changed).as_deref(),
            Some("event 2 or its hash was changed")
        );
    }
}
