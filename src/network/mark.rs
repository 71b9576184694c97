//! How what is ours is told from what is not, so that it can be found and removed.

use netlink::rtnl::Mac;

/// What the names of our interfaces begin with.
pub const INTERFACE_PREFIX: &str = "kn";

/// The interface group of our interfaces ("kn" in ASCII). Nothing else uses a group this high.
pub const INTERFACE_GROUP: u32 = 0x6b6e;

/// The protocol of our routes, as in `ip route show proto 107`. Numbers up to 99 and from 186 to
/// 199 have owners in `/etc/iproute2/rt_protos`.
pub const ROUTE_PROTOCOL: u8 = 107;

/// The label of the addresses that we hold on the loopback interface.
pub const ADDRESS_LABEL: &str = "lo:kn";

/// The bit of a packet's mark that says "masquerade this", the one that kube-proxy uses for it.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// The hardware address of the host's end of every veth pair. They are links of two, so it need
/// not be unique, and that it is known beforehand spares pods from asking for it.
pub const HOST_MAC: Mac = [0x0e, 0x6b, 0, 0, 0, 1];
