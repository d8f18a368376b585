//! Agents as processes of their own, which die as well.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context, ensure};
use serde_json::Value;

/// Agents, each a process.
const AGENTS: usize = 2;

/// Agent processes and where they write down what was acknowledged.
pub(crate) struct Agents {
    url: String,
    directory: PathBuf,
    alive: VecDeque<Child>,
    files: Vec<PathBuf>,
}

impl Agents {
    pub(crate) fn start(url: &str, directory: &Path) -> anyhow::Result<Self> {
        let mut agents = Self {
            url: url.to_owned(),
            directory: directory.to_owned(),
            alive: VecDeque::new(),
            files: Vec::new(),
        };
        for _ in 0..AGENTS {
            agents.add()?;
        }
        Ok(agents)
    }

    fn add(&mut self) -> anyhow::Result<()> {
        let name = format!("agent-{}", self.files.len());
        let file = self.directory.join(format!("accepted-by-{name}"));
        let child = Command::new(env!("CARGO_BIN_EXE_accountable-agent"))
            .arg(&self.url)
            .arg(&name)
            .arg(&file)
            .spawn()?;
        self.alive.push_back(child);
        self.files.push(file);
        Ok(())
    }

    /// Kills the one that has lived longest; another takes its place.
    pub(crate) fn replace_one(&mut self) -> anyhow::Result<()> {
        let mut oldest = self.alive.pop_front().context("an agent is alive")?;
        end(&mut oldest)?;
        self.add()
    }

    /// Everything that was acknowledged to them. They must still be alive.
    pub(crate) fn accepted(mut self) -> anyhow::Result<Vec<Value>> {
        for agent in &mut self.alive {
            end(agent)?;
        }
        let mut results = Vec::new();
        for file in &self.files {
            for line in std::fs::read_to_string(file)?.lines() {
                // The last line may have been cut by the kill.
                results.extend(serde_json::from_str::<Value>(line));
            }
        }
        Ok(results)
    }
}

fn end(agent: &mut Child) -> anyhow::Result<()> {
    ensure!(agent.try_wait()?.is_none(), "an agent has given up");
    agent.kill()?;
    agent.wait()?;
    Ok(())
}

impl Drop for Agents {
    fn drop(&mut self) {
        for agent in &mut self.alive {
            // Fails where it has ended already.
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}
