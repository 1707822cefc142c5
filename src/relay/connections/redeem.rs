//! Redeeming an invitation: check the proof, let one agent win, answer with the relay's signature.

use super::{ChangeError, Connections};
use crate::identity::PublicKey;
use crate::protocol::redeem::{RedeemAnswer, RedeemRefusal, RedeemRequest};
use crate::relay::clock;
use crate::relay::record::ConnectionRecord;
use crate::relay::store::{Redeemer, Redemption};

/// Why a redemption was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// The code or its proof is no good; the agent is told which.
    #[error("the invitation was refused")]
    Refused(#[source] RedeemRefusal),
    /// The relay's own trouble; the agent may try again.
    #[error("the invitation could not be redeemed")]
    Failed(#[source] ChangeError),
}

impl Connections {
    /// Redeems an invitation for the agent key that the request names. Repeating a request gives the
    /// same answer, so a lost reply costs nothing.
    ///
    /// # Errors
    /// [`RedeemError`].
    pub async fn redeem(&self, request: RedeemRequest) -> Result<RedeemAnswer, RedeemError> {
        let _changing = self.changing.lock().await;
        let redeemer = Redeemer {
            agent_key: request.agent_key,
            software: request.software.clone(),
            project: request.project.clone(),
        };
        let proof = request.clone();
        let is_signed_by = move |key: &PublicKey| proof.verify(key).is_ok();
        let redemption = self
            .store
            .redeem(request.connection, redeemer, clock::now(), is_signed_by)
            .await
            .map_err(|error| RedeemError::Failed(ChangeError::Store(error)))?;
        match redemption {
            Redemption::Accepted { record, repeated } => {
                Ok(self.accepted(&request, record, repeated))
            }
            Redemption::Unknown => Err(RedeemRefusal::Unknown),
            Redemption::BadProof => Err(RedeemRefusal::BadProof),
            Redemption::Removed => Err(RedeemRefusal::Removed),
            Redemption::Expired { at } => Err(RedeemRefusal::Expired { at }),
            Redemption::Revoked { at } => Err(RedeemRefusal::Revoked { at }),
            Redemption::Used { at, by } => Err(RedeemRefusal::Used {
                at,
                by: by.fingerprint(),
            }),
        }
        .map_err(|refusal| {
            tracing::warn!(connection = %request.connection, reason = %refusal, "invitation refused");
            RedeemError::Refused(refusal)
        })
    }

    fn accepted(
        &self,
        request: &RedeemRequest,
        record: ConnectionRecord,
        repeated: bool,
    ) -> RedeemAnswer {
        let redeemed_at = record.accepted.as_ref().map_or(0, |accepted| accepted.at);
        let deactivated = record.deactivated.here;
        let agent = request.agent_key.fingerprint();
        tracing::info!(connection = %record.name, agent, repeated, "invitation accepted");
        self.registry.put(record);
        RedeemAnswer::new(request, redeemed_at, deactivated, &self.identity)
    }
}
