//! `eventflow explain ID`: what an execution waits for, since when, who holds it and what comes next.

use std::fmt::Write as _;

use console::style;
use eventflow_wire::v1::controls::{Explanation, WaitsFor};

use crate::{
    Common, Outcome,
    output::{self, Format},
    service::{Service, execution_path},
    words,
};

/// `eventflow explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// The execution's id
    id: String,
}

impl Explain {
    pub(crate) async fn run(self, common: &Common) -> anyhow::Result<Outcome> {
        let path = format!("{}/explain", execution_path(&self.id));
        let explanation: Explanation = Service::new(common)?.get(path).await?;
        match common.output {
            Format::Json => output::json(&explanation)?,
            Format::Text => output::line(describe(&explanation).trim_end())?,
        }
        Ok(Outcome::Yes)
    }
}

/// The explanation as people read it.
fn describe(explanation: &Explanation) -> String {
    let mut text = format!(
        "{}  {}  {}\n",
        style(&explanation.execution_id).bold(),
        words::status(explanation.status),
        explanation.summary
    );
    for wait in &explanation.waits_for {
        text.push('\n');
        text.push_str(&one(wait));
    }
    if explanation.more > 0 {
        let _ = writeln!(text, "\n… and {} more", explanation.more);
    }
    text
}

fn one(wait: &WaitsFor) -> String {
    let mut text = format!("  {}\n", style(&wait.detail).bold());
    let mut say = |what: &str, value: String| {
        let _ = writeln!(text, "    {:<6} {value}", style(what).dim());
    };
    if let Some(task) = &wait.task {
        let attempt = wait.attempt.map(|attempt| format!(", attempt {attempt}"));
        say("task", format!("{task}{}", attempt.unwrap_or_default()));
    }
    say("since", wait.since.to_string());
    if let Some(agent) = &wait.held_by {
        let until = wait
            .held_until
            .map(|until| format!(", until {until} unless it is heard of"));
        say("held", format!("by {agent}{}", until.unwrap_or_default()));
    }
    if let Some(due) = wait.due {
        say("due", due.to_string());
    }
    say("next", wait.next.clone());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_comes_with_who_holds_it_and_what_follows() {
        let explanation: Explanation = serde_json::from_value(serde_json::json!({
            "executionId": "order-17", "status": "running", "summary": "`charge` is with worker-1", "more": 2,
            "waitsFor": [{
                "cause": "result", "task": "/do/0/charge", "attempt": 1, "since": "2026-03-01T09:30:00.000Z",
                "heldBy": "worker-1", "heldUntil": "2026-03-01T09:31:00.000Z",
                "detail": "`charge` is with worker-1", "next": "if it is silent, attempt 2 of 4 follows",
            }],
        }))
        .unwrap();
        let text = console::strip_ansi_codes(&describe(&explanation)).into_owned();
        assert_eq!(
            text,
            "order-17  running  `charge` is with worker-1\n\n  `charge` is with worker-1\n    task   /do/0/charge, \
             attempt 1\n    since  2026-03-01T09:30:00.000Z\n    held   by worker-1, until 2026-03-01T09:31:00.000Z \
             unless it is heard of\n    next   if it is silent, attempt 2 of 4 follows\n\n… and 2 more\n"
        );
    }
}
