//! Servers start, die and come back where they were.

use std::{net::TcpStream, time::Instant};

use eventflow_nats_server::{NatsCluster, NatsServer, Options};

fn accepts(url: &str) -> bool {
    TcpStream::connect(url.trim_start_matches("nats://")).is_ok()
}

#[test]
fn a_server_dies_and_comes_back_on_the_same_port() {
    let mut server = NatsServer::start(Options { sync_always: true });
    let url = server.url();
    assert!(accepts(&url));
    server.kill();
    assert!(!accepts(&url));
    server.restart();
    assert_eq!(server.url(), url);
    assert!(accepts(&url));
    drop(server);
    assert!(!accepts(&url), "a dropped server is dead");
}

#[test]
fn servers_run_beside_each_other() {
    let servers: Vec<_> = (0..3)
        .map(|_| NatsServer::start(Options::default()))
        .collect();
    for server in &servers {
        assert!(accepts(&server.url()));
    }
    assert_ne!(servers[0].url(), servers[1].url());
}

#[test]
fn a_cluster_survives_the_loss_of_a_server() {
    let started = Instant::now();
    let mut cluster = NatsCluster::start(3);
    println!("a cluster of 3 was ready after {:?}", started.elapsed());
    let name = cluster.servers()[1].name().to_owned();
    cluster.server(&name).kill();
    let alive = cluster.urls().iter().filter(|url| accepts(url)).count();
    assert_eq!(alive, 2);
    cluster.server(&name).restart();
    cluster.wait_ready();
    assert!(cluster.urls().iter().all(|url| accepts(url)));
}
