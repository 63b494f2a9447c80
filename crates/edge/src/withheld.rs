//! The folder that no request may reach: Terrace's own, where an app serves the files of its working folder.
//!
//! A program that serves what lies beside it is the first that anybody tries, and what lies beside it is also the state
//! folder, with the operator's token. So a service knows where that is, as seen from its working folder, and requests that
//! may be read as leading there are answered in its place.

use crate::problem::Problem;

/// A folder's path, as seen from the one that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld(Box<str>);

impl Withheld {
    /// The folder at that path, relative and with plain slashes; none, when it is empty.
    #[must_use]
    pub fn new(path: &str) -> Option<Self> {
        let path = path.trim_matches('/');
        // Some file systems know no case.
        (!path.is_empty()).then(|| Self(format!("/{path}/").to_ascii_lowercase().into()))
    }

    /// Refuses a path, which is in normal form, that leads there in any reading.
    pub(crate) fn check(&self, path: &str) -> Result<(), Problem> {
        let first = self.0.as_bytes()[1];
        let may_lead_there =
            memchr::memchr3(first, first.to_ascii_uppercase(), b'%', path.as_bytes()).is_some();
        if may_lead_there
            && (self.is_in(path) || terrace_http::other_readings(path).iter().any(|one| self.is_in(one)))
        {
            let detail = "what is in Terrace's own folder is shown to nobody";
            return Err(Problem::client(404, "http_request_denied", detail));
        }
        Ok(())
    }

    fn is_in(&self, path: &str) -> bool {
        format!("{path}/").to_ascii_lowercase().contains(&*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(path: &str) -> bool {
        let normal = terrace_http::normalise(path).expect("a path");
        Withheld::new(".terrace").expect("a folder").check(&normal).is_err()
    }

    #[test]
    fn no_way_of_writing_it_leads_to_the_folder() {
        for path in [
            "/.terrace",
            "/.terrace/",
            "/.terrace/admin.token",
            "//.terrace/admin.token",
            "/%2e%74errace/admin.token",
            "/.TERRACE/admin.token",
            "/site/.terrace/admin.token",
            "/site%2F.terrace%2Fadmin.token",
            "/site%5c.terrace%5cadmin.token",
            "/.terrace;v=1/admin.token",
            "/x/../.terrace/admin.token",
        ] {
            assert!(is_refused(path), "{path}");
        }
    }

    #[test]
    fn what_is_only_called_alike_is_the_apps() {
        for path in [
            "/",
            "/terrace",
            "/my.terrace/x",
            "/.terrace.html",
            "/.terraces/x",
            "/a.b/%20c",
            "/.well-known/x",
        ] {
            assert!(!is_refused(path), "{path}");
        }
        assert_eq!(Withheld::new("/"), None);
    }
}
