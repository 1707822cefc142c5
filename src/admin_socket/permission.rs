//! Who is at the other end of the socket, and whether they may speak. Decides nothing by what they say.

use std::ffi::CString;
use std::io;
use std::time::Duration;

use http::StatusCode;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use tokio::net::UnixStream;

use crate::problem::Problem;

/// The code of the problem that a stranger gets.
pub(super) const NOT_PERMITTED: &str = "peer-not-permitted";
/// How long the system's user directory may take to say which groups a user is in; it may ask an LDAP
/// server. Without an answer the peer is not permitted.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// The process at the other end, as the kernel knows it (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Process id, where the kernel tells it.
    pub pid: Option<i32>,
}

/// Who may speak.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permission {
    /// The daemon's own user.
    own: Uid,
    /// The group whose members may.
    group: Option<Gid>,
}

impl Peer {
    /// Asks the kernel.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid(),
        })
    }
}

impl Permission {
    /// Root, the user of this process and, where given, members of the group.
    pub(super) fn new(group: Option<Gid>) -> Self {
        Self {
            own: Uid::effective(),
            group,
        }
    }

    /// Lets the peer pass, or makes the answer that refuses.
    pub(super) async fn check(self, peer: Peer) -> Result<(), Problem> {
        if self.permits(peer, &[]) {
            return Ok(());
        }
        if self.group.is_some() {
            // The look-up may block, and its thread cannot be ended: it is left to finish by itself.
            let groups = tokio::task::spawn_blocking(move || groups_of(peer));
            let groups = tokio::time::timeout(LOOK_UP_TIMEOUT, groups).await;
            if let Ok(Ok(groups)) = groups
                && self.permits(peer, &groups)
            {
                return Ok(());
            }
        }
        Err(self.refusal(peer))
    }

    /// Whether the peer may speak, given the groups its user is in.
    fn permits(self, peer: Peer, groups: &[Gid]) -> bool {
        let uid = Uid::from_raw(peer.uid);
        let is_member = |group: Gid| group.as_raw() == peer.gid || groups.contains(&group);
        uid.is_root() || uid == self.own || self.group.is_some_and(is_member)
    }

    fn refusal(self, peer: Peer) -> Problem {
        let group = self.group.map(|gid| match Group::from_gid(gid) {
            Ok(Some(group)) => group.name,
            Ok(None) | Err(_) => gid.to_string(),
        });
        let members = group.map_or_else(String::new, |name| format!(", a member of group {name}"));
        Problem::new(
            StatusCode::FORBIDDEN,
            NOT_PERMITTED,
            "this user may not use the admin socket",
        )
        .detail(format!(
            "user id {} is none of: root, the daemon's own user (id {}){members}",
            peer.uid, self.own
        ))
    }
}

/// All groups of the peer's user, by the system's user directory; none when it knows no such user.
fn groups_of(peer: Peer) -> Vec<Gid> {
    let user = User::from_uid(Uid::from_raw(peer.uid)).ok().flatten();
    let name = user.and_then(|user| CString::new(user.name).ok());
    let groups = name.and_then(|name| getgrouplist(&name, Gid::from_raw(peer.gid)).ok());
    groups.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERMISSION: Permission = Permission {
        own: Uid::from_raw(900),
        group: Some(Gid::from_raw(800)),
    };

    fn permits(permission: Permission, uid: u32, gid: u32, groups: &[u32]) -> bool {
        let groups: Vec<_> = groups.iter().copied().map(Gid::from_raw).collect();
        permission.permits(
            Peer {
                uid,
                gid,
                pid: None,
            },
            &groups,
        )
    }

    #[test]
    fn root_the_own_user_and_members_may_speak_and_nobody_else() {
        assert!(permits(PERMISSION, 0, 0, &[]));
        assert!(permits(PERMISSION, 900, 1, &[]));
        assert!(permits(PERMISSION, 1000, 800, &[]));
        assert!(permits(PERMISSION, 1000, 1000, &[5, 800]));
        assert!(!permits(PERMISSION, 1000, 1000, &[5, 900]));
        assert!(!permits(PERMISSION, 1000, 900, &[0]));
    }

    #[test]
    fn without_a_group_membership_means_nothing() {
        let permission = Permission {
            group: None,
            ..PERMISSION
        };
        assert!(!permits(permission, 1000, 800, &[800]));
    }

    #[tokio::test]
    async fn the_refusal_says_who_may() {
        let peer = Peer {
            uid: 54_321,
            gid: 54_321,
            pid: None,
        };
        let problem = PERMISSION.check(peer).await.unwrap_err();
        assert_eq!(
            (problem.status(), problem.code()),
            (StatusCode::FORBIDDEN, NOT_PERMITTED)
        );
        let detail = problem.to_json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains("user id 54321") && detail.contains("group 800"),
            "{detail}"
        );
    }
}
