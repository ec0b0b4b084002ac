//! What the admin side shows of the process, and who obeys its orders.

use std::sync::Arc;

use crate::admin;
use crate::admin::AdminState;
use crate::app::Shared;
use crate::app::kept;
use crate::app::orders;
use crate::app::reload;
use crate::clock;
use crate::config;

/// The sources of its pages. Each looks up the policy in force when it is asked.
pub(super) fn admin_state(shared: &Arc<Shared>) -> Arc<AdminState> {
    let [
        of_config,
        of_upstreams,
        of_faults,
        of_cache,
        of_inbound,
        of_token,
        of_shared,
        of_orders,
    ] = [(); 8].map(|()| Arc::clone(shared));
    AdminState::new(
        Arc::clone(&shared.telemetry),
        admin::Sources {
            config: Box::new(move || reload::describe(&of_config)),
            upstreams: Box::new(move || {
                let (now, tree) = (clock::now(), of_upstreams.tree.load());
                let mut all = Vec::new();
                tree.each(|live| all.push(live.describe(&tree.faults, &tree.credentials, now)));
                serde_json::Value::Array(all)
            }),
            faults: Box::new(move || of_faults.tree.load().faults.describe()),
            cache: Box::new(move || kept::describe(&of_cache)),
            inbound: Box::new(move || {
                let tree = of_inbound.tree.load();
                let inbound = tree.inbound.as_ref();
                inbound.map_or(serde_json::Value::Null, |inbound| {
                    inbound.describe(of_inbound.identity.current(), clock::now())
                })
            }),
            token: Box::new(move || {
                let tree = of_token.tree.load();
                tree.policy.admin_token.as_ref().map(|place| match place {
                    config::SecretPlace::File(path) => admin::TokenPlace::File(path.clone()),
                    config::SecretPlace::Env(name) => admin::TokenPlace::Env(name.clone()),
                })
            }),
            shared: Box::new(move || of_shared.tree.load().describe_shared()),
            obey: Box::new(move |order, who| orders::obey(&of_orders, order, who)),
        },
    )
}
