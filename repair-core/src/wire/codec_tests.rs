//! Limits of the codec.

use super::*;
use std::collections::BTreeMap;

#[test]
fn a_value_up_to_the_limit_passes_and_one_byte_more_does_not() {
    // A vector is its length, 8 bytes, and its elements.
    let longest = vec![1u8; MESSAGE_BYTES_MAX - 8];
    let bytes = encode_message(&longest).unwrap();
    assert_eq!((bytes.len(), decode_message(&bytes)), (MESSAGE_BYTES_MAX, Ok(longest)));
    let longer = vec![1u8; MESSAGE_BYTES_MAX - 7];
    let refused = CodecError::TooLong { bytes: MESSAGE_BYTES_MAX + 1, limit: MESSAGE_BYTES_MAX };
    assert_eq!(encode_message(&longer), Err(refused.clone()));
    let mut by_hand = (longer.len() as u64).to_le_bytes().to_vec();
    by_hand.extend(&longer);
    assert_eq!(decode_message::<Vec<u8>>(&by_hand), Err(refused));

    let longest = vec![1u8; CATALOG_VALUE_BYTES_MAX - 9];
    let bytes = encode_row(&longest).unwrap();
    assert_eq!((bytes.len(), decode_row(&bytes)), (CATALOG_VALUE_BYTES_MAX, Ok(longest)));
    let longer = vec![1u8; CATALOG_VALUE_BYTES_MAX - 8];
    assert!(matches!(encode_row(&longer), Err(CodecError::TooLong { .. })));
}

#[test]
fn lengths_that_lie_are_refused() {
    for length in [u64::MAX, u64::MAX / 2, 1 << 62, 1 << 40, 1 << 32, 1 << 17, 3] {
        let bytes = [&length.to_le_bytes()[..], &[1, 2]].concat();
        assert!(matches!(decode_message::<Vec<u8>>(&bytes), Err(CodecError::Malformed(_))), "{length}");
        assert!(matches!(decode_message::<Vec<u64>>(&bytes), Err(CodecError::Malformed(_))), "{length}");
        assert!(matches!(decode_message::<String>(&bytes), Err(CodecError::Malformed(_))), "{length}");
        assert!(matches!(decode_message::<BTreeMap<u64, u64>>(&bytes), Err(CodecError::Malformed(_))), "{length}");
        // Of what takes no bytes there may be any number: that too has to end.
        assert!(matches!(decode_message::<Vec<Vec<u8>>>(&bytes), Err(CodecError::Malformed(_))), "{length}");
    }
}

#[test]
fn values_that_no_writer_writes_are_refused() {
    assert!(matches!(decode_message::<bool>(&[2]), Err(CodecError::Malformed(_))));
    assert!(matches!(decode_message::<Option<u8>>(&[2, 0]), Err(CodecError::Malformed(_))));
    assert!(matches!(decode_message::<String>(&[1, 0, 0, 0, 0, 0, 0, 0, 0xff]), Err(CodecError::Malformed(_))));
    assert_eq!(decode_message::<u8>(&[1, 0]), Err(CodecError::Trailing { extra: 1 }));
}

#[test]
fn a_row_of_another_version_or_of_nothing_is_refused() {
    let bytes = encode_row(&7u64).unwrap();
    assert_eq!(bytes, [1, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(decode_row::<u64>(&[&[2], &bytes[1..]].concat()), Err(CodecError::Version { found: 2 }));
    assert!(matches!(decode_row::<u64>(&[]), Err(CodecError::Malformed(_))));
}
