//! From the names of users and groups to the numbers that the kernel knows.
//!
//! It reads `/etc/passwd` and `/etc/group` as they are; directories behind NSS (LDAP and the like) are not asked, for
//! that would take C code in this process. Numbers are accepted everywhere, so such users can be given by number.

use terrace_runtime::spawn::Identity;

/// Whom a service becomes, and the variables that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) identity: Identity,
    /// `HOME`, `USER` and `LOGNAME`, where the user is known by name.
    pub(crate) env: Vec<(String, String)>,
}

/// The machine's users as text, so that tests can bring their own.
pub(crate) struct Directory {
    passwd: String,
    group: String,
}

struct User<'a> {
    name: &'a str,
    user: u32,
    group: u32,
    home: &'a str,
}

impl Directory {
    /// Reads the files; what cannot be read is empty, and then only numbers are known.
    pub(crate) fn read() -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { passwd: text("/etc/passwd"), group: text("/etc/group") }
    }

    /// Whom `user` and `group` mean. `own` is this process's user and group.
    pub(crate) fn resolve(
        &self,
        user: Option<&str>,
        group: Option<&str>,
        own: (u32, u32),
    ) -> Result<Option<Account>, String> {
        let account = match (user, group) {
            (None, None) => return Ok(None),
            (Some(user), group) => self.account(user, group)?,
            (None, Some(group)) => self.group_only(group, own.0)?,
        };
        let same = (account.identity.user, account.identity.group) == own;
        match own.0 {
            0 => Ok(Some(account)),
            _ if same => Ok(None),
            uid => Err(needs_root(user, group, uid)),
        }
    }

    fn account(&self, user: &str, group: Option<&str>) -> Result<Account, String> {
        let known = self.user(user);
        let id = match (&known, user.parse()) {
            (Some(known), _) => known.user,
            (None, Ok(id)) => id,
            (None, Err(_)) => {
                return Err(format!(
                    "there is no user `{user}` in /etc/passwd; create it, or give its number"
                ));
            }
        };
        let primary = match (group, &known) {
            (Some(group), _) => self.group(group)?,
            (None, Some(known)) => known.group,
            (None, None) => {
                return Err(format!(
                    "user {user} has no name here, so its group is not known; give `group` too"
                ));
            }
        };
        let groups = known.as_ref().map(|known| self.memberships(known.name)).unwrap_or_default();
        let env = known.map(|known| variables(&known)).unwrap_or_default();
        Ok(Account { identity: Identity { user: id, group: primary, groups }, env })
    }

    fn group_only(&self, group: &str, own_user: u32) -> Result<Account, String> {
        let group = self.group(group)?;
        Ok(Account { identity: Identity { user: own_user, group, groups: Vec::new() }, env: Vec::new() })
    }

    fn user(&self, wanted: &str) -> Option<User<'_>> {
        self.passwd
            .lines()
            .filter_map(parse_user)
            .find(|user| user.name == wanted || user.user.to_string() == wanted)
    }

    fn group(&self, wanted: &str) -> Result<u32, String> {
        let known = self.groups().find(|(name, ..)| *name == wanted).map(|(_, id, _)| id);
        match (known, wanted.parse()) {
            (Some(id), _) | (None, Ok(id)) => Ok(id),
            (None, Err(_)) => {
                Err(format!("there is no group `{wanted}` in /etc/group; create it, or give its number"))
            }
        }
    }

    fn memberships(&self, user: &str) -> Vec<u32> {
        let member = |members: &str| members.split(',').any(|member| member == user);
        self.groups().filter(|(_, _, members)| member(members)).map(|(_, id, _)| id).collect()
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let id = fields.nth(1)?.parse().ok()?;
            Some((name, id, fields.next().unwrap_or_default()))
        })
    }
}

fn parse_user(line: &str) -> Option<User<'_>> {
    let fields: Vec<&str> = line.split(':').collect();
    match fields.as_slice() {
        [name, _, user, group, _, home, ..] => {
            Some(User { name, user: user.parse().ok()?, group: group.parse().ok()?, home })
        }
        _ => None,
    }
}

fn variables(user: &User<'_>) -> Vec<(String, String)> {
    [("HOME", user.home), ("USER", user.name), ("LOGNAME", user.name)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn needs_root(user: Option<&str>, group: Option<&str>, uid: u32) -> String {
    let whom = match (user, group) {
        (Some(user), _) => format!("user `{user}`"),
        (None, group) => format!("group `{}`", group.unwrap_or_default()),
    };
    format!(
        "only root may run it as {whom}, and Terrace runs as user {uid}; start Terrace as root, or leave the key out"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        Directory {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1001:1002:App:/srv/app:/bin/false\n"
                .to_owned(),
            group: "root:x:0:\nweb:x:33:app,other\napp:x:1002:\ntape:x:26:other\nlogs:x:44:app\n".to_owned(),
        }
    }

    #[test]
    fn a_user_brings_its_groups_and_its_home() {
        let account = directory().resolve(Some("app"), None, (0, 0)).expect("known").expect("another user");
        assert_eq!(account.identity, Identity { user: 1001, group: 1002, groups: vec![33, 44] });
        assert!(account.env.contains(&("HOME".to_owned(), "/srv/app".to_owned())));
    }

    #[test]
    fn numbers_are_understood() {
        let account =
            directory().resolve(Some("4242"), Some("33"), (0, 0)).expect("numbers").expect("another user");
        assert_eq!(account.identity, Identity { user: 4242, group: 33, groups: vec![] });
        let refused = directory().resolve(Some("4242"), None, (0, 0)).expect_err("its group is not known");
        assert!(refused.contains("give `group` too"), "{refused}");
    }

    #[test]
    fn an_unknown_name_is_told() {
        let refused = directory().resolve(Some("nobody-here"), None, (0, 0)).expect_err("unknown");
        assert!(refused.contains("no user `nobody-here`"), "{refused}");
        let refused = directory().resolve(None, Some("nowhere"), (0, 0)).expect_err("unknown");
        assert!(refused.contains("no group `nowhere`"), "{refused}");
    }

    #[test]
    fn without_root_only_the_present_user_will_do() {
        let refused = directory().resolve(Some("app"), None, (1000, 1000)).expect_err("not root");
        assert!(refused.contains("only root"), "{refused}");
        assert_eq!(directory().resolve(Some("app"), None, (1001, 1002)), Ok(None));
    }
}
