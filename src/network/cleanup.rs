//! Removes all that this crate makes, whether this process made it or one before.

use netlink::nft::{Family, Nft};
use netlink::rtnl::{Requests, Rtnl};

use crate::mark::{ADDRESS_LABEL, INTERFACE_GROUP, ROUTE_PROTOCOL};
use crate::table::{TABLE, batch};

/// Removes the table, the interfaces (and with them the pods' ends), the routes and the addresses
/// on the loopback interface from the calling thread's network namespace. Goes on after an error
/// and returns the first. `ip_forward` stays on: others may have come to need it.
pub fn cleanup() -> netlink::Result<()> {
    table().and(interfaces()).and(routes()).and(addresses())
}

fn table() -> netlink::Result<()> {
    let mut nft = Nft::open()?;
    if nft.table(Family::Ip, TABLE)?.is_none() {
        return Ok(());
    }
    let mut batch = batch();
    batch.delete_table();
    nft.commit(batch)
}

fn interfaces() -> netlink::Result<()> {
    let mut requests = Requests::new();
    requests.delete_link_group(INTERFACE_GROUP);
    Rtnl::open()?.execute_tolerating(&requests, netlink::Error::is_not_found)
}

fn routes() -> netlink::Result<()> {
    let mut rtnl = Rtnl::open()?;
    let mut requests = Requests::new();
    for route in rtnl.routes()?.iter().filter(|r| r.protocol == ROUTE_PROTOCOL) {
        requests.delete_route(route);
    }
    rtnl.execute_tolerating(&requests, netlink::Error::is_not_found)
}

fn addresses() -> netlink::Result<()> {
    let mut rtnl = Rtnl::open()?;
    let mut requests = Requests::new();
    for address in rtnl.addresses()?.iter().filter(|a| a.label == ADDRESS_LABEL) {
        requests.delete_address(address);
    }
    rtnl.execute_tolerating(&requests, netlink::Error::is_not_found)
}
