//! Which addresses an upstream may have, and connecting to one of them.
//!
//! A name is looked up once, and what is checked is what is connected to: whoever rules the name's zone
//! cannot lead the agent elsewhere between the two (DNS rebinding), nor to this machine's own cloud, whose
//! metadata service hands out credentials to whoever asks. Pure but for [`Addresses::connect`].

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Addresses of a name that are tried. Names of large services have a handful; a list without end
/// would keep a call waiting for its whole time-out.
const MAX_ADDRESSES: usize = 16;
/// After so long without an answer the next address is tried as well: what RFC 8305, section 5, recommends. With it the
/// last of all addresses is tried well within the shortest usual `connect_timeout`.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Networks that an upstream's address is refused in unless they are listed: those of this link only
/// (RFC 3927, RFC 4291), where clouds have their metadata services, and the other places where they do.
const SENSITIVE_V4: [Ipv4Net; 4] = [
    // AWS, Azure, Google, OpenStack and others: 169.254.169.254; AWS ECS: 169.254.170.2.
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    // Alibaba Cloud.
    Ipv4Net::new_assert(Ipv4Addr::new(100, 100, 100, 200), 32),
    // Azure's host.
    Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32),
    // Oracle Cloud, of old.
    Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 192), 32),
];
const SENSITIVE_V6: [Ipv6Net; 3] = [
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    // AWS: fd00:ec2::254 and its neighbours.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    // Google: fd20:ce::254.
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
];
/// Networks in whose IPv6 addresses an IPv4 address stands, by which somebody reaches it, and at which of the bytes.
const CARRYING_V4: [(Ipv6Net, &[[usize; 4]]); 4] = [
    // A translator's (RFC 6052).
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
        &[[12, 13, 14, 15]],
    ),
    // A translator's for local use, which may have its prefix as long as it likes (RFC 8215; RFC 6052, section 2.2).
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
        &[
            [12, 13, 14, 15],
            [9, 10, 11, 12],
            [7, 9, 10, 11],
            [6, 7, 9, 10],
        ],
    ),
    // 6to4 (RFC 3056).
    (
        Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
        &[[2, 3, 4, 5]],
    ),
    // The compatible form of old (RFC 4291, section 2.5.5.1).
    (
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 96),
        &[[12, 13, 14, 15]],
    ),
];

/// The networks that an upstream's addresses are limited to; without any, all but sensitive ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    networks: Vec<Network>,
}

/// A network, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// A text that is neither a network nor an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is neither a network nor an address")]
pub struct NotANetwork;

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Prohibited {
    /// Never an address of one service: unspecified, multicast or broadcast.
    #[error("{0} is not the address of a service")]
    Nobody(IpAddr),
    /// Outside of the upstream's list.
    #[error("{0} is in none of the networks in the upstream's addresses")]
    NotListed(IpAddr),
    /// Link-local, or a cloud's metadata service, and not listed.
    #[error(
        "{0} is a link-local address or a cloud's metadata service; if it is meant, list it in the upstream's addresses"
    )]
    Sensitive(IpAddr),
}

/// Why there is no TCP connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The name could not be resolved.
    #[error("the name {host:?} could not be resolved")]
    Resolve {
        /// The host's name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// None of the host's addresses may be connected to.
    #[error("no address of {host} may be connected to")]
    Prohibited {
        /// The host's name.
        host: String,
        /// Why not to the last of them.
        source: Prohibited,
    },
    /// No TCP connection to any of the host's addresses.
    #[error("no TCP connection to {host}:{port}")]
    Tcp {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said of the last address that was tried.
        source: io::Error,
    },
}

impl Addresses {
    /// Limited to these networks; to none in particular when there are none.
    #[must_use]
    pub const fn of(networks: Vec<Network>) -> Self {
        Self { networks }
    }

    /// Whether an upstream may have this address. An IPv4 address in the form of IPv6 counts as IPv4.
    ///
    /// # Errors
    /// [`Prohibited`].
    pub fn check(&self, address: IpAddr) -> Result<(), Prohibited> {
        let address = address.to_canonical();
        if is_nobodys(address) {
            return Err(Prohibited::Nobody(address));
        }
        if self.networks.iter().any(|network| network.holds(address)) {
            return Ok(());
        }
        if is_sensitive(address) {
            return Err(Prohibited::Sensitive(address));
        }
        match self.networks.is_empty() {
            true => Ok(()),
            false => Err(Prohibited::NotListed(address)),
        }
    }

    /// Looks a host up and connects to that of its addresses that may be connected to and is first there.
    ///
    /// An address that does not answer holds nothing up: the next one is tried beside it after a moment, in turns by
    /// kind of address (RFC 8305). Dropped, all attempts end.
    ///
    /// # Errors
    /// [`ReachError`].
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ReachError> {
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|source| ReachError::Resolve {
            host: host.to_owned(),
            source,
        })?;
        self.connect_to_one(host, port, found.take(MAX_ADDRESSES))
            .await
    }

    async fn connect_to_one(
        &self,
        host: &str,
        port: u16,
        found: impl Iterator<Item = SocketAddr>,
    ) -> Result<TcpStream, ReachError> {
        let mut prohibited = None;
        let permitted = found.filter(|address| match self.check(address.ip()) {
            Ok(()) => true,
            Err(why) => {
                prohibited = Some(why);
                false
            }
        });
        let permitted = in_turns(permitted.collect());
        match (permitted.is_empty(), prohibited) {
            (true, Some(source)) => Err(ReachError::Prohibited {
                host: host.to_owned(),
                source,
            }),
            (_, _) => first_of(permitted).await.map_err(|source| ReachError::Tcp {
                host: host.to_owned(),
                port,
                source,
            }),
        }
    }
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| NotANetwork)?,
        };
        // Addresses are compared as IPv4 where they can be.
        let IpNet::V6(v6) = network else {
            return Ok(Self(network));
        };
        let v4 = v6.addr().to_ipv4_mapped();
        let bits = v6.prefix_len().checked_sub(96);
        match v4.zip(bits) {
            Some((v4, bits)) => Ipv4Net::new(v4, bits)
                .map(|v4| Self(v4.into()))
                .map_err(|_| NotANetwork),
            None => Ok(Self(network)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// IPv4 and IPv6 by turns, each in the resolver's order, beginning with its first (RFC 8305, section 4).
fn in_turns(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let begins_with_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|address| address.is_ipv6() == begins_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        turns.extend(first.next());
        turns.extend(second.next());
    }
    turns
}

/// The connection that is there first; one more address is tried whenever one has failed, and when none has answered
/// for [`NEXT_AFTER`].
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let Some(first) = waiting.next() else {
        return Err(failure);
    };
    if waiting.len() == 0 {
        return TcpStream::connect(first).await;
    }
    // All of them end when this is dropped.
    let mut attempts = JoinSet::new();
    attempts.spawn(TcpStream::connect(first));
    loop {
        tokio::select! {
            // Both are cancel-safe: an attempt that has ended stays in the set until it is taken.
            Some(ended) = attempts.join_next() => match ended.map_err(io::Error::other) {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) | Err(error) => failure = error,
            },
            () = tokio::time::sleep(NEXT_AFTER), if waiting.len() > 0 => {}
            else => return Err(failure),
        }
        if let Some(next) = waiting.next() {
            attempts.spawn(TcpStream::connect(next));
        }
    }
}

/// Whether no service can have this address. 0.0.0.0 leads to this machine on Linux, and with it the
/// network that it stands in.
fn is_nobodys(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 0 || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    }
}

fn is_sensitive(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => SENSITIVE_V4.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(v6) => {
            SENSITIVE_V6.iter().any(|network| network.contains(&v6))
                || carried(v6).any(|v4| is_sensitive(v4.into()))
        }
    }
}

/// The IPv4 addresses that could be meant by an IPv6 one.
fn carried(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let octets = address.octets();
    CARRYING_V4
        .iter()
        .filter(move |(network, _)| network.contains(&address))
        .flat_map(|(_, places)| *places)
        .map(move |place| Ipv4Addr::from(place.map(|at| octets[at])))
}

#[cfg(test)]
mod tests;
