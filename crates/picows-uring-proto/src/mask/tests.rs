//! Every path of the mask against the obvious one, at every length and offset.

use super::*;

type Apply = fn(&mut [u8], [u8; 4]);
type Copy = fn(&mut Vec<u8>, &[u8], [u8; 4]);

const KEYS: [[u8; 4]; 5] = [
    [0x37, 0xfa, 0x21, 0x3d], // RFC 6455 §5.7
    [0x00, 0x00, 0x00, 0x00], // masks nothing, and is legal
    [0xff, 0xff, 0xff, 0xff],
    [0x01, 0x00, 0x00, 0x00], // exposes a rotation by one
    [0x00, 0x80, 0x00, 0x01],
];

/// Past four AVX2 blocks, so that every path meets every remainder several times.
const LENGTH_MAX: usize = 130;
/// Past one AVX2 block, so that every alignment of it is met.
const OFFSET_MAX: usize = 32;
/// Around every slice, to catch writes outside it.
const GUARD_BYTES: usize = 40;

/// The definition, from the RFC's own formula: `transformed[i] = original[i] ^ key[i % 4]`.
fn oracle(source: &[u8], key: [u8; 4], position: usize) -> Vec<u8> {
    source.iter().enumerate().map(|(index, byte)| byte ^ key[(position + index) % 4]).collect()
}

/// Bytes in which any two neighbours, and any two words, differ.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 167 + index / 251 + 13) as u8).collect()
}

/// The paths in place, by name, with the shortest payload that each accepts.
fn paths_in_place() -> Vec<(&'static str, usize, Apply)> {
    let mut paths: Vec<(&str, usize, Apply)> = vec![
        ("dispatch", 0, apply),
        ("words", 0, apply_words),
        ("bytes", 0, apply_bytes),
        ("blocks of 4", 4, apply_blocks::<4>),
        ("blocks of 8", 8, apply_blocks::<8>),
        ("blocks of 16", 16, apply_blocks::<16>),
        ("blocks of 32", 32, apply_blocks::<32>),
    ];
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        paths.push(("avx2", AVX2_BLOCK_BYTES, |payload, key| {
            // SAFETY: this path is listed only where AVX2 was detected.
            #[expect(unsafe_code)]
            unsafe {
                apply_avx2(payload, key);
            }
        }));
    }
    paths
}

/// The paths that append, by name, with the shortest source that each accepts.
fn paths_appending() -> Vec<(&'static str, usize, Copy)> {
    let mut paths: Vec<(&str, usize, Copy)> = vec![
        ("dispatch", 0, |destination, source, key| {
            copy_at(destination, source, key, 0);
        }),
        ("words", 0, copy_words),
        ("blocks of 4", 4, copy_blocks::<4>),
        ("blocks of 8", 8, copy_blocks::<8>),
        ("blocks of 16", 16, copy_blocks::<16>),
        ("blocks of 32", 32, copy_blocks::<32>),
    ];
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        paths.push(("avx2", AVX2_BLOCK_BYTES, |destination, source, key| {
            // SAFETY: this path is listed only where AVX2 was detected.
            #[expect(unsafe_code)]
            unsafe {
                copy_avx2(destination, source, key);
            }
        }));
    }
    paths
}

#[test]
fn masks_the_hello_of_the_rfc() {
    let mut payload = *b"Hello";
    apply(&mut payload, KEYS[0]);
    assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]); // RFC 6455 §5.7
}

#[test]
fn every_path_in_place_matches_the_definition_and_touches_nothing_else() {
    for (name, length_min, path) in paths_in_place() {
        for length in length_min..=LENGTH_MAX {
            for offset in 0..=OFFSET_MAX {
                for key in KEYS {
                    let start = GUARD_BYTES + offset;
                    let before = pattern(start + length + GUARD_BYTES);
                    let mut after = before.clone();
                    path(&mut after[start..start + length], key);
                    let mut expected = before.clone();
                    expected[start..start + length].copy_from_slice(&oracle(
                        &before[start..start + length],
                        key,
                        0,
                    ));
                    assert_eq!(after, expected, "{name} length={length} offset={offset} {key:x?}");
                }
            }
        }
    }
}

#[test]
fn every_path_that_appends_matches_the_definition_and_keeps_what_was_there() {
    for (name, length_min, path) in paths_appending() {
        for length in length_min..=LENGTH_MAX {
            for offset in 0..=OFFSET_MAX {
                for key in KEYS {
                    let buffer = pattern(offset + length + GUARD_BYTES);
                    let source = &buffer[offset..offset + length];
                    let mut destination = pattern(offset);
                    path(&mut destination, source, key);
                    let expected = [pattern(offset), oracle(source, key, 0)].concat();
                    assert_eq!(
                        destination, expected,
                        "{name} length={length} offset={offset} {key:x?}"
                    );
                }
            }
        }
    }
}

#[test]
fn every_position_rotates_the_key() {
    for length in 0..=LENGTH_MAX {
        for position in (0..8).chain([65_535, 65_536, usize::MAX - 1, usize::MAX]) {
            for key in KEYS {
                let source = pattern(length);
                let expected = oracle(&source, key, position % 4);
                let mut payload = source.clone();
                apply_at(&mut payload, key, position);
                assert_eq!(payload, expected, "length={length} position={position} {key:x?}");
                let mut destination = vec![0xaa];
                copy_at(&mut destination, &source, key, position);
                assert_eq!(destination[0], 0xaa, "length={length} position={position} {key:x?}");
                assert_eq!(destination[1..], expected, "length={length} position={position}");
            }
        }
    }
}

#[test]
fn pieces_give_what_the_whole_gives() {
    let source = pattern(LENGTH_MAX);
    let whole = oracle(&source, KEYS[0], 0);
    for cut in 0..=LENGTH_MAX {
        let mut payload = source.clone();
        let (head, tail) = payload.split_at_mut(cut);
        apply_at(head, KEYS[0], 0);
        apply_at(tail, KEYS[0], cut);
        assert_eq!(payload, whole, "cut={cut}");

        let mut destination = Vec::new();
        copy_at(&mut destination, &source[..cut], KEYS[0], 0);
        copy_at(&mut destination, &source[cut..], KEYS[0], cut);
        assert_eq!(destination, whole, "cut={cut}");
    }
}

#[test]
fn large_payloads_match_the_definition_and_masking_twice_restores_them() {
    let mib = 1 << 20;
    for length in [4095, 4096, 4097, 65_535, 65_536, 65_551, mib - 1, mib, mib + 1, mib + 33] {
        let source = pattern(length + 3);
        let source = &source[3..];
        let expected = oracle(source, KEYS[0], 2);
        let mut payload = source.to_vec();
        apply_at(&mut payload, KEYS[0], 2);
        assert!(payload == expected, "length={length}");
        apply_at(&mut payload, KEYS[0], 2);
        assert!(payload == source, "length={length}");
        let mut destination = Vec::new();
        copy_at(&mut destination, source, KEYS[0], 2);
        assert!(destination == expected, "length={length}");
    }
}

#[test]
fn appending_into_reserved_room_does_not_move_the_buffer() {
    let source = pattern(1000);
    let mut destination = Vec::with_capacity(1014);
    destination.extend_from_slice(&[0; 14]);
    let (address, capacity) = (destination.as_ptr(), destination.capacity());
    copy_at(&mut destination, &source, KEYS[0], 0);
    assert_eq!((destination.as_ptr(), destination.capacity()), (address, capacity));
}

#[test]
fn moving_masks_as_applying_does_at_every_length_gap_and_position() {
    // Beyond, more than one time four blocks.
    for length in (0..=LENGTH_MAX).chain(250..=300) {
        for gap in [0, 1, 3, 10, 14, 31, 32, 33, 64, 100] {
            for position in 0..4 {
                let source = pattern(length);
                let expected = oracle(&source, KEYS[0], position);
                let mut payload = vec![0xAA; gap];
                payload.extend_from_slice(&source);
                apply_shifted(&mut payload, gap, KEYS[0], position);
                assert_eq!(payload[..length], expected, "{length} {gap} {position}");
                let mut payload = [&vec![0xAA; gap][..], &source].concat();
                move_blocks::<16, 64>(&mut payload, gap, rotated(KEYS[0], position));
                assert_eq!(payload[..length], expected, "by words: {length} {gap} {position}");
            }
        }
    }
    apply_shifted(&mut [1, 2], 3, KEYS[0], 0);
}
