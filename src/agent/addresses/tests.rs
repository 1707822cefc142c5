//! Every form in which an address can stand, and whom a name leads to.

use tokio::net::TcpListener;

use super::*;

/// Where nobody listens, and nobody can dial from.
const NOBODY: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

fn addresses(networks: &[&str]) -> Addresses {
    Addresses::of(networks.iter().map(|it| it.parse().unwrap()).collect())
}

fn verdict(networks: &[&str], address: &str) -> Result<(), Prohibited> {
    addresses(networks).check(address.parse().unwrap())
}

#[test]
fn without_a_list_all_but_sensitive_addresses_are_taken() {
    for address in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "203.0.113.7",
        "2001:db8::1",
        "fd00::1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "2002:a00:1::1",
        "::10.0.0.1",
    ] {
        assert_eq!(verdict(&[], address), Ok(()), "{address}");
    }
    for address in [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        // The same at every place where a translator's prefix for local use may put it.
        "64:ff9b:1::169.254.169.254",
        "64:ff9b:1:0:a9:fea9:fe00:0",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::1",
        "2002:6464:64c8::",
        "::169.254.169.254",
        "169.254.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fe80::1",
        "febf::1",
        "fd00:ec2::254",
        "fd20:ce::254",
    ] {
        assert!(
            matches!(verdict(&[], address), Err(Prohibited::Sensitive(_))),
            "{address}"
        );
    }
}

#[test]
fn a_list_is_the_limit_and_takes_sensitive_addresses_too() {
    let list = [
        "10.0.0.0/8",
        "169.254.170.2",
        "2001:db8::/32",
        "::ffff:192.0.2.0/120",
    ];
    for address in [
        "10.255.255.255",
        "::ffff:10.0.0.1",
        "169.254.170.2",
        "2001:db8:1::1",
        "192.0.2.9",
        "::ffff:192.0.2.9",
    ] {
        assert_eq!(verdict(&list, address), Ok(()), "{address}");
    }
    for address in [
        "11.0.0.1",
        "127.0.0.1",
        "::1",
        "2001:db9::1",
        "192.0.3.1",
        "::10.0.0.1",
    ] {
        assert!(
            matches!(verdict(&list, address), Err(Prohibited::NotListed(_))),
            "{address}"
        );
    }
    assert!(matches!(
        verdict(&list, "169.254.169.254"),
        Err(Prohibited::Sensitive(_))
    ));
}

#[test]
fn what_is_no_services_address_is_refused_even_when_it_is_listed() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
    ] {
        assert!(
            matches!(
                verdict(&["0.0.0.0/0", "::/0"], address),
                Err(Prohibited::Nobody(_))
            ),
            "{address}"
        );
    }
}

#[test]
fn a_network_is_written_in_one_way() {
    for text in [
        "",
        "10",
        "10.0.0.0/33",
        "10.0.0.0/",
        "jira.corp.local",
        "10.0.0.0/255.0.0.0",
        "[::1]",
    ] {
        assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
    }
    assert_eq!(
        "::ffff:10.0.0.0/104"
            .parse::<Network>()
            .unwrap()
            .to_string(),
        "10.0.0.0/8"
    );
    assert_eq!(
        "10.1.2.3".parse::<Network>().unwrap().to_string(),
        "10.1.2.3/32"
    );
}

#[tokio::test]
async fn of_several_addresses_the_prohibited_ones_are_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let bad: SocketAddr = ([127, 0, 0, 2], good.port()).into();
    let only = addresses(&["127.0.0.1"]);
    let connected = only.connect_to_one("jira", good.port(), [bad, good].into_iter());
    assert_eq!(connected.await.unwrap().peer_addr().unwrap(), good);
    let refused = only
        .connect_to_one("jira", good.port(), [bad].into_iter())
        .await;
    let Err(ReachError::Prohibited { source, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(source, Prohibited::NotListed(bad.ip()));
}

#[test]
fn kinds_of_addresses_take_turns() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let found = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"];
    let turns = in_turns(found.into_iter().map(address).collect());
    let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"];
    assert_eq!(turns, expected.map(address));
    assert_eq!(in_turns(Vec::new()), []);
}

#[tokio::test]
async fn an_address_that_does_not_answer_holds_nothing_up() {
    // A queue that is full, and nobody who takes from it: what comes then is neither taken nor refused.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
    silent.bind(&anywhere.into()).unwrap();
    silent.listen(0).unwrap();
    let silent_address = silent.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(tcp)) =
        tokio::time::timeout(NEXT_AFTER, TcpStream::connect(silent_address)).await
    {
        queued.push(tcp);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap();
    let closed = SocketAddr::from(NOBODY);
    let found = [silent_address, closed, good];
    let open = Addresses::default();
    let connecting = open.connect_to_one("jira", good.port(), found.into_iter());
    let connected = tokio::time::timeout(Duration::from_secs(120), connecting).await;
    assert_eq!(connected.unwrap().unwrap().peer_addr().unwrap(), good);
    // That all of several refuse is told as what the last one said.
    let refused = open.connect_to_one("jira", closed.port(), [closed, closed].into_iter());
    let Err(ReachError::Tcp { source, .. }) = refused.await else {
        panic!("connected to nobody");
    };
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn an_address_in_the_url_itself_is_checked_too() {
    let refused = Addresses::default().connect("169.254.169.254", 80).await;
    assert!(
        matches!(refused, Err(ReachError::Prohibited { .. })),
        "{refused:?}"
    );
    // Spellings that the system's resolver takes for addresses.
    for host in ["0xa9.0xfe.0xa9.0xfe", "2852039166", "0251.0376.0251.0376"] {
        let refused = Addresses::default().connect(host, 80).await;
        let is_refused = matches!(
            refused,
            Err(ReachError::Prohibited { .. } | ReachError::Resolve { .. })
        );
        assert!(is_refused, "{host}: {refused:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_apart_from_prohibited() {
    let (_, port) = NOBODY;
    let refused = Addresses::default().connect("127.0.0.1", port).await;
    assert!(
        matches!(refused, Err(ReachError::Tcp { .. })),
        "{refused:?}"
    );
}
