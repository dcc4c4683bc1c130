use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Chunked, MAX_SIZE_LINE, MAX_TRAILERS};

/// What was read of a body.
#[derive(Debug, Default, PartialEq)]
struct Read {
    data: Vec<u8>,
    /// Whether its end was seen.
    ended: bool,
    error: Option<&'static str>,
    /// What came behind the end.
    left: Vec<u8>,
}

/// Reads `parts` one after the other, each from a single read.
fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let (mut chunked, mut buffer) = (Chunked::default(), BytesMut::new());
    let mut read = Read::default();
    for part in parts {
        buffer.extend_from_slice(part);
        while read.error.is_none() {
            match chunked.take(&mut buffer) {
                Ok(None) => break,
                Ok(Some(piece)) => {
                    assert!(!piece.is_empty(), "an empty piece");
                    read.data.extend_from_slice(&piece);
                }
                Err(error) => read.error = Some(error),
            }
        }
    }
    read.ended = chunked.has_ended();
    if read.ended {
        read.left = buffer.to_vec();
    }
    read
}

fn bytewise(wire: &[u8]) -> Read {
    read(wire.chunks(1))
}

fn cut<'a>(wire: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
    at.extend([0, wire.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| &wire[w[0]..w[1]]).collect()
}

/// A chunk, and how its size is written.
fn any_chunk() -> impl Strategy<Value = (Vec<u8>, String)> {
    let extensions = vec!["", ";a=b", " ; name=\"quoted\"", ";", "\t"];
    let written = (select(extensions), 0..6_usize, any::<bool>());
    (vec(any::<u8>(), 1..300), written).prop_map(|(data, (extension, zeros, upper))| {
        let size = match upper {
            true => format!("{:X}", data.len()),
            false => format!("{:x}", data.len()),
        };
        (data, format!("{}{size}{extension}\r\n", "0".repeat(zeros)))
    })
}

fn encode(chunks: &[(Vec<u8>, String)], trailers: &[&str]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (data, line) in chunks {
        wire.extend_from_slice(line.as_bytes());
        wire.extend_from_slice(data);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n");
    for trailer in trailers {
        wire.extend_from_slice(trailer.as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

proptest! {
    #[test]
    fn neither_chunks_nor_reads_change_the_data(
        chunks in vec(any_chunk(), 0..12),
        trailers in vec(select(vec!["a: b\r\n", "Digest:\r\n"]), 0..3),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let wire = encode(&chunks, &trailers);
        let expected = Read {
            data: chunks.iter().flat_map(|(data, _)| data.clone()).collect(),
            ended: true,
            ..Read::default()
        };
        prop_assert_eq!(&read([&wire[..]]), &expected);
        prop_assert_eq!(&read(cut(&wire, &cuts)), &expected);
        prop_assert_eq!(&bytewise(&wire), &expected);
        let all_but_one = read([&wire[..wire.len() - 1]]);
        prop_assert!(!all_but_one.ended, "the end is its last byte");
        prop_assert_eq!(all_but_one.data, expected.data);
    }

    #[test]
    fn what_is_broken_is_refused_alike_however_it_comes(
        wire in vec(select(b"0123fF;\r\n\r\n x:".to_vec()), 0..60),
        cuts in vec(any::<usize>(), 0..4),
    ) {
        let whole = read([&wire[..]]);
        prop_assert_eq!(&bytewise(&wire), &whole);
        prop_assert_eq!(&read(cut(&wire, &cuts)), &whole);
    }

    #[test]
    fn no_bytes_are_too_odd(wire in vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(bytewise(&wire), read([&wire[..]]));
    }
}

#[test]
fn chunks_that_came_together_are_one_piece_and_the_first_of_them_stays_where_it_is() {
    let chunks: Vec<_> = (0..64).map(|n| (vec![n; 7], "7\r\n".to_owned())).collect();
    let wire = encode(&chunks, &[]);
    let mut buffer = BytesMut::from(&wire[..]);
    let began = buffer.as_ptr() as usize;
    let mut chunked = Chunked::default();
    let piece = chunked.take(&mut buffer).unwrap().unwrap();
    assert_eq!(piece.len(), 64 * 7);
    assert_eq!(piece.as_ptr() as usize, began + 3);
    assert!(chunked.has_ended(), "the end came in the same read");
    assert!(buffer.is_empty());
}

#[test]
fn what_comes_behind_the_end_is_left() {
    let read = read([&b"1\r\na\r\n0\r\n\r\nHTTP/1.1"[..]]);
    assert_eq!((read.data, read.ended), (b"a".to_vec(), true));
    assert_eq!(read.left, b"HTTP/1.1");
}

#[test]
fn what_is_not_chunked_is_refused_and_what_came_before_is_not_lost() {
    let bad = [
        "\r\n",
        " 1\r\na",
        ";a\r\n",
        "g\r\n",
        "-1\r\n",
        "0x1\r\n",
        "1 1\r\n",
        "1\n",
        "1\rx",
        "1\r\nab\r\n",
        "1\r\na\n",
        "1\r\na\rx",
        "1;a\nb\r\na",
        "0\r\n\n",
        "0\r\n\rx",
        "0\r\na: b\n",
        "0\r\na\rb",
        // More than 64 bits.
        "10000000000000000\r\n",
        "00000000000000001\r\n",
    ];
    for bad in bad {
        let wire = format!("3\r\nyes\r\n{bad}");
        for read in [read([wire.as_bytes()]), bytewise(wire.as_bytes())] {
            assert!(read.error.is_some() && !read.ended, "{bad:?}: {read:?}");
            assert!(read.data.starts_with(b"yes"), "{bad:?}: {read:?}");
        }
    }
}

#[test]
fn a_chunk_may_be_as_long_as_its_size_can_say() {
    let read = read([&b"ffffffffffffffff\r\n"[..], b"ab", b"c"]);
    assert_eq!((read.data, read.error), (b"abc".to_vec(), None));
}

#[test]
fn a_line_with_a_size_is_as_long_as_may_be_and_no_longer() {
    for (length, good) in [(MAX_SIZE_LINE, true), (MAX_SIZE_LINE + 1, false)] {
        let line = format!("1;{}\r\n", "e".repeat(length - 4));
        assert_eq!(line.len(), length);
        let wire = format!("{line}a\r\n0\r\n\r\n");
        for read in [read([wire.as_bytes()]), bytewise(wire.as_bytes())] {
            assert_eq!((read.ended, read.error.is_none()), (good, good), "{length}");
        }
    }
}

#[test]
fn trailers_are_as_long_as_may_be_and_no_longer() {
    for (length, good) in [(MAX_TRAILERS, true), (MAX_TRAILERS + 1, false)] {
        let line = format!("t: {}\r\n", "e".repeat(length - 7));
        assert_eq!(line.len() + 2, length);
        let wire = format!("0\r\n{line}\r\n");
        for read in [read([wire.as_bytes()]), bytewise(wire.as_bytes())] {
            assert_eq!((read.ended, read.error.is_none()), (good, good), "{length}");
        }
    }
}
