//! What the far side says about the connection, over its link.

use std::sync::Arc;

use super::{ChangeError, Connections};
use crate::relay::clock;
use crate::relay::record::Side;
use crate::relay::registry::Connection;

impl Connections {
    /// The far side says whether it holds the connection deactivated.
    ///
    /// # Errors
    /// The relay's own trouble.
    pub async fn far_side_state(
        &self,
        connection: &Arc<Connection>,
        deactivated: bool,
    ) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().await;
        let record = connection.record();
        if record.removed.is_some() || record.deactivated.there == deactivated {
            return Ok(());
        }
        self.store_flag(connection, Side::Private, deactivated)
            .await?;
        tracing::info!(connection = %connection.name(), deactivated, "state changed by the far side");
        Ok(())
    }

    /// The far side says that it has removed the connection. It stays listed, and calls are refused,
    /// until it is removed here too.
    ///
    /// # Errors
    /// The relay's own trouble.
    pub async fn far_side_removed(&self, connection: &Arc<Connection>) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().await;
        if connection.record().removed.is_some() {
            return Ok(());
        }
        let record = self
            .store
            .remove_connection(connection.id(), Side::Private, clock::now())
            .await
            .map_err(ChangeError::Store)?;
        if let Some(record) = record {
            self.registry.put(record);
        }
        tracing::warn!(connection = %connection.name(), "connection removed by the far side");
        Ok(())
    }
}
