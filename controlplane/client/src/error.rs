//! Errors of the API as one line for a log.
//!
//! Must not know: who logs it.

use std::error::Error;

/// The error and its causes, each said once. (`kube` writes a cause into the text of what it caused, and a Status both
/// as text and as a data structure.)
pub fn chain(error: &(dyn Error + 'static)) -> String {
    if let Some(kube::Error::Api(status)) = error.downcast_ref() {
        return match status.message.as_str() {
            "" => format!("{} ({})", status.reason, status.code),
            message => message.to_owned(),
        };
    }
    let own = error.to_string();
    let Some(source) = error.source() else { return own };
    let (inner, causes) = (source.to_string(), chain(source));
    if !inner.is_empty() && own.contains(&inner) {
        return own.replacen(&inner, &causes, 1);
    }
    if own.contains(&causes) { own } else { format!("{own}: {causes}") }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused() -> kube::Error {
        kube::Error::Api(Status::failure("pods \"a\" not found", "NotFound").with_code(404).boxed())
    }

    #[test]
    fn a_status_is_its_message() {
        assert_eq!(chain(&refused()), "pods \"a\" not found");
        let bare = kube::Error::Api(Status::failure("", "Conflict").with_code(409).boxed());
        assert_eq!(chain(&bare), "Conflict (409)");
    }

    #[test]
    fn causes_are_said_once() {
        let error = anyhow::Error::from(refused()).context("reading the pod");
        assert_eq!(chain(error.as_ref()), "reading the pod: pods \"a\" not found");
        let watch = kube::runtime::watcher::Error::InitialListFailed(refused());
        let text = chain(&watch);
        assert_eq!(text.matches("not found").count(), 1, "{text}");
        assert!(!text.contains("Status {"), "{text}");
        let io = kube::Error::ReadEvents(std::io::Error::other("reset"));
        assert_eq!(chain(&io), "Error reading events stream: reset");
    }
}
