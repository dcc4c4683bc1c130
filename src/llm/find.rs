//! Finds a byte that is mostly near, in the words before it is worth to look further with vectors.

use memchr::{memchr2, memchr3};

/// How many bytes are looked at in words.
const NEAR: usize = 32;

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Returns where the first `a` or `b` is in `bytes`.
#[inline]
pub(super) fn either(a: u8, b: u8, bytes: &[u8]) -> Option<usize> {
    near(
        |word| zeros(word ^ spread(a)) | zeros(word ^ spread(b)),
        bytes,
    )
    .unwrap_or_else(|rest| Some(rest + memchr2(a, b, &bytes[rest..])?))
}

/// Returns where the first `a`, `b` or `c` is in `bytes`.
#[inline]
pub(super) fn any_of(a: u8, b: u8, c: u8, bytes: &[u8]) -> Option<usize> {
    near(
        |word| zeros(word ^ spread(a)) | zeros(word ^ spread(b)) | zeros(word ^ spread(c)),
        bytes,
    )
    .unwrap_or_else(|rest| Some(rest + memchr3(a, b, c, &bytes[rest..])?))
}

/// Returns where `marks` first marks a byte, or how many bytes it was shown without marking any.
#[inline]
fn near(marks: impl Fn(u64) -> u64, bytes: &[u8]) -> Result<Option<usize>, usize> {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk::<8>() {
        let marks = marks(u64::from_le_bytes(*word));
        if marks != 0 {
            return Ok(Some(at + marks.trailing_zeros() as usize / 8));
        }
        at += 8;
        if at == NEAR {
            break;
        }
    }
    Err(at)
}

#[inline]
const fn spread(byte: u8) -> u64 {
    LOW * byte as u64
}

/// Marks the zero bytes of `word`: the lowest mark is right, one above another may not be.
#[inline]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LOW) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_one_is_found(
            bytes in proptest::collection::vec(prop_oneof![8 => 0_u8..6, 1 => any::<u8>()], 0..80),
            (a, b, c) in any::<(u8, u8, u8)>(),
            near in 0_u8..6,
        ) {
            for (a, b, c) in [(a, b, c), (near, b, c), (a, near, near + 1), (near ^ 0x80, b, near)] {
                let first = bytes.iter().position(|byte| [a, b].contains(byte));
                prop_assert_eq!(either(a, b, &bytes), first);
                let first = bytes.iter().position(|byte| [a, b, c].contains(byte));
                prop_assert_eq!(any_of(a, b, c, &bytes), first);
            }
        }
    }
}
