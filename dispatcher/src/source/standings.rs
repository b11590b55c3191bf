//! How lanes stand that do not read a consumer of their own, to be shown.

use std::sync::Arc;

use broker::live::Live;
use domain::SubscriptionId;

use crate::source::shared_catch_up::SharedCatchUp;
use crate::source::tail::Tail;

/// Who knows.
#[derive(Clone)]
pub(crate) struct Standings {
    pub(crate) tail: Arc<Tail>,
    pub(crate) shared_catch_up: Arc<SharedCatchUp>,
}

impl Standings {
    /// How far a lane has come, and how much it has before it; `None` where its consumer tells.
    pub(crate) fn of(&self, id: &SubscriptionId) -> Option<Live> {
        let (position, lag) = self.tail.standing(id).or_else(|| self.shared_catch_up.standing(id))?;
        Some(Live { position, lag })
    }
}
