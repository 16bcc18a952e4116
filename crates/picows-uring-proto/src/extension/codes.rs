//! Codes of deflate (RFC 1951 §3.2): how long each is for counts of symbols, and its bits.

/// Sets `lengths` to those of the best code, or nearly the best, for symbols that occur as often as `counts`
/// says, none longer than `LONGEST`. Returns how many have each length.
///
/// There are two codes at least, as some expanders refuse a code that leaves bits without a meaning.
pub(super) fn lengths_of<const LONGEST: usize>(
    counts: &[u16],
    lengths: &mut [u8],
) -> [u16; CODE_BITS_MAX + 1] {
    lengths.fill(0);
    // The rarest first; equal ones in the order of the symbols.
    let (mut sorted, mut used) = ([0_u32; SYMBOLS_MAX], 0);
    for (symbol, &count) in (0..).zip(counts) {
        sorted[used] = u32::from(count) << 16 | symbol;
        used += usize::from(count > 0);
    }
    let mut per_length = [0; CODE_BITS_MAX + 1];
    if used < 2 {
        let only = if used == 1 { usize::from(sorted[0] as u16) } else { 0 };
        lengths[only] = 1;
        lengths[usize::from(only == 0)] = 1;
        per_length[1] = 2;
        return per_length;
    }
    let sorted = &mut sorted[..used];
    sorted.sort_unstable();
    let mut levels = depths(sorted);
    flatten::<LONGEST>(&mut levels);
    let mut next = sorted.iter();
    for length in (1..=LONGEST).rev() {
        per_length[length] = levels[length];
        for symbol in next.by_ref().take(usize::from(levels[length])) {
            lengths[usize::from(*symbol as u16)] = length as u8;
        }
    }
    per_length
}

/// How many leaves of the best tree are how deep (Moffat and Katajainen, In-Place Calculation of
/// Minimum-Redundancy Codes, 1995). A tree of as many symbols as a message has bytes is less deep than there
/// is room for: a leaf at depth n takes as many as the n-th Fibonacci number.
fn depths(sorted: &[u32]) -> [u16; DEPTH_MAX + 1] {
    let used = sorted.len();
    let mut tree = [0; SYMBOLS_MAX];
    let tree = &mut tree[..used];
    for (weight, symbol) in tree.iter_mut().zip(sorted) {
        *weight = symbol >> 16;
    }
    // Weights of inner nodes take the place of leaves that have a parent, and their own parents that of the
    // weights.
    let (mut inner, mut leaf) = (0, 0);
    for next in 0..used - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            if leaf >= used || (inner < next && tree[inner] < tree[leaf]) {
                weight += tree[inner];
                tree[inner] = next as u32;
                inner += 1;
            } else {
                weight += tree[leaf];
                leaf += 1;
            }
        }
        tree[next] = weight;
    }
    // Depths of the inner nodes, from the root on; what they leave free on a level are leaves.
    let mut inner_left = used - 1;
    tree[inner_left - 1] = 0;
    for node in (0..inner_left - 1).rev() {
        tree[node] = tree[tree[node] as usize] + 1;
    }
    let mut levels = [0; DEPTH_MAX + 1];
    let (mut free, mut depth) = (1, 0);
    while free > 0 && depth <= DEPTH_MAX {
        let mut nodes = 0;
        while inner_left > 0 && tree[inner_left - 1] as usize == depth {
            nodes += 1;
            inner_left -= 1;
        }
        levels[depth] = free - nodes;
        free = 2 * nodes;
        depth += 1;
    }
    levels
}

/// Raises leaves that are deeper than `LONGEST`, and lowers others for that.
fn flatten<const LONGEST: usize>(levels: &mut [u16; DEPTH_MAX + 1]) {
    let (kept, deeper) = levels.split_at_mut(LONGEST + 1);
    let raised: u16 = deeper.iter().sum();
    if raised == 0 {
        return;
    }
    deeper.fill(0);
    kept[LONGEST] += raised;
    // What all codes together take of what there is, in the room of one that is the longest.
    let taken: usize =
        (1..=LONGEST).map(|length| usize::from(kept[length]) << (LONGEST - length)).sum();
    for _ in 0..taken - (1 << LONGEST) {
        // A leaf goes down one level, and one of the longest comes beside it.
        if let Some(length) = (1..LONGEST).rev().find(|&length| kept[length] > 0) {
            kept[length] -= 1;
            kept[length + 1] += 2;
            kept[LONGEST] -= 1;
        }
    }
}

/// Sets `codes` to those of `lengths` (RFC 1951 §3.2.2), the first bit lowest, with the length above:
/// `bits | length << 16`.
pub(super) const fn codes_of(
    lengths: &[u8],
    per_length: &[u16; CODE_BITS_MAX + 1],
    codes: &mut [u32],
) {
    let mut next = [0_u16; CODE_BITS_MAX + 1];
    let mut length = 2;
    while length <= CODE_BITS_MAX {
        next[length] = (next[length - 1] + per_length[length - 1]) << 1;
        length += 1;
    }
    let mut symbol = 0;
    while symbol < lengths.len() {
        let length = lengths[symbol] as usize;
        codes[symbol] = 0;
        if length > 0 {
            let bits = next[length].reverse_bits() >> (CODE_BITS_MAX + 1 - length);
            codes[symbol] = bits as u32 | (length as u32) << 16;
            next[length] += 1;
        }
        symbol += 1;
    }
}

/// The longest code of a literal or distance.
pub(super) const CODE_BITS_MAX: usize = 15;
/// Literals and lengths, with two that are not used.
pub(super) const SYMBOLS_MAX: usize = 288;
const DEPTH_MAX: usize = 31;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lengths by the definition: the two rarest trees are joined until there is one.
    fn bits_of_the_best(counts: &[u16]) -> usize {
        let mut weights: Vec<usize> =
            counts.iter().filter(|it| **it > 0).map(|it| (*it).into()).collect();
        let mut bits = 0;
        while weights.len() > 1 {
            weights.sort_unstable_by(|a, b| b.cmp(a));
            let joined = weights.pop().unwrap_or(0) + weights.pop().unwrap_or(0);
            bits += joined;
            weights.push(joined);
        }
        bits
    }

    fn check<const LONGEST: usize>(counts: &[u16]) -> Vec<u8> {
        let mut lengths = vec![0xAA; counts.len()];
        let per_length = lengths_of::<LONGEST>(counts, &mut lengths);
        let codes: usize =
            lengths.iter().filter(|it| **it > 0).map(|it| 1 << (LONGEST - usize::from(*it))).sum();
        assert_eq!(
            codes,
            1 << LONGEST,
            "each run of bits has a meaning, and one only: {lengths:?}"
        );
        for (length, &count) in per_length.iter().enumerate().skip(1) {
            let found = lengths.iter().filter(|it| usize::from(**it) == length).count();
            assert_eq!(found, usize::from(count));
        }
        for (symbol, &count) in counts.iter().enumerate() {
            assert!(count == 0 || lengths[symbol] > 0, "{symbol} has a code");
        }
        lengths
    }

    fn bits(counts: &[u16], lengths: &[u8]) -> usize {
        counts
            .iter()
            .zip(lengths)
            .map(|(count, length)| usize::from(*count) * usize::from(*length))
            .sum()
    }

    proptest! {
        #[test]
        fn codes_are_whole_and_as_short_as_can_be(
            counts in proptest::collection::vec(prop_oneof![Just(0), 0..5_u16, 0..300_u16], 2..286)
        ) {
            let lengths = check::<15>(&counts);
            if counts.iter().filter(|it| **it > 0).count() > 1 {
                prop_assert_eq!(bits(&counts, &lengths), bits_of_the_best(&counts));
            }
            let few = &counts[..counts.len().min(19)];
            check::<7>(few);
        }
    }

    #[test]
    fn a_tree_that_is_too_deep_is_made_less_deep() {
        let mut counts = vec![1, 1];
        while counts.len() < 19 {
            counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
        }
        let lengths = check::<7>(&counts);
        assert_eq!(lengths.iter().max(), Some(&7));
        assert!(bits(&counts, &lengths) > bits_of_the_best(&counts));
        let lengths = check::<15>(&counts);
        assert_eq!(lengths.iter().max(), Some(&15));
    }

    #[test]
    fn there_are_two_codes_at_least() {
        assert_eq!(check::<15>(&[0, 0, 0]), [1, 1, 0]);
        assert_eq!(check::<15>(&[7, 0, 0]), [1, 1, 0]);
        assert_eq!(check::<15>(&[0, 0, 7]), [1, 0, 1]);
    }

    #[test]
    fn the_example_of_rfc1951_3_2_2() {
        let lengths = [3, 3, 3, 3, 3, 2, 4, 4];
        let mut per_length = [0; 16];
        (per_length[2], per_length[3], per_length[4]) = (1, 5, 2);
        let mut codes = [0; 8];
        codes_of(&lengths, &per_length, &mut codes);
        let bits: Vec<_> =
            codes.iter().map(|code| (*code as u16).reverse_bits() >> (16 - (code >> 16))).collect();
        assert_eq!(bits, [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]);
    }
}
