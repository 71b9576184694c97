//! IP addresses and CIDRs in fields, as strict as upstream's StrictIPCIDRValidation makes them.

use std::net::IpAddr;

use apimachinery::field::Path;

use super::validation::{Errors, Report as _};

const BAD_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const BAD_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address in a field from before canonical forms were asked for.
pub(crate) fn ip(value: &str, path: &Path, errors: &mut Errors) -> Option<IpAddr> {
    match value.parse::<IpAddr>() {
        Err(_) if sloppy(value) => errors.invalid(path, value, "must not have leading 0s"),
        Err(_) => errors.invalid(path, value, BAD_IP),
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            errors.invalid(path, value, "must not be an IPv4-mapped IPv6 address");
        }
        Ok(ip) => return Some(ip),
    }
    None
}

/// Whether the text is an address, leading zeros or not.
pub(crate) fn is_ip(value: &str) -> bool {
    value.parse::<IpAddr>().is_ok() || sloppy(value)
}

/// An address in canonical form.
pub(crate) fn canonical_ip(value: &str, path: &Path, errors: &mut Errors) -> Option<IpAddr> {
    let ip = ip(value, path, errors)?;
    let canonical = ip.to_string();
    if value != canonical {
        errors.invalid(path, value, &format!("must be in canonical form ({canonical:?})"));
    }
    Some(ip)
}

/// An address that packets can be sent to: no special one.
pub(crate) fn endpoint_ip(value: &str, path: &Path, errors: &mut Errors) {
    let Some(ip) = lenient(value) else {
        return errors.invalid(path, value, "must be a valid IP address");
    };
    if ip.is_unspecified() {
        let detail = format!("may not be unspecified ({value})");
        errors.invalid(path, value, &detail);
    }
    if ip.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        errors.invalid(path, value, detail);
    }
    let (link_local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => {
            (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02)
        }
    };
    if link_local {
        let detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        errors.invalid(path, value, detail);
    }
    if multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.invalid(path, value, detail);
    }
}

/// An address whose parts may have leading zeros.
fn lenient(value: &str) -> Option<IpAddr> {
    if !sloppy(value) {
        return value.parse().ok();
    }
    let bytes: Vec<u8> = value.split('.').filter_map(|part| part.parse().ok()).collect();
    <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Whether it is an IPv4 address but for leading zeros.
fn sloppy(value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    parts.len() == 4
        && parts.iter().all(|part| {
            part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u32>().is_ok_and(|n| n < 256)
        })
}

/// A network: address and prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Cidr {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let canonical = length.bytes().all(|b| b.is_ascii_digit())
            && (length == "0" || !length.starts_with('0'));
        let length = length.parse().ok().filter(|_| canonical)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (length <= most).then_some(Self { address, length })
    }

    /// The address with the bits behind the prefix cleared.
    pub(crate) fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        }
    }

    /// Whether `other` is a part of this network and not the whole of it.
    pub(crate) fn contains_part(&self, other: &Self) -> bool {
        let cut = Self { address: other.address, length: self.length };
        self.address.is_ipv4() == other.address.is_ipv4()
            && other.length > self.length
            && cut.network() == self.network()
    }
}

/// A network in a field from before canonical forms were asked for.
pub(crate) fn cidr(value: &str, path: &Path, errors: &mut Errors) -> Option<Cidr> {
    let Some(cidr) = Cidr::parse(value) else {
        let address = value.split_once('/').map(|(address, _)| address).unwrap_or_default();
        let detail = match sloppy(address) {
            true => "must not have leading 0s in IP or prefix length",
            false => BAD_CIDR,
        };
        // 10.0.0.0/33 is no form of anything, leading zeros or not.
        let length = value.rsplit('/').next().and_then(|length| length.parse::<u32>().ok());
        let detail = if length.is_none_or(|length| length > 32) { BAD_CIDR } else { detail };
        errors.invalid(path, value, detail);
        return None;
    };
    if matches!(cidr.address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        errors.invalid(path, value, "must not have an IPv4-mapped IPv6 address");
    } else if cidr.address != cidr.network() {
        errors.invalid(path, value, "must not have bits set beyond the prefix length");
    }
    Some(cidr)
}

/// A network in canonical form.
pub(crate) fn canonical_cidr(value: &str, path: &Path, errors: &mut Errors) -> Option<Cidr> {
    let before = errors.len();
    let cidr = cidr(value, path, errors)?;
    let canonical = format!("{}/{}", cidr.address, cidr.length);
    if errors.len() == before && value != canonical {
        errors.invalid(path, value, &format!("must be in canonical form ({canonical:?})"));
    }
    Some(cidr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::validation::texts;

    #[test]
    fn addresses_are_judged_as_upstream_does() {
        let check = |value: &str| {
            let mut errors = Errors::new();
            canonical_ip(value, &Path::root("ip"), &mut errors);
            texts(&errors).join("; ")
        };
        assert_eq!(check("10.0.0.1"), "");
        assert_eq!(check("::1"), "");
        assert!(check("010.0.0.1").ends_with("must not have leading 0s"));
        assert!(check("::ffff:1.2.3.4").ends_with("must not be an IPv4-mapped IPv6 address"));
        assert!(check("0:0::1").ends_with(r#"must be in canonical form ("::1")"#));
        assert!(check("x").ends_with(BAD_IP));
    }

    #[test]
    fn networks_are_judged_as_upstream_does() {
        let check = |value: &str| {
            let mut errors = Errors::new();
            cidr(value, &Path::root("cidr"), &mut errors);
            texts(&errors).join("; ")
        };
        assert_eq!(check("10.0.0.0/8"), "");
        assert_eq!(check("0.0.0.0/0"), "");
        assert_eq!(check("fd00::/64"), "");
        assert!(check("10.0.0.1/8").ends_with("must not have bits set beyond the prefix length"));
        assert!(check("10.0.0.0").ends_with(BAD_CIDR));
        assert!(check("10.0.0.0/33").ends_with(BAD_CIDR));
        assert!(check("010.0.0.0/8").ends_with("leading 0s in IP or prefix length"));
        let outer = Cidr::parse("10.0.0.0/8").unwrap();
        assert!(outer.contains_part(&Cidr::parse("10.1.0.0/16").unwrap()));
        assert!(!outer.contains_part(&outer));
    }
}
