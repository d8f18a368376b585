//! Subjects (INTERFACES section 3): where what goes out goes to, and what the subject of what came in says.

use eventflow_domain::{ExecutionId, NodeName, Tenant};
use eventflow_ports::LifecycleEvent;

use crate::{NatsConfig, bucket::token};

/// The prefix of those whose `execution.commands` and `execution.status` have none, as the specification says. With
/// another prefix these begin with it, so that several services can share one server.
const USUAL_PREFIX: &str = "eventflow";

/// The subjects of one service.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    prefix: String,
}

/// What a durable message is, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Starts an execution.
    Start(Tenant),
    /// Steers one.
    Control(Tenant),
    /// Happened outside; of this type.
    Trigger(Tenant, String),
    /// Calls somebody.
    Call(Tenant),
    /// `execution.commands`: the tenant is in a header.
    Flow,
}

impl Subjects {
    pub(crate) fn of(config: &NatsConfig) -> Self {
        Self {
            prefix: config.prefix.clone(),
        }
    }

    /// Of a tenant's lifecycle events of one workflow and type. The workflow's name is safe as a token of a subject, and
    /// itself where it has letters, digits, `-` and `_` only.
    pub(crate) fn event(&self, event: &LifecycleEvent) -> String {
        let workflow = token(&event.workflow.name);
        format!(
            "{}.events.{}.{workflow}.{}",
            self.prefix, event.tenant, event.kind
        )
    }

    pub(crate) fn all_events(&self) -> String {
        format!("{}.events.>", self.prefix)
    }

    pub(crate) fn status(&self) -> String {
        self.flow("status")
    }

    pub(crate) fn call_events(&self, tenant: &str) -> String {
        format!("{}.calls.events.{tenant}", self.prefix)
    }

    /// Every subject that `stored` reads.
    pub(crate) fn all_stored(&self) -> Vec<String> {
        let prefix = &self.prefix;
        vec![
            format!("{prefix}.commands.>"),
            format!("{prefix}.triggers.>"),
            format!("{prefix}.calls.*"),
            self.flow("commands"),
        ]
    }

    pub(crate) fn starts(&self) -> String {
        format!("{}.start.*", self.prefix)
    }

    pub(crate) fn controls(&self) -> String {
        format!("{}.control.*.*.*", self.prefix)
    }

    pub(crate) fn results(&self) -> String {
        format!("{}.results.*", self.prefix)
    }

    /// The same, for one node.
    pub(crate) fn results_to(&self, node: &NodeName) -> String {
        format!("{}.{node}", self.results())
    }

    /// Where what was set aside of a tenant goes; whatever the tenant's name is like.
    pub(crate) fn rejected(&self, tenant: &str) -> String {
        format!("{}.rejected.{}", self.prefix, token(tenant))
    }

    pub(crate) fn all_rejected(&self) -> String {
        format!("{}.rejected.>", self.prefix)
    }

    /// The tokens behind the prefix.
    pub(crate) fn tokens<'a>(&self, subject: &'a str) -> Vec<&'a str> {
        subject
            .strip_prefix(self.prefix.as_str())
            .and_then(|rest| rest.strip_prefix('.'))
            .map(|rest| rest.split('.').collect())
            .unwrap_or_default()
    }

    /// What a durable message is; what is wrong with its subject where that cannot be told.
    pub(crate) fn stored(&self, subject: &str) -> Result<Stored, String> {
        if subject == self.flow("commands") {
            return Ok(Stored::Flow);
        }
        match self.tokens(subject)[..] {
            ["commands", of, "start"] => tenant(of).map(Stored::Start),
            ["commands", of, "control"] => tenant(of).map(Stored::Control),
            ["calls", of] => tenant(of).map(Stored::Call),
            ["triggers", of, ref kind @ ..] if !kind.is_empty() => {
                Ok(Stored::Trigger(tenant(of)?, kind.join(".")))
            }
            _ => Err(format!(
                "`{subject}` says neither a start nor a control nor a trigger: see docs/nats.md"
            )),
        }
    }

    /// The tenant that a subject names, as it stands there; `default` where it names none.
    pub(crate) fn tenant_of<'a>(&self, subject: &'a str) -> &'a str {
        match self.tokens(subject)[..] {
            ["commands" | "triggers" | "calls", tenant, ..] => tenant,
            _ => "default",
        }
    }

    fn flow(&self, word: &str) -> String {
        if self.prefix == USUAL_PREFIX {
            format!("execution.{word}")
        } else {
            format!("{}.execution.{word}", self.prefix)
        }
    }
}

/// Reads a token that names a tenant.
pub(crate) fn tenant(token: &str) -> Result<Tenant, String> {
    Tenant::parse(token).map_err(|error| error.to_string())
}

/// Reads a token that names an execution.
pub(crate) fn execution(token: &str) -> Result<ExecutionId, String> {
    ExecutionId::parse(token).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(prefix: &str) -> Subjects {
        Subjects::of(&NatsConfig {
            prefix: prefix.to_owned(),
            ..NatsConfig::default()
        })
    }

    #[test]
    fn a_stored_message_says_what_it_is() {
        let ours = subjects("eventflow");
        let acme = || Tenant::parse("acme").unwrap();
        for (subject, expected) in [
            ("eventflow.commands.acme.start", Stored::Start(acme())),
            ("eventflow.commands.acme.control", Stored::Control(acme())),
            ("eventflow.calls.acme", Stored::Call(acme())),
            (
                "eventflow.triggers.acme.com.acme.ordered",
                Stored::Trigger(acme(), "com.acme.ordered".into()),
            ),
            ("execution.commands", Stored::Flow),
        ] {
            assert_eq!(ours.stored(subject), Ok(expected));
        }
        for subject in [
            "eventflow.commands.acme.begin",
            "eventflow.commands.a=b.start",
            "eventflow.triggers.acme",
            "eventflow.calls.events.acme",
            "other.commands.acme.start",
            "eventflowx.commands.acme.start",
        ] {
            assert!(ours.stored(subject).is_err(), "{subject}");
        }
    }

    #[test]
    fn with_another_prefix_every_subject_begins_with_it() {
        let theirs = subjects("test");
        assert_eq!(theirs.stored("test.execution.commands"), Ok(Stored::Flow));
        let all = [
            theirs.all_stored(),
            vec![theirs.status(), theirs.all_events()],
        ]
        .concat();
        assert!(all.iter().all(|subject| subject.starts_with("test.")));
        assert_eq!(subjects("eventflow").status(), "execution.status");
    }

    #[test]
    fn what_is_set_aside_has_a_subject_whatever_the_tenant() {
        let ours = subjects("eventflow");
        assert_eq!(ours.tenant_of("eventflow.commands.a b.start"), "a b");
        assert_eq!(ours.tenant_of("execution.commands"), "default");
        assert_eq!(ours.rejected("a b"), "eventflow.rejected.a=20b");
    }
}
