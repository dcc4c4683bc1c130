//! One model call: what was asked, and the bodies that ask a backend for it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::body::Body;
use super::naming;
use crate::llm::{self, Asked, BodyFormat, Endpoint, RenameModel, RequestHead, Shape};
use crate::route::{Alias, Plan};

pub(super) struct ModelCall {
    pub(super) endpoint: Endpoint,
    /// What the client wrote.
    pub(super) head: RequestHead,
    /// Where it may go.
    pub(super) plan: Plan,
    /// Whether the client names no model, so that `head` has the default's name.
    pub(super) by_default: bool,
    /// Whether it may have effects beyond its answer, so that it is never made twice.
    pub(super) stateful: bool,
    /// The backend a script wants to be asked first.
    pub(super) preferred: Option<usize>,
    body: Body,
    version: Option<Version>,
}

/// The body as one model wants it.
struct Version {
    alias: Option<Arc<Alias>>,
    /// The backend's name for the model.
    model: Option<Box<str>>,
    bytes: Bytes,
    /// What it asks for, where that may differ from what the client wrote.
    head: Option<RequestHead>,
    /// With usage asked for, when it does not ask for it itself; with usage in every chunk.
    with_usage: [Edited; 2],
}

/// A copy that is made when it is first needed.
#[derive(Clone)]
enum Edited {
    Unknown,
    /// Nothing is to be changed.
    Same,
    Copy(Bytes),
}

/// No memory is left for another copy of the body.
#[derive(Debug)]
pub(super) struct NoMemory;

impl ModelCall {
    pub(super) fn new(endpoint: Endpoint, head: RequestHead, body: Body, plan: Plan) -> Self {
        Self {
            endpoint,
            head,
            plan,
            by_default: false,
            stateful: false,
            preferred: None,
            body,
            version: None,
        }
    }

    /// Brings the body into the form that route `at` of the plan wants.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn shape_for(&mut self, at: usize) -> Result<(), NoMemory> {
        let alias = self.plan.alias(at);
        let own = || self.head.model.as_deref().filter(|_| self.by_default);
        let model = alias.and_then(|_| self.plan.model(at).or_else(|| own().map(Cow::Borrowed)));
        let is_same = |version: &Version| {
            version.model.as_deref() == model.as_deref()
                && version.alias.as_ref().map(Arc::as_ptr) == alias.map(Arc::as_ptr)
        };
        if self.version.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        let alias = alias.cloned();
        let model: Option<Box<str>> = model.map(|model| (*model).into());
        // The one before is not needed any more.
        self.version = None;
        self.body.without_copies();
        let mut version = Version {
            alias,
            model,
            bytes: self.body.bytes.clone(),
            head: None,
            with_usage: [const { Edited::Unknown }; 2],
        };
        if let Some(alias) = &version.alias {
            let shape = Shape {
                model: version.model.as_deref(),
                parameters: &naming::parameters(alias, self.head.stream),
                reasoning: alias.reasoning,
            };
            if let Some(shaped) = llm::shaped(self.endpoint, &self.body.bytes, &shape) {
                if !self.body.and_copy(shaped.len()) {
                    return Err(NoMemory);
                }
                version.bytes = Bytes::from(shaped);
                if !alias.parameters.is_empty() {
                    version.head = Some(llm::peek(self.endpoint, &version.bytes));
                }
            }
        }
        self.version = Some(version);
        Ok(())
    }

    /// The body that asks for usage as `wanted`, and what that is beyond what it asks for itself.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(super) fn asking(&mut self, wanted: Asked) -> Result<(Bytes, Asked), NoMemory> {
        let Some(version) = &mut self.version else {
            return Ok((self.body.bytes.clone(), Asked::Nothing));
        };
        let which = match wanted {
            Asked::Nothing => return Ok((version.bytes.clone(), Asked::Nothing)),
            Asked::Final => 0,
            Asked::Continuous => 1,
        };
        if !self.head.stream {
            return Ok((version.bytes.clone(), Asked::Nothing));
        }
        if matches!(version.with_usage[which], Edited::Unknown) {
            version.with_usage[which] =
                match llm::request_usage(self.endpoint, &version.bytes, wanted) {
                    None => Edited::Same,
                    Some(copy) if self.body.and_copy(copy.len()) => Edited::Copy(copy.into()),
                    Some(_) => return Err(NoMemory),
                };
        }
        Ok(match &version.with_usage[which] {
            Edited::Copy(copy) => (copy.clone(), wanted),
            Edited::Same | Edited::Unknown => (version.bytes.clone(), Asked::Nothing),
        })
    }

    /// What the body asks for in the form it was last sent in.
    pub(super) fn sent_head(&self) -> &RequestHead {
        let version = self.version.as_ref();
        version
            .and_then(|version| version.head.as_ref())
            .unwrap_or(&self.head)
    }

    /// What the client sent.
    pub(super) fn body(&self) -> &Bytes {
        &self.body.bytes
    }

    /// What calls the model in the answer by the name the client used: backends may have another even
    /// where they were told this one (`gpt-4o-2024-08-06`).
    pub(super) fn rename(&self, format: BodyFormat) -> Option<RenameModel> {
        let version = self.version.as_ref()?;
        version.alias.as_ref().filter(|alias| alias.rename)?;
        let asked = self.head.model.as_deref()?;
        Some(RenameModel::new(self.endpoint, format, asked))
    }

    /// Gives the memory of the bodies back: nothing will be sent again.
    pub(super) fn forget_bodies(&mut self) {
        self.body = Body::default();
        if let Some(version) = &mut self.version {
            version.bytes = Bytes::new();
            version.with_usage = [const { Edited::Unknown }; 2];
        }
    }
}
