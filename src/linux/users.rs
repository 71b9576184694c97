//! Users and groups of a root filesystem, read from its own files: a static program has no NSS,
//! and the host's answers would be wrong.

/// Largest passwd or group file that is read.
pub const MAX_FILE: u64 = 1 << 20;

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home folder.
    pub home: String,
}

/// A line of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Login names of the members.
    pub members: Vec<String>,
}

fn fields(file: &[u8]) -> impl Iterator<Item = Vec<String>> {
    file.split(|b| *b == b'\n')
        .map(|line| String::from_utf8_lossy(line).trim().split(':').map(str::to_owned).collect())
}

/// The users of a passwd file; broken lines are left out.
pub fn users(passwd: &[u8]) -> impl Iterator<Item = User> {
    fields(passwd).filter_map(|f| {
        let [name, _, uid, gid, ..] = f.as_slice() else { return None };
        Some(User {
            name: name.clone(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: f.get(5).cloned().unwrap_or_default(),
        })
    })
}

/// The groups of a group file; broken lines are left out.
pub fn groups(group: &[u8]) -> impl Iterator<Item = Group> {
    fields(group).filter_map(|f| {
        let [name, _, gid, ..] = f.as_slice() else { return None };
        Some(Group {
            name: name.clone(),
            gid: gid.parse().ok()?,
            members: f
                .get(3)
                .map(|m| m.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_good_and_bad() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad\n#c\nweb:x:33:34::/srv:\nneg:x:-1:0\n";
        let all: Vec<_> = users(passwd).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], User { name: "web".into(), uid: 33, gid: 34, home: "/srv".into() });
        let group = b"root:x:0:\nweb:x:34:\nlog:x:4:web,root\n";
        let member: Vec<_> =
            groups(group).filter(|g| g.members.iter().any(|m| m == "web")).map(|g| g.gid).collect();
        assert_eq!(member, [4]);
    }
}
