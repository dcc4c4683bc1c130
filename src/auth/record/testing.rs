//! What the tests of several providers need.

use std::net::IpAddr;

use crate::auth::CallerInfo;

/// A client's key.
pub(in crate::auth) const KEY: &str = "sk-story-0123456789";

/// `printf sk-story-0123456789 | sha256sum`
pub(in crate::auth) const HASHED: &str =
    "9fa9f81682e9911107e10484bc2b87341f9f78bf97cdc2a5574d38be50faa008";

/// Somebody with a request.
pub(in crate::auth) fn caller() -> CallerInfo {
    CallerInfo {
        id: "r-1".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        peer: IpAddr::from([192, 0, 2, 7]),
    }
}
