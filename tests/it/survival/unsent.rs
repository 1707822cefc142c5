//! What the kernel holds of a link and cannot send yet, which every small call would have to wait behind.

use std::fs;
use std::net::SocketAddr;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::SockRef;

use super::scene_by_cable;

/// Two writes of a link: 10 ms at 100 Mbit/s. Left to itself the kernel holds megabytes.
const MOST: u32 = 128 * 1024;

#[tokio::test]
async fn both_ends_of_a_link_let_the_kernel_hold_little_that_it_cannot_send_yet() {
    let (scene, cable) = scene_by_cable("").await;
    let relay = scene.relay.home().authority().parse().unwrap();
    let ends = [
        ("agent", bounds(|_, peer| peer == cable.address())),
        ("relay", bounds(|local, _| local == relay)),
    ];
    for (side, bounds) in ends {
        // Nought is no bound of its own. There is a socket more where an invitation was redeemed.
        let is_bounded = |bound: &u32| (1..=MOST).contains(bound);
        assert_eq!(
            bounds.iter().filter(|it| is_bounded(it)).count(),
            1,
            "{side}: {bounds:?}"
        );
    }
}

/// The bounds (`TCP_NOTSENT_LOWAT`) of the connections of this process, by their own and their other end's address.
fn bounds(is_meant: impl Fn(SocketAddr, SocketAddr) -> bool) -> Vec<u32> {
    let process = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let bound = |number| {
        // Other tests open and close theirs meanwhile.
        let copy = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?;
        let socket = SockRef::from(&copy);
        let local = socket.local_addr().ok()?.as_socket()?;
        let peer = socket.peer_addr().ok()?.as_socket()?;
        is_meant(local, peer).then(|| socket.tcp_notsent_lowat().unwrap())
    };
    numbers.filter_map(bound).collect()
}
