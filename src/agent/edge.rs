//! The edge as the agent wants it: which sockets it gets, and what feeds it.

use std::net::{Ipv4Addr, SocketAddr};

use client::Informers;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    config::{Part, ServerOptions},
    edge::{
        protocol::Listener,
        supervisor::{Feeds, Options, Supervisor},
    },
};

/// Puts the address of cluster DNS on loopback: the edge binds its sockets to that very address.
pub(super) async fn hold_dns_address(options: &ServerOptions) {
    if options.disabled(Part::Dns) {
        return;
    }
    let address = options.dns_address();
    let held = tokio::task::spawn_blocking(move || network::loopback::hold(address)).await;
    if let Ok(Err(error)) = held {
        warn!(%error, %address, "address of cluster dns not held");
    }
}

/// Runs the edge with what the options want of it, and feeds it.
pub(super) async fn run(options: ServerOptions, informers: Informers, stop: CancellationToken) {
    let (with_dns, with_ingress) = (!options.disabled(Part::Dns), !options.disabled(Part::Ingress));
    if !with_dns && !with_ingress {
        return;
    }
    let mut edge = Options::new(&options.directories.run_dir);
    let mut feeds = Feeds::default();
    if with_dns {
        let address = SocketAddr::from((options.dns_address(), 53));
        edge.listeners.extend([Listener::DnsUdp(address), Listener::DnsTcp(address)]);
        let net = |cidr: crate::config::Cidr| cidr.to_string().parse().ok();
        edge.dns = dns::Config {
            domain: options.cluster_domain.clone(),
            addresses: vec![options.dns_address().into()],
            ranges: [options.cluster_cidr, options.service_cidr]
                .into_iter()
                .filter_map(net)
                .collect(),
            resolv_conf: options.resolv_conf.clone(),
            ..dns::Config::default()
        };
        let feed = dns::feed::Feed::new(&informers);
        feeds.dns = Some(Box::new(move |sender| {
            let feed = feed.clone();
            Box::pin(async move { feed.run(sender).await })
        }));
    }
    if with_ingress {
        let any = Ipv4Addr::UNSPECIFIED;
        edge.listeners.extend([
            Listener::Http(SocketAddr::from((any, options.ingress_http_port))),
            Listener::Https(SocketAddr::from((any, options.ingress_https_port))),
        ]);
        let feed = ingress::feed::Feed::new(&informers, None);
        feeds.ingress = Some(Box::new(move |sender| {
            let feed = feed.clone();
            Box::pin(async move { feed.run(sender).await })
        }));
    }
    let (_keep, settings) = watch::channel(edge);
    Supervisor::new(settings, feeds).run(stop).await;
}
