//! What expressions are told of what users may do.

use cel::{Decision, Question};

use crate::{
    Shared,
    request::{RequestInfo, UserInfo},
};

/// Asks about the rights of the user who sent the request.
pub(crate) struct Asker<'a> {
    pub(crate) server: &'a Shared,
    pub(crate) user: &'a UserInfo,
}

impl cel::Authorizer for Asker<'_> {
    fn check(&self, question: &Question) -> Decision {
        let account = question.service_account.as_ref().map(|(namespace, name)| {
            let all = format!("system:serviceaccounts:{namespace}");
            let name = format!("system:serviceaccount:{namespace}:{name}");
            UserInfo::component(&name, &["system:serviceaccounts", &all])
        });
        let info = match &question.path {
            Some(path) => RequestInfo {
                verb: question.verb.clone(),
                path: path.clone(),
                ..RequestInfo::default()
            },
            None => RequestInfo {
                verb: question.verb.clone(),
                is_resource: true,
                group: question.group.clone(),
                version: "*".to_owned(),
                resource: question.resource.clone(),
                subresource: question.subresource.clone(),
                namespace: question.namespace.clone(),
                name: question.name.clone(),
                ..RequestInfo::default()
            },
        };
        let user = account.as_ref().unwrap_or(self.user);
        let decision = self.server.authorizer.explain(user, &info);
        Decision { allowed: decision.allowed, reason: decision.reason, error: None }
    }
}
