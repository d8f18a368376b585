//! Several servers that form one `JetStream` cluster.

use std::{thread, time::Instant};

use anyhow::{Result, bail};

use crate::{
    port::{self, Port},
    server::{LOOK_AGAIN, NatsServer, Options, READY_WITHIN, Routes, is_address_in_use},
};

/// Somebody without a lease may take a port between our look and the servers'.
const STARTS_MAX: usize = 5;

/// A cluster on 127.0.0.1; each server with ports and a directory of its own, all killed when dropped.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<NatsServer>,
    /// Leased for the servers' routes as long as they may be restarted.
    _routes: Vec<Port>,
}

impl NatsCluster {
    /// Starts `size` servers and waits until `JetStream` has a leader that all the others follow.
    pub fn start(size: usize) -> Self {
        Self::start_through(size, Options::default(), |_, _, port| port)
    }

    /// The same with options, each server reaching the others where `way` says: it is given the numbers of both, from 0,
    /// and the port on which the second one listens for others, and answers the port of 127.0.0.1 that leads there.
    pub fn start_through(
        size: usize,
        options: Options,
        mut way: impl FnMut(usize, usize, u16) -> u16,
    ) -> Self {
        Self::try_start(size, options, &mut way).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Where clients connect, one URL per server, the same after restarts.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// The servers, to look at.
    pub fn servers(&self) -> &[NatsServer] {
        &self.servers
    }

    /// The server of this name (a stream's information names its leader), to kill, freeze or restart.
    pub fn server(&mut self, name: &str) -> &mut NatsServer {
        self.servers
            .iter_mut()
            .find(|server| server.name() == name)
            .unwrap_or_else(|| panic!("no server is called {name}"))
    }

    /// Ends all servers at once (SIGKILL) and starts them again: what they had in memory only is lost.
    pub fn restart(&mut self) {
        self.servers.iter_mut().for_each(NatsServer::kill);
        let started = self.servers.iter_mut().try_for_each(NatsServer::spawn);
        started
            .and_then(|()| self.try_wait_ready())
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Waits until every server is ready and one leads all the others.
    pub fn wait_ready(&mut self) {
        self.try_wait_ready()
            .unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn try_start(
        size: usize,
        options: Options,
        way: &mut impl FnMut(usize, usize, u16) -> u16,
    ) -> Result<Self> {
        for _ in 1..STARTS_MAX {
            match Self::start_once(size, options, way) {
                Err(error) if is_address_in_use(&error) => {}
                result => return result,
            }
        }
        Self::start_once(size, options, way)
    }

    fn start_once(
        size: usize,
        options: Options,
        way: &mut impl FnMut(usize, usize, u16) -> u16,
    ) -> Result<Self> {
        let routes: Vec<Port> = (0..size).map(|_| port::lease()).collect::<Result<_>>()?;
        let all: Vec<u16> = routes.iter().map(|port| port.number).collect();
        let servers = (0..size)
            .map(|from| {
                let others = (0..size).filter(|to| *to != from);
                let routes = Routes {
                    own: all[from],
                    others: others.map(|to| way(from, to, all[to])).collect(),
                };
                NatsServer::prepare(&format!("node-{}", from + 1), options, Some(&routes))
            })
            .collect::<Result<_>>()?;
        let mut cluster = Self {
            servers,
            _routes: routes,
        };
        for server in &mut cluster.servers {
            server.spawn()?;
        }
        cluster.try_wait_ready()?;
        Ok(cluster)
    }

    fn try_wait_ready(&mut self) -> Result<()> {
        for server in &mut self.servers {
            server.wait_ready()?;
        }
        let size = self.servers.len();
        let deadline = Instant::now() + READY_WITHIN;
        while !self
            .servers
            .iter()
            .any(|server| server.leads_complete_cluster(size))
        {
            if Instant::now() > deadline {
                let logs: String = self.servers.iter().map(NatsServer::log).collect();
                bail!("the NATS cluster has no leader that all follow; the logs: {logs}");
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}
