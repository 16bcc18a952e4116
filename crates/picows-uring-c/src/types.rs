//! Values of C: texts, frames, types of frames, and structures that have their size in front.

use crate::status::{Failure, pwu_status};
use picows_uring::{Frame, MsgType};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;

/// A text or bytes of `size`, without a zero at its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_str {
    /// NULL for none.
    pub data: *const c_char,
    /// Bytes.
    pub size: usize,
}

impl pwu_str {
    pub(crate) const EMPTY: Self = Self { data: ptr::null(), size: 0 };

    /// Lends `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr().cast(), size: bytes.len() }
    }

    /// The bytes.
    ///
    /// # Safety
    ///
    /// `data` points to `size` bytes that stay as they are for `'a`, or is NULL.
    pub(crate) unsafe fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: the caller's promise.
        unsafe { bytes_of(self.data.cast(), self.size) }
    }
}

/// The bytes at `data`; none if that is NULL or `size` 0.
///
/// # Safety
///
/// `data` points to `size` bytes that stay as they are for `'a`, or is NULL.
pub(crate) unsafe fn bytes_of<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if data.is_null() || size == 0 {
        return &[];
    }
    // SAFETY: it is not NULL, and the rest is the caller's promise.
    unsafe { std::slice::from_raw_parts(data, size) }
}

/// A header of a request or response.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_header {
    /// In any case of letters.
    pub name: pwu_str,
    /// Without white space at its ends.
    pub value: pwu_str,
}

/// The headers at `headers`; none if that is NULL or `count` 0.
///
/// # Safety
///
/// There are `count` that stay as they are for `'a`, or `headers` is NULL.
pub(crate) unsafe fn headers_of<'a>(headers: *const pwu_header, count: usize) -> &'a [pwu_header] {
    if headers.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: it is not NULL, and the rest is the caller's promise.
    unsafe { std::slice::from_raw_parts(headers, count) }
}

/// Types of frames, by their opcodes (RFC 6455, section 5.2).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub enum pwu_type {
    /// The next fragment of a message.
    PWU_CONTINUATION = 0,
    /// Text, or its first fragment.
    PWU_TEXT = 1,
    /// Bytes, or their first fragment.
    PWU_BINARY = 2,
    /// The close handshake.
    PWU_CLOSE = 8,
    /// A ping.
    PWU_PING = 9,
    /// A pong.
    PWU_PONG = 10,
}

/// The type with the number `number`.
pub(crate) fn msg_type(number: c_int) -> Result<MsgType, Failure> {
    u8::try_from(number).ok().and_then(MsgType::from_opcode).ok_or_else(|| {
        Failure::new(
            pwu_status::PWU_INVALID,
            format!("type {number} is no frame type: use one of pwu_type"),
        )
    })
}

/// A frame that was received, lent for the time of the callback: copy what has to outlive it. Fragments
/// come as they are on the wire, unmasked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_frame {
    /// The application data; not NULL, also if there is none.
    pub payload: *const u8,
    /// Bytes of payload.
    pub size: usize,
    /// Bytes that were received behind this frame.
    pub tail_size: usize,
    /// One of pwu_type.
    pub r#type: u8,
    /// 1 if it is the last fragment of its message.
    pub fin: u8,
    /// RSV bits: 4 is RSV1, 2 is RSV2, 1 is RSV3.
    pub rsv: u8,
    /// 1 if no complete frame that counts follows in what was received.
    pub last_in_buffer: u8,
    /// The library's, for pwu_forward.
    pub ours: u64,
}

thread_local! {
    /// The frame of the callback that runs, and its number.
    static CURRENT: Cell<(u64, *const c_void)> = const { Cell::new((0, ptr::null())) };
    static FRAMES: Cell<u64> = const { Cell::new(0) };
}

/// A frame as C sees it, for the time of a callback.
pub(crate) struct ShownFrame<'a> {
    pub(crate) shown: pwu_frame,
    before: (u64, *const c_void),
    _frame: PhantomData<&'a Frame<'a>>,
}

impl<'a> ShownFrame<'a> {
    pub(crate) fn new(frame: &'a Frame<'a>) -> Self {
        let number = FRAMES.get().wrapping_add(1);
        FRAMES.set(number);
        let before = CURRENT.replace((number, ptr::from_ref(frame).cast()));
        let payload = frame.payload();
        let shown = pwu_frame {
            payload: payload.as_ptr(),
            size: payload.len(),
            tail_size: frame.tail_size(),
            r#type: frame.msg_type().opcode(),
            fin: frame.fin().into(),
            rsv: frame.rsv(),
            last_in_buffer: frame.last_in_buffer().into(),
            ours: number,
        };
        Self { shown, before, _frame: PhantomData }
    }
}

impl Drop for ShownFrame<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Calls `with` with the frame behind what C was shown, if that is the one of the callback that runs.
pub(crate) fn with_frame<T>(
    shown: &pwu_frame,
    with: impl FnOnce(&Frame<'_>) -> T,
) -> Result<T, Failure> {
    let (number, frame) = CURRENT.get();
    if number != shown.ours || frame.is_null() {
        return Err(Failure::new(
            pwu_status::PWU_INVALID,
            "the frame is not that of the callback that runs: copy a frame that has to outlive it",
        ));
    }
    // SAFETY: a `ShownFrame` that lives, and borrows the frame, has put it there.
    Ok(with(unsafe { &*frame.cast::<Frame<'_>>() }))
}

/// A structure of C that begins with its size, of which older and newer versions may be given. Every
/// pattern of bits is a value of it.
///
/// # Safety
///
/// The first field is `size: usize`, and all are integers, pointers or options of functions.
pub(crate) unsafe trait Sized0: Copy {
    /// The values of fields that an older version does not have.
    const DEFAULT: Self;
}

/// The structure at `given`, filled up with defaults.
///
/// # Safety
///
/// `given` points to as many bytes as its first field says, or is NULL.
pub(crate) unsafe fn read_sized<T: Sized0>(given: *const T) -> Result<Option<T>, Failure> {
    if given.is_null() {
        return Ok(None);
    }
    // SAFETY: every version begins with its size, by the rule of the trait.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    if size < size_of::<usize>() {
        return Err(Failure::new(
            pwu_status::PWU_INVALID,
            format!(
                "a structure of {size} bytes: set its field size to the sizeof of the structure"
            ),
        ));
    }
    let mut value = T::DEFAULT;
    let known = size.min(size_of::<T>());
    // SAFETY: there are `size` bytes, the caller's promise, and room for `known`; any bits are a value.
    unsafe { ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    // SAFETY: the same.
    let newer = unsafe { bytes_of(given.cast::<u8>().wrapping_add(known), size - known) };
    if newer.iter().any(|&byte| byte != 0) {
        return Err(Failure::new(
            pwu_status::PWU_INVALID,
            "a structure sets fields that this version of the library does not have: update it",
        ));
    }
    Ok(Some(value))
}

/// Writes `value` to `out`, as much of it as the size there says, and leaves that size as it is.
///
/// # Safety
///
/// `out` points to as many bytes as its first field says, or is NULL.
pub(crate) unsafe fn write_sized<T: Sized0>(out: *mut T, value: &T) -> Result<(), Failure> {
    if out.is_null() {
        return Err(Failure::null("the structure to fill"));
    }
    let head = size_of::<usize>();
    // SAFETY: every version begins with its size, by the rule of the trait.
    let size = unsafe { out.cast::<usize>().read_unaligned() };
    if size < head {
        return Err(Failure::new(
            pwu_status::PWU_INVALID,
            format!(
                "a structure of {size} bytes: set its field size to the sizeof of the structure"
            ),
        ));
    }
    let known = size.min(size_of::<T>()) - head;
    let from = ptr::from_ref(value).cast::<MaybeUninit<u8>>().wrapping_add(head);
    // SAFETY: both have `head + known` bytes, and do not overlap: one is the caller's.
    unsafe {
        ptr::copy_nonoverlapping(from, out.cast::<MaybeUninit<u8>>().wrapping_add(head), known);
    }
    Ok(())
}
