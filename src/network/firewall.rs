//! Other firewalls on this host that can keep traffic from pods.

use std::io;

use netlink::iptables;
use netlink::nft::{ChainInfo, Family, Hook, Nft, Outcome, Policy, RuleInfo, Test};

use crate::cidr::Cidr;
use crate::table::TABLE;

/// Why the firewalls could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// nf_tables does not answer.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The table of legacy iptables cannot be read.
    #[error("read the filter table of legacy iptables: {0}")]
    Legacy(io::Error),
}

/// Who made a chain, as far as it can be told: each has its own way to let something pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// Docker, which has a chain for the user's own rules.
    Docker,
    /// The iptables tool, on nf_tables.
    Iptables,
    /// The iptables tool of before nf_tables.
    LegacyIptables,
    /// Whoever uses nft.
    Nft,
}

/// A chain that drops packets to or from pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Who made it.
    pub owner: Owner,
    /// The family of its table as the nft tool writes it: `ip` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Whether it keeps pods from each other and the world (`Forward`) or from this host
    /// (`Input`), where cluster DNS is.
    pub hook: Hook,
}

/// The chains of others that drop what they do not know and have no rule about the addresses of
/// pods. To accept a packet in one table does not keep another from dropping it, so each of them
/// needs an exception of its own.
pub fn obstacles(pods: Cidr) -> Result<Vec<Obstacle>, Error> {
    let mut found = nf_tables(pods)?;
    for dropping in iptables::dropping().map_err(Error::Legacy)? {
        if !dropping.accepted.contains(&(pods.first(), pods.mask())) {
            found.push(legacy(dropping.chain));
        }
    }
    Ok(found)
}

fn legacy(chain: iptables::Chain) -> Obstacle {
    let (chain, hook) = match chain {
        iptables::Chain::Forward => ("FORWARD", Hook::Forward),
        iptables::Chain::Input => ("INPUT", Hook::Input),
    };
    let (table, chain) = ("filter".to_owned(), chain.to_owned());
    Obstacle { owner: Owner::LegacyIptables, family: "ip", table, chain, hook }
}

fn nf_tables(pods: Cidr) -> Result<Vec<Obstacle>, Error> {
    let mut nft = Nft::open()?;
    let mut found = Vec::new();
    let chains = nft.chains()?;
    for chain in &chains {
        let Some((family, hook)) = place(chain) else { continue };
        let rules = nft.rules(family, &chain.table)?;
        let policy = chain.hook.is_some_and(|hook| hook.policy == Policy::Drop);
        let all = rules.iter().any(|rule| rule.chain == chain.name && rule.drops_all());
        if !policy && !all {
            continue;
        }
        // The chain's own rules and those of chains that it may jump to.
        let elsewhere = |name: &str| {
            let is = |c: &ChainInfo| {
                c.table == chain.table && c.family == chain.family && c.name == name
            };
            name != chain.name && chains.iter().any(|c| is(c) && c.hook.is_some())
        };
        let lets_pass = |rule: &&RuleInfo| {
            matches!(rule.outcome, Outcome::Accept | Outcome::Jump) && !elsewhere(&rule.chain)
        };
        let mut about_pods = false;
        for rule in rules.iter().filter(lets_pass) {
            about_pods |= is_about(&mut nft, family, &chain.table, rule, pods)?;
        }
        if !about_pods {
            found.push(Obstacle {
                owner: owner(chain, &chains),
                family: if family == Family::Inet { "inet" } else { "ip" },
                table: chain.table.clone(),
                chain: chain.name.clone(),
                hook,
            });
        }
    }
    Ok(found)
}

/// The family and hook of somebody else's chain that sees IPv4 packets of pods.
fn place(chain: &ChainInfo) -> Option<(Family, Hook)> {
    let family = [Family::Inet, Family::Ip].into_iter().find(|f| *f as u8 == chain.family)?;
    let at = chain.hook?.number;
    let hook = [Hook::Forward, Hook::Input].into_iter().find(|hook| *hook as u32 == at)?;
    (chain.table != TABLE || family != Family::Ip).then_some((family, hook))
}

/// Whether a rule names the network: as the leading bytes of an address, or in a set.
fn is_about(
    nft: &mut Nft,
    family: Family,
    table: &str,
    rule: &RuleInfo,
    pods: Cidr,
) -> Result<bool, Error> {
    let address = pods.first().octets();
    let leading = usize::from(pods.prefix().div_ceil(8));
    for test in &rule.tests {
        let about = match test {
            Test::Equals(bytes) => *bytes == address || bytes[..] == address[..leading],
            Test::InSet(set) => match nft.elements(family, table, set) {
                Ok(elements) => elements.iter().any(|element| element.key == address),
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error.into()),
            },
            Test::Other(_) => false,
        };
        if about {
            return Ok(true);
        }
    }
    Ok(false)
}

fn owner(chain: &ChainInfo, chains: &[ChainInfo]) -> Owner {
    let beside = |is: &dyn Fn(&str) -> bool| {
        chains.iter().any(|c| c.table == chain.table && c.family == chain.family && is(&c.name))
    };
    let of_iptables = ["FORWARD", "INPUT"].contains(&chain.name.as_str());
    if chain.table == "firewalld" {
        Owner::Firewalld
    } else if of_iptables && beside(&|name| name.starts_with("ufw-")) {
        Owner::Ufw
    } else if chain.name == "FORWARD" && beside(&|name| name == "DOCKER-USER") {
        Owner::Docker
    } else if of_iptables && chain.table == "filter" && chain.family == Family::Ip as u8 {
        Owner::Iptables
    } else {
        Owner::Nft
    }
}
