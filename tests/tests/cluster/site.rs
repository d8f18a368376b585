//! Three servers, three nodes, and a proxy on every way between them.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::Context;
use eventflow_nats_server::{NatsCluster, Options};
use eventflow_tests::{
    Service,
    proxy::{Link, Proxy},
    service::free_port,
};

/// Servers, and nodes.
pub(crate) const SIZE: usize = 3;
/// A way that is slow takes this long, each way.
const SLOW: Duration = Duration::from_millis(120);

/// The whole of it.
pub(crate) struct Site {
    pub(crate) servers: NatsCluster,
    pub(crate) nodes: Vec<Service>,
    /// From each server to each other one.
    routes: Vec<Route>,
    /// From each node to each server.
    ways: Vec<Vec<Proxy>>,
}

struct Route {
    from: usize,
    to: usize,
    proxy: Proxy,
}

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of a node; started again when it heals.
    NodeKilled(usize),
    /// SIGSTOP of a node.
    NodeFrozen(usize),
    /// A node reaches no server: its connections break, or carry nothing.
    NodeCut(usize, Link),
    /// A node reaches the servers slowly.
    NodeSlow(usize),
    /// `kill -9` of a server; started again when it heals.
    ServerKilled(usize),
    /// SIGSTOP of a server.
    ServerFrozen(usize),
    /// A server reaches no other one; nodes still reach it.
    ServerCut(usize, Link),
    /// A server reaches the others slowly.
    ServerSlow(usize),
}

impl Fault {
    /// Every kind in turn, of whom the dice say.
    pub(crate) fn of(number: usize, dice: &mut fastrand::Rng) -> Self {
        let who = dice.usize(..SIZE);
        let link = if dice.bool() {
            Link::Cut
        } else {
            Link::HalfOpen
        };
        match number % 8 {
            0 => Self::NodeKilled(who),
            1 => Self::ServerKilled(who),
            2 => Self::NodeFrozen(who),
            3 => Self::NodeCut(who, link),
            4 => Self::ServerFrozen(who),
            5 => Self::ServerCut(who, link),
            6 => Self::NodeSlow(who),
            _ => Self::ServerSlow(who),
        }
    }
}

impl Site {
    /// Starts all of it; each node has a folder of its own.
    pub(crate) fn start(directory: &Path, workflows: &str) -> anyhow::Result<Self> {
        let mut routes = Vec::new();
        let options = Options { sync_always: true };
        let servers = NatsCluster::start_through(SIZE, options, |from, to, port| {
            let proxy = proxy_to(local(port));
            let through = proxy.address().port();
            routes.push(Route { from, to, proxy });
            through
        });
        let mut ways = Vec::new();
        let mut nodes = Vec::new();
        for number in 0..SIZE {
            let targets = servers.urls();
            let proxies = targets.iter().map(|url| Ok(proxy_to(address(url)?)));
            let proxies = proxies.collect::<anyhow::Result<Vec<_>>>()?;
            let through: Vec<_> = proxies
                .iter()
                .map(|proxy| format!("nats://{}", proxy.address()))
                .collect();
            let folder = directory.join(format!("node-{number}"));
            std::fs::create_dir(&folder)?;
            let arguments = ["--workflows", workflows, "--nats-replicas", "3"];
            nodes.push(Service::start_at(through.join(","), &folder, &arguments));
            ways.push(proxies);
        }
        Ok(Self {
            servers,
            nodes,
            routes,
            ways,
        })
    }

    pub(crate) fn break_it(&mut self, fault: Fault) {
        match fault {
            Fault::NodeKilled(node) => self.nodes[node].kill(),
            Fault::NodeFrozen(node) => self.nodes[node].freeze(),
            Fault::NodeCut(node, link) => self.set_ways(node, link),
            Fault::NodeSlow(node) => self.set_ways(node, Link::Slow(SLOW)),
            Fault::ServerKilled(server) => self.server(server).kill(),
            Fault::ServerFrozen(server) => self.server(server).freeze(),
            Fault::ServerCut(server, link) => self.set_routes(server, link),
            Fault::ServerSlow(server) => self.set_routes(server, Link::Slow(SLOW)),
        }
    }

    pub(crate) fn heal(&mut self, fault: Fault) {
        match fault {
            Fault::NodeKilled(node) => self.nodes[node].restart(),
            Fault::NodeFrozen(node) => self.nodes[node].thaw(),
            Fault::NodeCut(node, _) | Fault::NodeSlow(node) => self.set_ways(node, Link::Whole),
            Fault::ServerKilled(server) => self.server(server).restart(),
            Fault::ServerFrozen(server) => self.server(server).thaw(),
            Fault::ServerCut(server, _) | Fault::ServerSlow(server) => {
                self.set_routes(server, Link::Whole);
            }
        }
    }

    fn server(&mut self, number: usize) -> &mut eventflow_nats_server::NatsServer {
        let name = self.servers.servers()[number].name().to_owned();
        self.servers.server(&name)
    }

    fn set_ways(&self, node: usize, link: Link) {
        for proxy in &self.ways[node] {
            proxy.set(link);
        }
    }

    fn set_routes(&self, server: usize, link: Link) {
        let of_it = |route: &&Route| route.from == server || route.to == server;
        for route in self.routes.iter().filter(of_it) {
            route.proxy.set(link);
        }
    }
}

fn proxy_to(target: SocketAddr) -> Proxy {
    Proxy::start(free_port(), target).expect("a proxy can listen")
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let host = url.strip_prefix("nats://").context("a NATS URL")?;
    Ok(host.parse()?)
}
