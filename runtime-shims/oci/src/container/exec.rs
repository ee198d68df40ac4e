//! `ExecSync`: a command in a container, its output and exit code, within a time and a size.
//!
//! Must not know: gRPC.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pintle_cri::connect::MAX_MESSAGE;
use pintle_cri::streaming::bridge::Streams;
use pintle_cri::streaming::server::Ends;
use pintle_cri::v1::{ExecSyncRequest, ExecSyncResponse};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::session::Target;
use crate::error::{Error, Result};
use crate::plan::lifecycle;
use crate::runtime::Shared;

/// Both outputs of a command must fit into one message; upstream's bound is that of a message, too.
const MOST_OUTPUT: usize = MAX_MESSAGE - (4 << 10);
/// A command's own children may hold its outputs open: nobody waits for them longer.
const OUTPUT_AFTER_END: Duration = Duration::from_secs(2);

/// Runs a command to its end.
pub async fn exec_sync(shared: &Arc<Shared>, request: ExecSyncRequest) -> Result<ExecSyncResponse> {
    let container = shared.containers.get(&request.container_id)?;
    lifecycle::must_run(&container.now())?;
    let limit = u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let ((stdout, out), (stderr, err)) = (output()?, output()?);
    let ends = Ends { stdin: None, stdout: Some(out), stderr: Some(err) };
    let wanted = Streams { stdout: true, stderr: true, ..Streams::default() };
    let target = Target { shared: shared.clone(), container, command: Some(request.cmd.clone()) };
    let began = tokio::time::Instant::now();
    let (mut stdout, mut stderr) = (Collected::new(stdout), Collected::new(stderr));
    let session = match target.begin(ends, wanted).await {
        Ok(session) => session,
        Err(error) => return Err(Error::Failed(error.context("failed to exec in container"))),
    };
    let run = async {
        let end = async {
            let code = session.end().await;
            tokio::time::sleep(OUTPUT_AFTER_END).await;
            code
        };
        let mut end = std::pin::pin!(end);
        let mut outputs = std::pin::pin!(async { tokio::join!(stdout.fill(), stderr.fill()) });
        // outputs that are closed are the usual end; then only the code is waited for
        tokio::select! { code = &mut end => code, _ = &mut outputs => session.end().await }
    };
    let code = match limit {
        None => run.await?,
        Some(limit) => match tokio::time::timeout_at(began + limit, run).await {
            Ok(code) => code?,
            Err(_) => {
                session.kill().await;
                let text =
                    format!("failed to exec in container: timeout {limit:?} exceeded: context deadline exceeded");
                return Err(Error::Deadline(text));
            }
        },
    };
    let (stdout, mut stderr) = (stdout.bytes, stderr.bytes);
    stderr.truncate(MOST_OUTPUT.saturating_sub(stdout.len()));
    Ok(ExecSyncResponse { stdout, stderr, exit_code: code.unwrap_or_default() })
}

fn output() -> Result<(pipe::Receiver, std::os::fd::OwnedFd)> {
    let (sender, receiver) = pipe::pipe().context("making a pipe")?;
    Ok((receiver, sender.into_blocking_fd().context("making a pipe")?))
}

/// What came out so far; what is too much is read and dropped, so that the command can end.
struct Collected {
    from: pipe::Receiver,
    bytes: Vec<u8>,
}

impl Collected {
    fn new(from: pipe::Receiver) -> Self {
        Self { from, bytes: Vec::new() }
    }

    async fn fill(&mut self) {
        let mut piece = vec![0; 16 << 10];
        while let Ok(length) = self.from.read(&mut piece).await {
            if length == 0 {
                return;
            }
            let room = MOST_OUTPUT.saturating_sub(self.bytes.len()).min(length);
            self.bytes.extend_from_slice(piece.get(..room).unwrap_or_default());
        }
    }
}
