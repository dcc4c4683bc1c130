//! One model call: what was asked, and the bodies that ask a backend for it.

use bytes::Bytes;

use super::body::Body;
use crate::llm::{self, Asked, Endpoint, RequestHead};
use crate::runtime::Runtime;

pub(super) struct ModelCall {
    pub(super) endpoint: Endpoint,
    pub(super) head: RequestHead,
    /// The backend a script wants to be asked first.
    pub(super) preferred: Option<usize>,
    body: Body,
    /// The body with usage asked for, when the client did not ask for it itself.
    with_usage: Option<Bytes>,
    /// The body with usage asked for in every chunk, likewise.
    with_continuous_usage: Option<Bytes>,
}

impl ModelCall {
    /// Prepares the bodies that the backends of `runtime` may need; `None` if there is no memory
    /// for them.
    pub(super) fn new(
        runtime: &Runtime,
        endpoint: Endpoint,
        head: RequestHead,
        body: Body,
    ) -> Option<Self> {
        let mut call = Self {
            endpoint,
            head,
            preferred: None,
            body,
            with_usage: None,
            with_continuous_usage: None,
        };
        if call.head.stream {
            let wanted = |asked| runtime.upstreams.iter().any(|one| one.wanted() == asked);
            if wanted(Asked::Final) {
                call.with_usage = call.asking(Asked::Final)?;
            }
            if wanted(Asked::Continuous) {
                call.with_continuous_usage = call.asking(Asked::Continuous)?;
            }
        }
        Some(call)
    }

    /// The body that asks for `asked`, if that takes a change; the outer `None` is a lack of memory.
    fn asking(&mut self, asked: Asked) -> Option<Option<Bytes>> {
        let edited = llm::request_usage(self.endpoint, &self.body.bytes, asked);
        let room = edited
            .as_ref()
            .is_none_or(|copy| self.body.and_copy(copy.len()));
        room.then(|| edited.map(Bytes::from))
    }

    /// What a backend that is to be asked for `wanted` is asked for beyond what the client asks.
    pub(super) fn asked(&self, wanted: Asked) -> Asked {
        self.edited(wanted).map_or(Asked::Nothing, |_| wanted)
    }

    /// The body that asks for `asked`.
    pub(super) fn bytes(&self, asked: Asked) -> Bytes {
        self.edited(asked).unwrap_or(&self.body.bytes).clone()
    }

    /// Gives the memory of the bodies back: nothing will be sent again.
    pub(super) fn forget_bodies(&mut self) {
        self.body = Body::default();
        self.with_usage = None;
        self.with_continuous_usage = None;
    }

    fn edited(&self, asked: Asked) -> Option<&Bytes> {
        match asked {
            Asked::Nothing => None,
            Asked::Final => self.with_usage.as_ref(),
            Asked::Continuous => self.with_continuous_usage.as_ref(),
        }
    }
}
