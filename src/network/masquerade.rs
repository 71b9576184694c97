//! Source addresses: what leaves the cluster, or must come back by way of this node.
//!
//! Pods talk to each other with their own addresses. Outside nobody knows these, so traffic that
//! leaves the cluster gets the node's. The proxy marks connections whose answers have to pass
//! this node again, and lists the endpoints that may be led back to themselves.

use netlink::nft::{
    BaseChain, Batch, ChainKind, Comparison, CtKey, FibResult, Hook, MetaKey, Policy, Selector,
    Set, Type, Verdict,
};

use crate::cidr::Cidr;
use crate::mark::MASQUERADE_MARK;
use crate::table::{R0, R1, Section, within};

/// The set of endpoints of this node, twice each: source and destination of a connection that a
/// service leads back to where it came from.
pub(crate) const HAIRPIN: &str = "hairpin";

/// The priority of source translation, `NF_IP_PRI_NAT_SRC`.
const PRIORITY: i32 = 100;

/// The rules after routing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masquerade {
    pub(crate) cluster: Cidr,
    pub(crate) node: Cidr,
}

impl Section for Masquerade {
    fn write(&self, batch: &mut Batch) {
        const HOOK: &str = "nat-postrouting";
        const CHAIN: &str = "masquerade";
        batch.add_base_chain(&BaseChain {
            name: HOOK,
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: PRIORITY,
            policy: Policy::Accept,
        });
        batch.add_chain(CHAIN);
        batch.add_set(&Set {
            name: HAIRPIN,
            key: &[Type::Ipv4, Type::Ipv4],
            comment: "endpoints that a service can lead back to themselves",
            ..Set::default()
        });

        let (bit, none) = (MASQUERADE_MARK.to_ne_bytes(), [0; 4]);
        batch.commented_rule(HOOK, "marked by the service proxy", |e| {
            e.meta(R0, MetaKey::Mark).bitwise(R0, &bit, &none);
            e.compare(R0, Comparison::NotEqual, &none).verdict(Verdict::Goto(CHAIN));
        });
        batch.commented_rule(HOOK, "a pod that a service led back to itself", |e| {
            let translated = CtKey::DESTINATION_TRANSLATED.to_ne_bytes();
            e.ct(R0, CtKey::Status).bitwise(R0, &translated, &none);
            e.compare(R0, Comparison::NotEqual, &none);
            e.source(R0).destination(R1).contained(HAIRPIN, R0).verdict(Verdict::Goto(CHAIN));
        });
        batch.commented_rule(HOOK, "from a pod to outside the cluster", |e| {
            e.source(R0);
            within(e, Comparison::Equal, self.cluster);
            e.destination(R0);
            within(e, Comparison::NotEqual, self.cluster);
            // Multicast has nobody to come back to.
            e.destination(R0);
            within(e, Comparison::NotEqual, Cidr::new([224, 0, 0, 0].into(), 4));
            e.fib(R0, Selector::Destination, FibResult::AddressType);
            e.compare(R0, Comparison::NotEqual, &FibResult::LOCAL.to_ne_bytes());
            e.masquerade();
        });

        batch.rule(CHAIN, |e| {
            e.meta(R0, MetaKey::Mark).bitwise(R0, &(!MASQUERADE_MARK).to_ne_bytes(), &none);
            e.set_meta(MetaKey::Mark, R0);
        });
        // The veth of a pod has no address, and what masquerading takes in its place is any other
        // of the host, gone with the network it is of. The node's own pod address stays.
        batch.rule(CHAIN, |e| {
            e.destination(R0);
            within(e, Comparison::Equal, self.node);
            e.immediate(R0, &self.node.gateway().octets()).source_nat(R0);
        });
        batch.rule(CHAIN, |e| {
            e.masquerade();
        });
    }
}
