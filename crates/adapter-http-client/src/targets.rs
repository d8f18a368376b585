//! Which addresses may be reached.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

/// The public internet, and such private ranges as the operator named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedTargets {
    /// Ranges outside of the public internet that may be reached as well: `127.0.0.0/8`, `10.1.0.0/16`, …
    pub private_ranges: Vec<IpNet>,
}

impl AllowedTargets {
    /// Loopback besides the public internet: for a service that only listens on loopback itself.
    pub fn with_loopback() -> Self {
        Self {
            private_ranges: ["127.0.0.0/8", "::1/128"]
                .map(|range| range.parse().expect("a literal CIDR parses"))
                .into(),
        }
    }

    /// Whether a connection to this address may be made.
    pub fn permits(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6's clothes is reached as the IPv4 address.
        let address = address.to_canonical();
        is_public(address) || self.private_ranges.iter().any(|net| net.contains(&address))
    }

    /// Checks what a URL says by itself: its scheme, and its host where that is an address. Names are checked when they
    /// are resolved.
    pub(crate) fn check(&self, url: &Url) -> Result<(), NotAllowed> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NotAllowed::Scheme(url.scheme().to_owned()));
        }
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) if !self.permits(address) => Err(NotAllowed::Address(host.to_owned())),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// A target that the operator has not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAllowed {
    #[error("`{0}` URLs are not sent: use http or https")]
    Scheme(String),
    #[error(
        "{0} is not a public address: add its range to the allowed private ranges (--http-allow) if steps may reach it"
    )]
    Address(String),
    #[error(
        "{0} has no public address: add its range to the allowed private ranges (--http-allow) if steps may reach it"
    )]
    Name(String),
}

/// IPv4 ranges of the IANA special-purpose registry that are not globally reachable, multicast and the reserved class E.
const NOT_PUBLIC_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Within IPv6's only public range, `2000::/3`: protocol assignments with Teredo, documentation, and 6to4, which
/// carries an IPv4 address that may be private.
const NOT_PUBLIC_V6: [([u16; 8], u8); 4] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];

fn is_public(address: IpAddr) -> bool {
    let within = |network: IpAddr, bits| {
        IpNet::new(network, bits).is_ok_and(|range| range.contains(&address))
    };
    match address {
        IpAddr::V4(_) => !NOT_PUBLIC_V4
            .iter()
            .any(|&(network, bits)| within(network.into(), bits)),
        IpAddr::V6(v6) => {
            v6.segments()[0] & 0xe000 == 0x2000
                && !NOT_PUBLIC_V6
                    .iter()
                    .any(|&(network, bits)| within(network.into(), bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(targets: &AllowedTargets, address: &str) -> bool {
        targets.permits(address.parse().expect("a literal address parses"))
    }

    #[test]
    fn public_addresses_are_permitted() {
        let none = AllowedTargets::default();
        for address in [
            "1.1.1.1",
            "93.184.216.34",
            "172.32.0.1",
            "2606:4700:4700::1111",
            "2a00::1",
        ] {
            assert!(permits(&none, address), "{address}");
        }
    }

    #[test]
    fn everything_that_is_not_public_is_refused() {
        let none = AllowedTargets::default();
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "::7f00:1",
        ] {
            assert!(!permits(&none, address), "{address}");
        }
    }

    #[test]
    fn an_allowed_range_opens_itself_and_nothing_else() {
        let targets = AllowedTargets {
            private_ranges: vec!["10.1.0.0/16".parse().unwrap()],
        };
        assert!(permits(&targets, "10.1.2.3"));
        assert!(permits(&targets, "::ffff:10.1.2.3"));
        assert!(!permits(&targets, "10.2.0.1"));
        assert!(!permits(&targets, "127.0.0.1"));
    }

    #[test]
    fn an_address_in_any_spelling_is_seen_in_a_url() {
        let none = AllowedTargets::default();
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://[::1]:8080/",
            "http://[::ffff:127.0.0.1]/",
            "http://127.0.0.1./",
        ] {
            let refused = none.check(&url.parse().unwrap());
            assert!(
                matches!(refused, Err(NotAllowed::Address(_))),
                "{url}: {refused:?}"
            );
        }
        assert_eq!(none.check(&"https://example.com/".parse().unwrap()), Ok(()));
        assert!(matches!(
            none.check(&"ftp://example.com/".parse().unwrap()),
            Err(NotAllowed::Scheme(_))
        ));
    }
}
