//! Whose address a peer has, for limits that count by address. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// The address under which a peer is counted: one customer of an IPv6 provider has a whole /64, which
/// counts as one address; IPv4 written as IPv6 counts as IPv4.
#[must_use]
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => {
            let network = u128::from(v6) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted_as(address: &str) -> String {
        network_of(address.parse().unwrap()).to_string()
    }

    #[test]
    fn an_ipv6_customer_counts_as_one_address_and_mapped_ipv4_as_itself() {
        assert_eq!(counted_as("192.0.2.7"), "192.0.2.7");
        assert_eq!(counted_as("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted_as("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted_as("2001:db8:1:2::1"), "2001:db8:1:2::");
        assert_eq!(counted_as("2001:db8:1:3::1"), "2001:db8:1:3::");
    }
}
