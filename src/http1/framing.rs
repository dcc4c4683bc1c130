//! Where a body ends.

use bytes::{Bytes, BytesMut};

use super::chunked::Chunked;

/// What delimits a body (RFC 9112 section 6.3), and how far it has been read.
#[derive(Debug)]
pub enum Framing {
    /// No head has told yet.
    Awaited,
    /// So many bytes are to come.
    Length(u64),
    /// It comes in chunks.
    Chunked(Chunked),
    /// It ends with the connection.
    UntilClose,
    /// It has ended with the connection.
    Closed,
}

impl Framing {
    /// Takes what `buffer` has of the body, if anything.
    ///
    /// # Errors
    /// When it is not framed as it should be, or no head has told how.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, &'static str> {
        let length = match self {
            Self::Awaited => return Err("a body without a head"),
            Self::Length(left) => {
                let here = usize::try_from(*left).map_or(buffer.len(), |l| l.min(buffer.len()));
                *left -= here as u64;
                here
            }
            Self::Chunked(chunked) => return chunked.take(buffer),
            Self::UntilClose => buffer.len(),
            Self::Closed => 0,
        };
        Ok((length > 0).then(|| buffer.split_to(length).freeze()))
    }

    /// Whether all of the body has been taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Awaited | Self::UntilClose => false,
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.has_ended(),
            Self::Closed => true,
        }
    }

    /// The other side has closed the connection; returns whether that is how the body ends.
    pub fn end_with_connection(&mut self) -> bool {
        if let Self::UntilClose = self {
            *self = Self::Closed;
        }
        matches!(self, Self::Closed)
    }

    /// How much is worth reading at once, as far as it is known.
    #[must_use]
    pub fn room(&self) -> usize {
        match self {
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX),
            Self::Awaited | Self::Chunked(_) | Self::UntilClose | Self::Closed => 0,
        }
    }
}
