//! XORs payloads with the masking key of RFC 6455 §5.3.
//!
//! Knows bytes and keys, not frames: where a payload begins, and whether it is masked at all, is
//! the caller's business.
//!
//! Every path works in whole blocks and finishes with one block that ends where the payload ends
//! and may overlap the one before it. So no path has a loop over single bytes, which is what small
//! frames would otherwise spend their time in.

/// XORs `payload` with `key`, starting at key byte 0. Masks and unmasks.
///
/// ```
/// use picows_uring_proto::internal::mask;
///
/// let mut payload = *b"Hello"; // RFC 6455 §5.7
/// mask::apply(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
#[inline]
pub fn apply(payload: &mut [u8], key: [u8; 4]) {
    apply_at(payload, key, 0);
}

/// XORs a piece of a payload with `key`: `position` is the index of `payload[0]` in the payload of
/// its frame.
///
/// ```
/// use picows_uring_proto::internal::mask;
///
/// let key = [0x37, 0xfa, 0x21, 0x3d];
/// let mut payload = *b"Hello";
/// let (head, tail) = payload.split_at_mut(3);
/// mask::apply_at(head, key, 0);
/// mask::apply_at(tail, key, 3);
/// assert_eq!(payload, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
pub fn apply_at(payload: &mut [u8], key: [u8; 4], position: usize) {
    let key = rotated(key, position);
    #[cfg(target_arch = "x86_64")]
    if payload.len() >= AVX2_PAYLOAD_BYTES_MIN && std::is_x86_feature_detected!("avx2") {
        // SAFETY: the branch above saw AVX2, which is all that `apply_avx2` requires.
        #[expect(unsafe_code)]
        return unsafe { apply_avx2(payload, key) };
    }
    apply_words(payload, key);
}

/// Appends `source`, XORed with `key`, to `destination`; `position` is the index of `source[0]` in
/// the payload of its frame.
///
/// The bytes are read once and written once. From 32 bytes up that is half to three quarters
/// of what a copy costs with [`apply_at`] after it.
///
/// ```
/// use picows_uring_proto::internal::mask;
///
/// let mut frame = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d];
/// mask::copy_at(&mut frame, b"Hello", [0x37, 0xfa, 0x21, 0x3d], 0);
/// assert_eq!(frame[6..], [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
/// ```
pub fn copy_at(destination: &mut Vec<u8>, source: &[u8], key: [u8; 4], position: usize) {
    destination.reserve(source.len());
    let key = rotated(key, position);
    #[cfg(target_arch = "x86_64")]
    if source.len() >= AVX2_PAYLOAD_BYTES_MIN && std::is_x86_feature_detected!("avx2") {
        // SAFETY: the branch above saw AVX2, which is all that `copy_avx2` requires.
        #[expect(unsafe_code)]
        return unsafe { copy_avx2(destination, source, key) };
    }
    copy_words(destination, source, key);
}

/// XORs what is behind the first `gap` bytes of `payload` with `key`, and moves it to the front;
/// `position` is the index of its first byte in the payload of its frame. What is left at the end
/// means nothing.
///
/// Each byte is read and written once, as with [`apply_at`].
///
/// ```
/// use picows_uring_proto::internal::mask;
///
/// let mut payload = *b"--\x7f\x9f\x4d\x51\x58";
/// mask::apply_shifted(&mut payload, 2, [0x37, 0xfa, 0x21, 0x3d], 0);
/// assert_eq!(payload[..5], *b"Hello");
/// ```
pub fn apply_shifted(payload: &mut [u8], gap: usize, key: [u8; 4], position: usize) {
    let key = rotated(key, position);
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the branch above saw AVX2, which is all that `move_avx2` requires.
        #[expect(unsafe_code)]
        return unsafe { move_avx2(payload, gap, key) };
    }
    move_blocks::<16, 64>(payload, gap, key);
}

/// In place, for any length and any processor.
fn apply_words(payload: &mut [u8], key: [u8; 4]) {
    match payload.len() {
        64.. => apply_blocks::<16>(payload, key),
        32.. => apply_ends::<32>(payload, key),
        16.. => apply_ends::<16>(payload, key),
        8.. => apply_ends::<8>(payload, key),
        4.. => apply_ends::<4>(payload, key),
        _ => apply_bytes(payload, key),
    }
}

/// Appending, for any length and any processor.
fn copy_words(destination: &mut Vec<u8>, source: &[u8], key: [u8; 4]) {
    match source.len() {
        16.. => copy_blocks::<16>(destination, source, key),
        8.. => copy_blocks::<8>(destination, source, key),
        4.. => copy_blocks::<4>(destination, source, key),
        _ => destination.extend(source.iter().zip(key).map(|(byte, key_byte)| byte ^ key_byte)),
    }
}

/// In place, for payloads of one to two blocks: the first and the last are all there is.
#[inline(always)]
fn apply_ends<const BLOCK_BYTES: usize>(payload: &mut [u8], key: [u8; 4]) {
    const { assert!(BLOCK_BYTES.is_multiple_of(4)) };
    debug_assert!(payload.len() <= 2 * BLOCK_BYTES, "there is nothing between the ends");
    // Both are read before either is written, because they may overlap.
    let first = payload.first_chunk::<BLOCK_BYTES>().expect(LONG_ENOUGH);
    let first = xored(*first, key);
    let last = payload.last_chunk::<BLOCK_BYTES>().expect(LONG_ENOUGH);
    let last = xored(*last, rotated(key, payload.len()));
    *payload.first_chunk_mut().expect(LONG_ENOUGH) = first;
    *payload.last_chunk_mut().expect(LONG_ENOUGH) = last;
}

/// In place, for payloads of a block or more.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn apply_avx2(payload: &mut [u8], key: [u8; 4]) {
    apply_blocks::<AVX2_BLOCK_BYTES>(payload, key);
}

/// Moving, for any length.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn move_avx2(payload: &mut [u8], gap: usize, key: [u8; 4]) {
    move_blocks::<AVX2_BLOCK_BYTES, { 4 * AVX2_BLOCK_BYTES }>(payload, gap, key);
}

/// Appending, for sources of a block or more.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn copy_avx2(destination: &mut Vec<u8>, source: &[u8], key: [u8; 4]) {
    copy_blocks::<AVX2_BLOCK_BYTES>(destination, source, key);
}

/// The body of every path in place. Always inlined: it becomes AVX2 code inside `apply_avx2`.
#[inline(always)]
fn apply_blocks<const BLOCK_BYTES: usize>(payload: &mut [u8], key: [u8; 4]) {
    const { assert!(BLOCK_BYTES.is_multiple_of(4)) };
    // The last block is read before the others are written, because they may overlap it.
    let last = payload.last_chunk::<BLOCK_BYTES>().expect(LONG_ENOUGH);
    let last = xored(*last, rotated(key, payload.len()));
    for block in payload.as_chunks_mut::<BLOCK_BYTES>().0 {
        *block = xored(*block, key);
    }
    *payload.last_chunk_mut().expect(LONG_ENOUGH) = last;
}

/// The body of every path that appends. Always inlined: it becomes AVX2 code inside `copy_avx2`.
#[inline(always)]
fn copy_blocks<const BLOCK_BYTES: usize>(destination: &mut Vec<u8>, source: &[u8], key: [u8; 4]) {
    const { assert!(BLOCK_BYTES.is_multiple_of(4)) };
    // `flat_map` to arrays knows its exact length, so `extend` writes without checking for room.
    let (blocks, rest) = source.as_chunks::<BLOCK_BYTES>();
    destination.extend(blocks.iter().flat_map(|block| xored(*block, key)));
    if rest.is_empty() {
        return;
    }
    // The last block takes back what it shares with the one before, and writes it again.
    let last = source.last_chunk::<BLOCK_BYTES>().expect(LONG_ENOUGH);
    destination.truncate(destination.len() + rest.len() - BLOCK_BYTES);
    destination.extend_from_slice(&xored(*last, rotated(key, source.len())));
}

/// The body of every path that moves. Always inlined: it becomes AVX2 code inside `move_avx2`.
///
/// Blocks move to the front in their order, each read before it is written, so none is overwritten
/// before it was read. Four at a time, as finding the place of one is as much work as moving it.
#[inline(always)]
fn move_blocks<const BLOCK_BYTES: usize, const FOUR_BLOCKS: usize>(
    payload: &mut [u8],
    gap: usize,
    key: [u8; 4],
) {
    const { assert!(BLOCK_BYTES.is_multiple_of(4) && FOUR_BLOCKS == 4 * BLOCK_BYTES) };
    let mut moved = 0;
    moved += move_whole::<FOUR_BLOCKS>(payload, gap, key);
    moved += move_whole::<BLOCK_BYTES>(&mut payload[moved..], gap, key);
    let rest = &mut payload[moved..];
    let len = rest.len().saturating_sub(gap);
    rest.copy_within(rest.len() - len.., 0);
    apply_bytes(&mut rest[..len], key);
}

/// Moves all whole blocks, and returns how many bytes they are.
#[inline(always)]
fn move_whole<const BLOCK_BYTES: usize>(payload: &mut [u8], gap: usize, key: [u8; 4]) -> usize {
    let mut to = 0;
    while let Some(block) =
        payload.get(to + gap..).and_then(|rest| rest.first_chunk::<BLOCK_BYTES>())
    {
        let block = xored(*block, key);
        payload[to..to + BLOCK_BYTES].copy_from_slice(&block);
        to += BLOCK_BYTES;
    }
    to
}

/// The obvious version: what payloads of less than a word get, and what the tests compare with.
fn apply_bytes(payload: &mut [u8], key: [u8; 4]) {
    for (byte, key_byte) in payload.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key_byte;
    }
}

/// `block` XORed with `key`, starting at key byte 0.
#[inline(always)]
fn xored<const BLOCK_BYTES: usize>(
    mut block: [u8; BLOCK_BYTES],
    key: [u8; 4],
) -> [u8; BLOCK_BYTES] {
    let key = u32::from_ne_bytes(key);
    for word in block.as_chunks_mut::<4>().0 {
        *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    block
}

/// The key whose byte 0 is byte `position % 4` of `key`.
///
/// A block that ends at `position` begins there too, counted in key bytes: its length is a
/// multiple of 4.
#[inline(always)]
fn rotated(key: [u8; 4], position: usize) -> [u8; 4] {
    // Little-endian puts key byte 0 into the low bits, whatever the processor's own order is.
    let bits = 8 * (position % 4) as u32;
    u32::from_le_bytes(key).rotate_right(bits).to_le_bytes()
}

/// What `apply_blocks` and `copy_blocks` may expect: a payload left unmasked would be worse.
const LONG_ENOUGH: &str = "the path was chosen by length, and has a block at least";

/// One AVX2 register.
#[cfg(target_arch = "x86_64")]
const AVX2_BLOCK_BYTES: usize = 32;

/// Shortest payload worth a look at the processor's features: below, the words are as fast.
#[cfg(target_arch = "x86_64")]
const AVX2_PAYLOAD_BYTES_MIN: usize = 64;

#[cfg(target_arch = "x86_64")]
const _: () = assert!(AVX2_PAYLOAD_BYTES_MIN >= AVX2_BLOCK_BYTES);

#[cfg(test)]
mod tests;
