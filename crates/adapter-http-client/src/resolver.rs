//! Looks names up, and lets only allowed addresses through.

use std::{net::SocketAddr, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::targets::{AllowedTargets, NotAllowed};

/// The system's resolver behind [`AllowedTargets`]: the addresses that pass are the ones that are connected to.
#[derive(Debug, Clone)]
pub(crate) struct CheckedResolver {
    pub(crate) targets: Arc<AllowedTargets>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let targets = Arc::clone(&self.targets);
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| targets.permits(address.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(NotAllowed::Name(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
