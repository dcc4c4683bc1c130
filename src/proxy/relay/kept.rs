//! An answer that was read whole before it was known to be the last one.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use pingora::http::ResponseHeader;

use super::Aborted;
use crate::ledger::Outcome;
use crate::proxy::client::Client;
use crate::proxy::ctx::Ctx;
use crate::proxy::{Gateway, access, bill, headers, hooks};

/// Writes an answer that was kept whole.
pub(in crate::proxy) async fn kept(
    gateway: &Gateway,
    client: &mut Client<'_>,
    ctx: &mut Ctx,
    mut head: Box<ResponseHeader>,
    body: Bytes,
) -> Result<(), Aborted> {
    head.remove_header(&CONTENT_LENGTH);
    let prepared = headers::for_client(&mut *head, &ctx.id)
        .and_then(|()| access::tell_standing(&mut *head, ctx))
        .and_then(|()| hooks::response(&ctx.runtime, ctx, &mut head))
        .and_then(|()| head.insert_header(CONTENT_LENGTH, body.len()));
    prepared.map_err(|error| Aborted::internal(&error))?;
    ctx.served.status = head.status.as_u16();
    if head.status.is_server_error() || ctx.served.failed {
        ctx.served.outcome = Outcome::UpstreamFailed;
    }
    bill::settle(gateway, ctx).await;
    let written = async {
        client.write_head(head).await?;
        client.write_body(body, true).await
    };
    written
        .await
        .map_err(|_gone| Aborted::by_client("response"))
}
