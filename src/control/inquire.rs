//! Asks an adapter of the running gateway and hands its answer on, line by line as it comes.

use super::client::{AskError, follow_posted, segment};
use adapter_api::inquiry::Telling;
use serde_json::Value;
use std::path::Path;

/// Asks the adapter of this unit (`modbus.site`). Returns at the end of the answer, or when nobody
/// takes its lines any more.
pub async fn inquire(socket: &Path, unit: &str, question: &Value, to: &Telling) -> Result<(), AskError> {
    let mut lines = follow_posted(socket, &format!("/v1/inquiry/{}", segment(unit)), question).await?;
    while let Some(line) = lines.next().await? {
        if to.tell(line).await.is_err() {
            break;
        }
    }
    Ok(())
}
