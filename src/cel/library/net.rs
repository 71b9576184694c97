//! Addresses and networks.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::{Function, cost, function, operators::arg};
use crate::value::{EvalError, Outcome, Value};

const TEST: &[&str] = &["net.IP | -> bool"];

pub(super) const FUNCTIONS: &[Function] = &[
    function(
        "ip",
        |_, args| to_ip(args),
        cost::first,
        &["string -> net.IP", "net.CIDR | -> net.IP"],
    ),
    function("cidr", |_, args| to_cidr(args), cost::first, &["string -> net.CIDR"]),
    function("isIP", |_, a| reads(a, |text| ip(text).is_ok()), cost::first, &["string -> bool"]),
    function(
        "isCIDR",
        |_, a| reads(a, |text| cidr(text).is_ok()),
        cost::first,
        &["string -> bool"],
    ),
    function(
        "ip.isCanonical",
        |_, args| is_canonical(args),
        cost::first_twice,
        &["string -> bool"],
    ),
    function("family", |_, args| family(args), cost::one, &["net.IP | -> int"]),
    function("isUnspecified", |_, a| test(a, |ip| ip.is_unspecified()), cost::one, TEST),
    function("isLoopback", |_, a| test(a, |ip| ip.is_loopback()), cost::one, TEST),
    function("isLinkLocalMulticast", |_, a| test(a, link_local_multicast), cost::one, TEST),
    function("isLinkLocalUnicast", |_, a| test(a, link_local), cost::one, TEST),
    function("isGlobalUnicast", |_, a| test(a, global), cost::one, TEST),
    function(
        "containsIP",
        |_, args| contains_ip(args),
        cost::contains_ip,
        &["net.CIDR | string -> bool", "net.CIDR | net.IP -> bool"],
    ),
    function(
        "containsCIDR",
        |_, args| contains_cidr(args),
        cost::contains_cidr,
        &["net.CIDR | string -> bool", "net.CIDR | net.CIDR -> bool"],
    ),
    function("masked", |_, args| masked(args), cost::one, &["net.CIDR | -> net.CIDR"]),
    function("prefixLength", |_, args| prefix_length(args), cost::one, &["net.CIDR | -> int"]),
];

/// Reads an address.
fn ip(text: &str) -> Result<IpAddr, String> {
    if text.contains('%') && text.contains(':') {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): \
             unable to parse IP"
        )
    })?;
    if matches!(ip, IpAddr::V6(ip) if is_mapped(&ip)) {
        return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    Ok(ip)
}

fn is_mapped(ip: &Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some()
}

/// Reads a network.
fn cidr(text: &str) -> Result<IpNet, String> {
    let wrong = |why: &str| {
        format!(
            "network address parse error during conversion from string: network address parse \
             error during conversion from string: netip.ParsePrefix({text:?}): {why}"
        )
    };
    let Some((address, bits)) = text.rsplit_once('/') else { return Err(wrong("no '/'")) };
    let address: IpAddr = address
        .parse()
        .map_err(|_| wrong(&format!("ParseAddr({address:?}): unable to parse IP")))?;
    if bits.is_empty()
        || bits.len() > 3
        || !bits.bytes().all(|byte| byte.is_ascii_digit())
        || (bits.len() > 1 && bits.starts_with('0'))
    {
        return Err(wrong(&format!("bad bits after slash: {bits:?}")));
    }
    let bits: u8 = bits.parse().map_err(|_| wrong("prefix length out of range"))?;
    let net = IpNet::new(address, bits).map_err(|_| wrong("prefix length out of range"))?;
    if matches!(address, IpAddr::V6(ip) if is_mapped(&ip)) {
        return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    Ok(net)
}

fn to_ip<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::String(text) => ip(text).map(Value::Ip).map_err(EvalError::Failed),
        Value::Cidr(net) => Ok(Value::Ip(net.addr())),
        _ => EvalError::no_overload(),
    }
}

fn to_cidr<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::String(text) => cidr(text).map(Value::Cidr).map_err(EvalError::Failed),
        _ => EvalError::no_overload(),
    }
}

fn reads<'a>(args: &[Value<'a>], fits: fn(&str) -> bool) -> Outcome<'a> {
    match arg(args, 0) {
        Value::String(text) => Ok(Value::Bool(fits(text))),
        _ => EvalError::no_overload(),
    }
}

fn is_canonical<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::String(text) => match ip(text) {
            Ok(ip) => Ok(Value::Bool(ip.to_string() == **text)),
            Err(error) => EvalError::new(error),
        },
        _ => EvalError::no_overload(),
    }
}

fn family<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Ip(ip) => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
        _ => EvalError::no_overload(),
    }
}

fn test<'a>(args: &[Value<'a>], fits: fn(&IpAddr) -> bool) -> Outcome<'a> {
    match arg(args, 0) {
        Value::Ip(ip) => Ok(Value::Bool(fits(ip))),
        _ => EvalError::no_overload(),
    }
}

fn link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    }
}

fn link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn global(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !link_local(ip)
}

fn net<'v>(args: &'v [Value<'_>]) -> Result<&'v IpNet, EvalError> {
    match arg(args, 0) {
        Value::Cidr(net) => Ok(net),
        _ => EvalError::no_overload(),
    }
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let other = match arg(args, 1) {
        Value::Ip(other) => *other,
        Value::String(text) => ip(text).or_else(|_| EvalError::no_overload())?,
        _ => return EvalError::no_overload(),
    };
    Ok(Value::Bool(net(args)?.contains(&other)))
}

fn contains_cidr<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let other = match arg(args, 1) {
        Value::Cidr(other) => *other,
        Value::String(text) => cidr(text).or_else(|_| EvalError::no_overload())?,
        _ => return EvalError::no_overload(),
    };
    Ok(Value::Bool(net(args)?.contains(&other)))
}

fn masked<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Cidr(net(args)?.trunc()))
}

fn prefix_length<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Int(net(args)?.prefix_len().into()))
}
