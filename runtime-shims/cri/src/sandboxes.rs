//! Ending sandboxes whose containers may not want to.
//!
//! CRI says that StopPodSandbox ends containers forcibly, and not how soon. CRI-O takes its caller's deadline for the time
//! that they have to end by themselves, so who can wait two minutes does.
//!
//! Must not know: why they end.

use std::time::Duration;

use tonic::{Code, Request, Status};

use crate::Runtime;
use crate::v1::{RemovePodSandboxRequest, StopPodSandboxRequest};

impl Runtime {
    /// Stops a sandbox with what runs in it, `soon`; a runtime that cannot is asked again, without a hurry.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn stop_sandbox(&self, id: &str, soon: Duration) -> Result<(), Status> {
        let request = || StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        match self.runtime.clone().stop_pod_sandbox(hurried(request(), soon)).await {
            Err(status) if late(&status) => self.runtime.clone().stop_pod_sandbox(request()).await.map(drop),
            answer => answer.map(drop),
        }
    }

    /// Removes a sandbox, as it stops one.
    ///
    /// # Errors
    /// What the runtime says.
    pub async fn remove_sandbox(&self, id: &str, soon: Duration) -> Result<(), Status> {
        let request = || RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        match self.runtime.clone().remove_pod_sandbox(hurried(request(), soon)).await {
            Err(status) if late(&status) => self.runtime.clone().remove_pod_sandbox(request()).await.map(drop),
            answer => answer.map(drop),
        }
    }
}

fn hurried<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within);
    request
}

/// Our side of the connection says `CANCELLED` where it was the first to see the deadline.
fn late(status: &Status) -> bool {
    matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
}
