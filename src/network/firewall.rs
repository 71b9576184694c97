//! Other firewalls on this host that can keep traffic from pods.

use netlink::nft::{ChainInfo, Family, Hook, Nft};

use crate::table::TABLE;

/// The chains of others that drop what they do not know: packets on their way to pods ("forward")
/// or from pods to this host ("input"). To accept a packet in one table does not keep another
/// from dropping it, so such a chain needs an exception for the pod network of its own. Chains of
/// iptables are among them if it is the kind that nf_tables underlies.
pub fn dropping_chains() -> netlink::Result<Vec<ChainInfo>> {
    let ours = |chain: &ChainInfo| chain.table == TABLE && chain.family == Family::Ip as u8;
    let drops = |chain: &ChainInfo| [Hook::Forward, Hook::Input].iter().any(|h| chain.drops_at(*h));
    let chains = Nft::open()?.chains()?;
    Ok(chains.into_iter().filter(|chain| drops(chain) && !ours(chain)).collect())
}
