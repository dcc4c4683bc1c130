//! What becomes of a piece on its way: it is watched, and changed where it must be.

use bytes::Bytes;

use super::Relay;
use crate::balance::Ticket;
use crate::http1::Broken;
use crate::proxy::attempt::Answer;

/// Pieces that have already arrived are written together up to this size.
const MAX_COALESCED: usize = 64 * 1024;

impl Relay<'_> {
    /// Takes `piece` and what came with it.
    pub(super) async fn take(
        &mut self,
        piece: Bytes,
        answer: &mut Answer,
        ticket: &mut Ticket,
    ) -> Result<(), Broken> {
        let mut size = piece.len();
        self.observe(piece, ticket);
        while size < MAX_COALESCED && answer.may_have_more() {
            match answer.already_there().await {
                None => break,
                Some(Ok(Some(piece))) => {
                    size += piece.len();
                    self.observe(piece, ticket);
                }
                Some(Ok(None)) => {}
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn observe(&mut self, piece: Bytes, ticket: &mut Ticket) {
        if piece.is_empty() {
            return;
        }
        if let Some(missing) = &mut self.missing {
            *missing = missing.saturating_sub(piece.len() as u64);
        }
        let events = self.tee.observe(&piece).events;
        if !self.proven && (events > 0 || !self.stream) {
            self.proven = true;
            ticket.first_byte();
        }
        match (&mut self.hide, &mut self.rename) {
            (None, None) => self.out.push(piece),
            (Some(hide), None) => hide.push(piece, &mut self.out),
            (None, Some(rename)) => rename.push(piece, &mut self.out),
            (Some(hide), Some(_)) => {
                hide.push(piece, &mut self.hidden);
                self.pass_hidden();
            }
        }
    }

    /// Hands on what has been through the first of two changes.
    pub(super) fn pass_hidden(&mut self) {
        for piece in self.hidden.drain(..) {
            match &mut self.rename {
                Some(rename) => rename.push(piece, &mut self.out),
                None => self.out.push(piece),
            }
        }
    }

    /// Lets go of what is held back in the hope of more.
    pub(super) fn release(&mut self) {
        if let Some(hide) = &mut self.hide {
            hide.release(&mut self.hidden);
        }
        self.pass_hidden();
    }
}
