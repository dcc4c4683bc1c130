//! What the gateway reads in the bytes that pass: endpoints, requests, usage, errors.
//!
//! Pure: bytes in, types out. Nothing here does I/O, waits, panics on what it is given, or keeps
//! more than a bounded part of it. Everything is tolerant: bytes that make no sense are not
//! understood, never refused, because a meter must not break what it measures.

mod calibration;
mod document;
mod endpoint;
mod error_event;
mod error_status;
mod estimate;
mod find;
mod first_event;
mod hide_usage;
mod json;
mod likeness;
mod meter;
mod peek;
mod rename_model;
mod request_usage;
mod shape;
mod splice;
mod sse;
mod tee;
mod usage;

pub use calibration::{Calibration, Rates};
pub use endpoint::{BodyFormat, Dialect, Endpoint};
pub use error_event::{error_body, error_event};
pub use estimate::{Estimate, bound, likely};
pub use first_event::{FirstEvent, Verdict};
pub use hide_usage::HideUsage;
pub use peek::{RequestHead, UsageWish, peek};
pub use rename_model::RenameModel;
pub use request_usage::{Asked, request_usage};
pub use shape::{Parameter, Shape, shaped};
pub use tee::{Progress, Summary, Tee};
pub use usage::{Usage, UsageSource};
