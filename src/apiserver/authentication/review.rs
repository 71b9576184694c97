//! The questions of `authentication.k8s.io`: whose token is this, and who am I. Nothing is stored.

use apimachinery::Status;
use serde_json::{Map, Value, json};

use super::Authenticator;
use crate::request::UserInfo;

impl Authenticator {
    /// Answers a `tokenreviews` creation.
    ///
    /// # Errors
    /// 400 for a review without a token.
    pub fn review_token(&self, mut review: Value) -> Result<Value, Status> {
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let asked: Vec<String> = review["spec"]["audiences"]
            .as_array()
            .map(|list| list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect())
            .unwrap_or_default();
        let audiences =
            if asked.is_empty() { vec![self.tokens.issuer().to_owned()] } else { asked };
        let status = match self.tokens.authenticate_for(token, &audiences) {
            Ok((user, meant)) => json!({
                "authenticated": true,
                "user": user_info(&super::authenticated(user)),
                "audiences": meant,
            }),
            Err(_) if !self.tokens.issued(token) => {
                json!({ "user": {}, "error": "invalid bearer token" })
            }
            Err(why) => json!({ "user": {}, "error": format!("[invalid bearer token, {why}]") }),
        };
        review["status"] = status;
        Ok(review)
    }
}

/// Answers a `selfsubjectreviews` creation: `review` with who asks.
pub fn self_subject(user: &UserInfo, mut review: Value) -> Value {
    review["status"] = json!({ "userInfo": user_info(user) });
    let now = apimachinery::time::now();
    if !review["metadata"].is_object() {
        review["metadata"] = json!({});
    }
    review["metadata"]["creationTimestamp"] = json!(now);
    review
}

/// A user as `authentication.k8s.io/v1` UserInfo, empty parts left out.
pub fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::new();
    info.insert("username".to_owned(), json!(user.name));
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(info)
}
