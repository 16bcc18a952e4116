use super::*;

fn batch() -> SendBatch {
    let mut batch = SendBatch::default();
    batch.push(Segment::Owned { bytes: b"__hello".to_vec(), start: 2 });
    batch.push(Segment::shared(Bytes::from_static(b" wide")));
    batch.push(Segment::shared(Bytes::new()));
    batch.append(6, || Vec::with_capacity(16), |bytes| bytes.extend_from_slice(b" world"));
    batch
}

fn rest(batch: &SendBatch) -> Vec<u8> {
    batch.segments().flatten().copied().collect()
}

#[test]
fn advances_over_every_number_of_bytes() {
    let whole = b"hello wide world";
    for first in 0..=whole.len() {
        for second in 0..=whole.len() - first {
            let (mut batch, mut recycled) = (batch(), 0);
            batch.advance(first, |_| recycled += 1);
            batch.advance(second, |_| recycled += 1);
            let sent = first + second;
            assert_eq!(rest(&batch), &whole[sent..]);
            assert_eq!(batch.len(), whole.len() - sent);
            assert!(batch.segments().all(|segment| !segment.is_empty()));
            assert_eq!(recycled, [5, 10, 16].into_iter().filter(|end| sent >= *end).count());
        }
    }
}

#[test]
fn appends_to_the_last_buffer_while_there_is_room() {
    let mut batch = batch();
    let never = || -> Vec<u8> { panic!("there is room") };
    batch.append(10, never, |bytes| bytes.extend_from_slice(b"0123456789"));
    assert_eq!(batch.segments().len(), 3);
    batch.append(1, || Vec::with_capacity(1), |bytes| bytes.push(b'!'));
    assert_eq!(batch.segments().len(), 4);
    assert_eq!(rest(&batch), b"hello wide world0123456789!");
}

#[test]
fn a_pair_is_appended_where_there_is_room_for_all_of_it() {
    let mut batch = batch();
    assert!(!batch.append_pair(*b"0123", 2, b"4567890", || ()), "no room for four and seven");
    assert_eq!((batch.segments().len(), batch.len()), (3, 16));
    assert!(batch.append_pair(*b"0123", 2, b"456", || ()));
    assert!(batch.append_pair(*b"ab..", 0, b"c", || ()), "none of the first");
    assert!(!batch.append_pair(*b"ab..", 2, b"c", || ()));
    assert_eq!(rest(&batch), b"hello wide world01456c");
    batch.advance(batch.len() - 2, drop);
    assert_eq!(rest(&batch), b"6c");
    let mut empty = SendBatch::default();
    assert!(!empty.append_pair(*b"0123", 4, b"", || ()), "nothing to append it to");
    let mut shared = SendBatch::default();
    shared.push(Segment::shared(Bytes::from_static(b"not ours to write to")));
    assert!(!shared.append_pair(*b"0123", 4, b"", || ()));
}

#[test]
fn a_lone_buffer_of_which_all_was_sent_is_kept_and_no_other() {
    let total = Rc::default();
    let mut lone = SendBatch::counted(Rc::clone(&total));
    lone.append(4, || Vec::with_capacity(16), |bytes| bytes.extend_from_slice(b"data"));
    let memory = lone.memory();
    assert_eq!(total.get(), memory);
    assert!(!lone.finish(3, memory), "one byte is left");
    assert!(!lone.finish(4, memory + 1), "another size");
    assert!(lone.finish(4, memory) && lone.has_kept() && lone.is_empty());
    assert!(!lone.finish(0, memory), "it was empty before");
    assert_eq!((lone.memory(), total.get()), (0, 0));
    assert_eq!(lone.own_bytes(), SendBatch::default().own_bytes() + memory + size_of::<Segment>());
    assert!(lone.append_pair(*b"ab..", 2, b"c", || ()));
    assert_eq!((rest(&lone), lone.has_kept(), total.get()), (b"abc".to_vec(), false, memory));
    assert!(lone.append_pair(*b"de..", 2, b"f", || ()), "counted once");
    assert_eq!((lone.len(), total.get()), (6, memory));
    assert!(lone.take_kept().is_none(), "it is in use");
    assert!(lone.finish(6, memory));
    assert_eq!(lone.take_kept().map(|buffer| (buffer.len(), buffer.capacity())), Some((0, memory)));
    assert!(lone.take_kept().is_none() && lone.segments().len() == 0);
    let mut several = batch();
    assert!(!several.finish(16, 16), "three segments");
    assert_eq!(rest(&several), b"hello wide world");
    lone.keep(Vec::with_capacity(16));
    drop(lone);
    assert_eq!(total.get(), 0);
}

#[test]
fn a_few_bytes_take_no_memory_of_their_own() {
    let mut batch = batch();
    batch.append_short(b"0123456789");
    assert_eq!((batch.segments().len(), rest(&batch).len()), (3, 26), "there is room");
    batch.append_short(b"abcdefghijklmn");
    batch.append_short(b"op");
    assert_eq!(batch.segments().len(), 5);
    batch.advance(29, drop);
    assert_eq!(rest(&batch), b"defghijklmnop");
    batch.advance(12, drop);
    assert_eq!((rest(&batch), batch.segments().len()), (b"p".to_vec(), 1));
    let memory = batch.memory();
    assert!(memory <= 2 * size_of::<Segment>(), "{memory} bytes");
}

#[test]
fn sealed_bytes_stay_in_front_and_nothing_is_appended_to_them() {
    let (mut batch, mut wire) = (SendBatch::default(), SendBatch::default());
    batch.insert_sealed(Vec::new());
    assert!(!batch.is_sealed(), "nothing is nothing");
    batch.append(4, || Vec::with_capacity(16), |bytes| bytes.extend_from_slice(b"data"));
    batch.insert_sealed(b"one".to_vec());
    let mut roomy = Vec::with_capacity(64);
    roomy.extend_from_slice(b"two");
    batch.insert_sealed(roomy);
    assert_eq!((rest(&batch), batch.is_sealed()), (b"onetwodata".to_vec(), true));
    batch.move_sealed(&mut wire);
    assert_eq!((rest(&batch), batch.len(), batch.is_sealed()), (b"data".to_vec(), 4, false));
    assert_eq!((rest(&wire), wire.len()), (b"onetwo".to_vec(), 6));
    wire.append(1, || Vec::with_capacity(8), |bytes| bytes.push(b'!'));
    assert_eq!((rest(&wire), wire.segments().len()), (b"onetwo!".to_vec(), 3));
    assert!(!wire.append_pair(*b"0123", 4, b"45678", || ()), "no room but in what is sealed");
    wire.advance(4, drop);
    assert_eq!((rest(&wire), wire.is_sealed()), (b"wo!".to_vec(), true));
}

#[cfg(feature = "_tls")]
#[test]
fn a_new_buffer_keeps_room_in_front_unless_it_would_grow() {
    let mut batch = SendBatch::default();
    batch.set_front(5);
    batch.append(4, || Vec::with_capacity(16), |bytes| bytes.extend_from_slice(b"data"));
    batch.append(2, || panic!("there is room"), |bytes| bytes.extend_from_slice(b"!!"));
    assert_eq!((rest(&batch), batch.len()), (b"data!!".to_vec(), 6));
    assert!(batch.take_buffer(6, 0, 6).is_none(), "five bytes are free in front");
    assert!(batch.take_buffer(5, 6, 6).is_none(), "five bytes are free behind");
    assert!(batch.take_buffer(5, 5, 5).is_none(), "six bytes are more than five");
    let (bytes, start) = batch.take_buffer(5, 5, 6).unwrap();
    assert_eq!((&bytes[start..], batch.is_empty(), batch.memory()), (&b"data!!"[..], true, 0));
    batch.insert_sealed_from(bytes, start - 5);
    assert_eq!(rest(&batch), b"\0\0\0\0\0data!!");
    batch.append(16, || Vec::with_capacity(16), |bytes| bytes.extend_from_slice(&[7; 16]));
    assert_eq!(batch.segments().last().unwrap(), [7; 16], "a buffer is not grown");
    assert!(batch.take_buffer(0, 0, 99).is_none(), "two segments");
}

#[test]
fn extends_in_order() {
    let (mut first, mut second) = (batch(), batch());
    first.advance(6, drop);
    first.extend(&mut second);
    assert_eq!(rest(&first), b"wide worldhello wide world");
    assert!(second.is_empty() && first.len() == 26);
    first.clear(drop);
    assert!(first.is_empty() && first.segments().len() == 0);
}
