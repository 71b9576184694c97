//! The expressions that rules are made of.
//!
//! A rule is a small program: expressions load packet fields into registers, compare and look
//! them up, and end in a verdict. One that does not match ends the rule, and the chain goes on
//! with the next. Registers do not outlive their rule.

use super::set::SetId;
use super::uapi::{
    DATA_VALUE, DATA_VERDICT, EXPRESSION_DATA, EXPRESSION_NAME, LIST_ELEMENT, VERDICT_CHAIN,
    VERDICT_CODE,
};
use crate::message::Message;

const NF_NAT_RANGE_MAP_IPS: u32 = 1;
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 16;

/// A 32-bit register. Longer values fill the registers that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reg(u32);

impl Reg {
    /// The register that ends a rule with a verdict.
    const VERDICT: Self = Self(0);

    /// The register of this number, 0 to 15.
    pub const fn new(number: u32) -> Self {
        assert!(number < 16, "there are 16 registers");
        // NFT_REG32_00
        Self(8 + number)
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It passes this hook's chain.
    Accept,
    /// It is dropped.
    Drop,
    /// The calling chain goes on, or the policy applies.
    Return,
    /// The named chain is run, and then this one goes on.
    Jump(&'a str),
    /// The named chain is run in place of the rest of this one.
    Goto(&'a str),
}

pub(super) fn write_verdict(m: &mut Message, verdict: Verdict<'_>) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5i32, None),
    };
    m.nest(DATA_VERDICT, |m| {
        m.put_be32(VERDICT_CODE, code as u32);
        if let Some(chain) = chain {
            m.put_str(VERDICT_CHAIN, chain);
        }
    });
}

/// Which header a packet field is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum PayloadBase {
    /// Ethernet.
    Link = 0,
    /// IP.
    Network = 1,
    /// TCP, UDP, SCTP.
    Transport = 2,
}

/// What is known of a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MetaKey {
    /// The packet mark.
    Mark = 3,
    /// Index of the interface it came in by.
    InputInterface = 4,
    /// Index of the interface it leaves by.
    OutputInterface = 5,
    /// Name of the interface it came in by, 16 bytes.
    InputName = 6,
    /// Name of the interface it leaves by, 16 bytes.
    OutputName = 7,
    /// The transport protocol's number, one byte.
    TransportProtocol = 16,
    /// Group of the interface it came in by.
    InputGroup = 21,
    /// Group of the interface it leaves by.
    OutputGroup = 22,
}

/// What is known of a packet's flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CtKey {
    /// A set of bits, see [`CtKey::ESTABLISHED`] and its neighbours.
    State = 0,
    /// A set of bits, see [`CtKey::DESTINATION_TRANSLATED`].
    Status = 2,
}

impl CtKey {
    /// State: the packet belongs to a flow that has been answered.
    pub const ESTABLISHED: u32 = 1 << 1;
    /// State: the packet belongs to a flow that another one began, or reports an error of one.
    pub const RELATED: u32 = 1 << 2;
    /// State: the packet is the first of its flow, or repeats it.
    pub const NEW: u32 = 1 << 3;
    /// Status: the flow's destination is translated.
    pub const DESTINATION_TRANSLATED: u32 = 1 << 5;
}

/// Which address a look-up in the routing tables is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Selector {
    /// The packet's source.
    Source = 1,
    /// The packet's destination.
    Destination = 2,
}

/// What a look-up in the routing tables yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum FibResult {
    /// The kind of address, see [`FibResult::LOCAL`].
    AddressType = 3,
}

impl FibResult {
    /// The type of an address of this host.
    pub const LOCAL: u32 = 2;
}

/// How a register is compared. The orders are those of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "they say what they are")]
pub enum Comparison {
    Equal = 0,
    NotEqual = 1,
    Less = 2,
    LessOrEqual = 3,
    Greater = 4,
    GreaterOrEqual = 5,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// With a TCP reset.
    TcpReset,
    /// With an ICMP "port unreachable".
    PortUnreachable,
    /// With an ICMP "administratively prohibited".
    Prohibited,
}

/// The expressions of one rule, in order.
pub struct Expressions<'a>(pub(super) &'a mut Message);

impl Expressions<'_> {
    fn push(&mut self, name: &str, fill: impl FnOnce(&mut Message)) -> &mut Self {
        self.0.nest(LIST_ELEMENT, |m| {
            m.put_str(EXPRESSION_NAME, name);
            m.nest(EXPRESSION_DATA, fill);
        });
        self
    }

    /// Loads `length` bytes of a header.
    pub fn payload(&mut self, to: Reg, base: PayloadBase, offset: u32, length: u32) -> &mut Self {
        self.push("payload", |m| {
            m.put_be32(1, to.0);
            m.put_be32(2, base as u32);
            m.put_be32(3, offset);
            m.put_be32(4, length);
        })
    }

    /// Loads the source address of an IPv4 packet.
    pub fn source(&mut self, to: Reg) -> &mut Self {
        self.payload(to, PayloadBase::Network, 12, 4)
    }

    /// Loads the destination address of an IPv4 packet.
    pub fn destination(&mut self, to: Reg) -> &mut Self {
        self.payload(to, PayloadBase::Network, 16, 4)
    }

    /// Loads the source port.
    pub fn source_port(&mut self, to: Reg) -> &mut Self {
        self.payload(to, PayloadBase::Transport, 0, 2)
    }

    /// Loads the destination port.
    pub fn destination_port(&mut self, to: Reg) -> &mut Self {
        self.payload(to, PayloadBase::Transport, 2, 2)
    }

    /// Loads what is known of the packet beside its bytes.
    pub fn meta(&mut self, to: Reg, key: MetaKey) -> &mut Self {
        self.push("meta", |m| {
            m.put_be32(2, key as u32);
            m.put_be32(1, to.0);
        })
    }

    /// Sets what can be set of it; of the keys here, the mark.
    pub fn set_meta(&mut self, key: MetaKey, from: Reg) -> &mut Self {
        self.push("meta", |m| {
            m.put_be32(2, key as u32);
            m.put_be32(3, from.0);
        })
    }

    /// Loads what is known of the packet's flow.
    pub fn ct(&mut self, to: Reg, key: CtKey) -> &mut Self {
        self.push("ct", |m| {
            m.put_be32(2, key as u32);
            m.put_be32(1, to.0);
        })
    }

    /// Looks an address up in the routing tables.
    pub fn fib(&mut self, to: Reg, of: Selector, result: FibResult) -> &mut Self {
        self.push("fib", |m| {
            m.put_be32(1, to.0);
            m.put_be32(2, result as u32);
            m.put_be32(3, of as u32);
        })
    }

    /// Goes on only if the comparison of a register with a constant holds.
    pub fn compare(&mut self, register: Reg, how: Comparison, with: &[u8]) -> &mut Self {
        self.push("cmp", |m| {
            m.put_be32(1, register.0);
            m.put_be32(2, how as u32);
            m.nest(3, |m| m.put(DATA_VALUE, with));
        })
    }

    /// Replaces a register by `(register & mask) ^ flip`; both have the value's length.
    pub fn bitwise(&mut self, register: Reg, mask: &[u8], flip: &[u8]) -> &mut Self {
        self.push("bitwise", |m| {
            m.put_be32(1, register.0);
            m.put_be32(2, register.0);
            m.put_be32(3, mask.len() as u32);
            m.nest(4, |m| m.put(DATA_VALUE, mask));
            m.nest(5, |m| m.put(DATA_VALUE, flip));
        })
    }

    /// Loads a constant.
    pub fn immediate(&mut self, to: Reg, value: &[u8]) -> &mut Self {
        self.push("immediate", |m| {
            m.put_be32(1, to.0);
            m.nest(2, |m| m.put(DATA_VALUE, value));
        })
    }

    /// Ends the rule.
    pub fn verdict(&mut self, verdict: Verdict<'_>) -> &mut Self {
        self.push("immediate", |m| {
            m.put_be32(1, Reg::VERDICT.0);
            m.nest(2, |m| write_verdict(m, verdict));
        })
    }

    fn look_up(&mut self, set: SetId<'_>, key: Reg, to: Option<Reg>, invert: bool) -> &mut Self {
        self.push("lookup", |m| {
            m.put_str(1, set.name);
            m.put_be32(2, key.0);
            if let Some(to) = to {
                m.put_be32(3, to.0);
            }
            if let Some(id) = set.id {
                m.put_be32(4, id);
            }
            if invert {
                m.put_be32(5, 1);
            }
        })
    }

    /// Goes on only if the set contains the key.
    pub fn contained<'s>(&mut self, set: impl Into<SetId<'s>>, key: Reg) -> &mut Self {
        self.look_up(set.into(), key, None, false)
    }

    /// Goes on only if the set does not contain the key.
    pub fn not_contained<'s>(&mut self, set: impl Into<SetId<'s>>, key: Reg) -> &mut Self {
        self.look_up(set.into(), key, None, true)
    }

    /// Loads what the map has for the key; goes on only if it has something.
    pub fn map<'s>(&mut self, map: impl Into<SetId<'s>>, key: Reg, to: Reg) -> &mut Self {
        self.look_up(map.into(), key, Some(to), false)
    }

    /// Ends the rule with the verdict that the map has for the key, if it has one.
    pub fn verdict_map<'s>(&mut self, map: impl Into<SetId<'s>>, key: Reg) -> &mut Self {
        self.look_up(map.into(), key, Some(Reg::VERDICT), false)
    }

    /// Loads a random integer below `modulus`, in host byte order.
    pub fn random(&mut self, to: Reg, modulus: u32) -> &mut Self {
        const RANDOM: u32 = 1;
        self.push("numgen", |m| {
            m.put_be32(1, to.0);
            m.put_be32(2, modulus);
            m.put_be32(3, RANDOM);
            m.put_be32(4, 0);
        })
    }

    fn dynset(
        &mut self,
        set: &str,
        operation: u32,
        key: Reg,
        data: Option<Reg>,
        timeout_ms: u64,
    ) -> &mut Self {
        self.push("dynset", |m| {
            m.put_str(1, set);
            m.put_be32(3, operation);
            m.put_be32(4, key.0);
            if let Some(data) = data {
                m.put_be32(5, data.0);
            }
            if timeout_ms != 0 {
                m.put_be64(6, timeout_ms);
            }
        })
    }

    /// Adds the key (and its data) to a dynamic set, or renews its timeout. The data of a key
    /// that is there already is left as it is. Ends the rule if the set is full.
    pub fn remember(
        &mut self,
        set: &str,
        key: Reg,
        data: Option<Reg>,
        timeout: std::time::Duration,
    ) -> &mut Self {
        const UPDATE: u32 = 1;
        self.dynset(set, UPDATE, key, data, timeout.as_millis() as u64)
    }

    /// Removes the key from a dynamic set, if it is there. For a map the kernel wants a data
    /// register, which it does not look at.
    pub fn forget(&mut self, set: &str, key: Reg, data: Option<Reg>) -> &mut Self {
        const DELETE: u32 = 2;
        self.dynset(set, DELETE, key, data, 0)
    }

    /// Translates the destination to an IPv4 address and port held in registers.
    pub fn destination_nat(&mut self, address: Reg, port: Option<Reg>) -> &mut Self {
        const DNAT: u32 = 1;
        self.nat(DNAT, address, port, 0)
    }

    /// Translates the source to an IPv4 address held in a register, with a random port.
    pub fn source_nat(&mut self, address: Reg) -> &mut Self {
        const SNAT: u32 = 0;
        self.nat(SNAT, address, None, NF_NAT_RANGE_PROTO_RANDOM_FULLY)
    }

    fn nat(&mut self, kind: u32, address: Reg, port: Option<Reg>, flags: u32) -> &mut Self {
        self.push("nat", |m| {
            m.put_be32(1, kind);
            m.put_be32(2, libc::AF_INET as u32);
            m.put_be32(3, address.0);
            m.put_be32(4, address.0);
            let mut flags = flags | NF_NAT_RANGE_MAP_IPS;
            if let Some(port) = port {
                m.put_be32(5, port.0);
                m.put_be32(6, port.0);
                flags |= NF_NAT_RANGE_PROTO_SPECIFIED;
            }
            m.put_be32(7, flags);
        })
    }

    /// Translates the source to an address of the interface that the packet leaves by, with a
    /// random port (the kernel's choice of port races between CPUs otherwise).
    pub fn masquerade(&mut self) -> &mut Self {
        self.push("masq", |m| m.put_be32(1, NF_NAT_RANGE_PROTO_RANDOM_FULLY))
    }

    /// Refuses the packet with an answer. Not possible before routing.
    pub fn reject(&mut self, how: Reject) -> &mut Self {
        const ICMP: u32 = 0;
        const TCP_RESET: u32 = 1;
        let (kind, code) = match how {
            Reject::TcpReset => (TCP_RESET, 0),
            Reject::PortUnreachable => (ICMP, 3),
            Reject::Prohibited => (ICMP, 13),
        };
        self.push("reject", |m| {
            m.put_be32(1, kind);
            m.put_u8(2, code);
        })
    }

    /// Counts packets and bytes.
    pub fn counter(&mut self) -> &mut Self {
        self.push("counter", |m| {
            m.put_be64(1, 0);
            m.put_be64(2, 0);
        })
    }
}
