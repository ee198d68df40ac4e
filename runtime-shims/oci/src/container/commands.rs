//! Who waits for the end of a command that runs in a container.
//!
//! Must not know: how commands are started.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

/// Waiting calls by the command's ID, each with its sandbox.
#[derive(Debug, Default)]
pub struct Commands(Mutex<HashMap<String, (String, oneshot::Sender<i32>)>>);

impl Commands {
    /// To be called before the command can end. The receiver fails when the sandbox's monitor does.
    pub fn expect(&self, sandbox: &str, id: &str) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(id.to_owned(), (sandbox.to_owned(), sender));
        receiver
    }

    /// A command has ended with this code.
    pub fn ended(&self, id: &str, code: i32) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        if let Some((_, waiting)) = waiting {
            // whoever waited may have given up
            let _ = waiting.send(code);
        }
    }

    /// Nobody waits for it any more.
    pub fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Nobody will tell how a sandbox's commands end.
    pub fn lost(&self, sandbox: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (of, _)| of != sandbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_is_waited_for_until_it_or_its_monitor_ends() {
        let commands = Commands::default();
        let (first, second) = (commands.expect("s", "1"), commands.expect("s", "2"));
        commands.ended("1", 7);
        commands.ended("unknown", 0);
        assert_eq!(first.await, Ok(7));
        commands.lost("other");
        commands.lost("s");
        assert!(second.await.is_err());
    }
}
