//! Payloads that are kept beyond their callback, without a copy.

use crate::status::{Failure, entry, guarded, pwu_status};
use crate::thread::Owner;
use crate::types::{pwu_frame, with_frame};
use std::ptr;
use std::rc::Rc;

/// The payload of a frame, kept by pwu_frame_keep.
pub struct pwu_kept {
    owner: Owner,
    _memory: Rc<Vec<u8>>,
}

/// Keeps the payload of the frame of the callback that runs, without a copy: what `payload` of the frame
/// points to stays as it is until pwu_kept_free. NULL where its memory is used again after the callback,
/// as that of a frame is which was received in one piece: copy such a payload.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_frame_keep(frame: *const pwu_frame) -> *mut pwu_kept {
    let kept = guarded(|| {
        // SAFETY: NULL, or what a callback was given.
        let frame = unsafe { frame.as_ref() }.ok_or_else(|| Failure::null("the frame"))?;
        let memory = with_frame(frame, |frame| frame.memory().cloned())?;
        Ok(memory.map(|memory| pwu_kept { owner: Owner::current(), _memory: memory }))
    });
    match kept {
        Ok(Some(kept)) => Box::into_raw(Box::new(kept)),
        Ok(None) | Err(_) => ptr::null_mut(),
    }
}

/// Lets a payload go that was kept. To be called on the thread of its connection: elsewhere it is
/// PWU_WRONG_THREAD, and the payload stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_kept_free(kept: *mut pwu_kept) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or kept and not freed, by the caller's word.
        let owner = unsafe { kept.as_ref() }.map(|kept| kept.owner);
        owner.ok_or_else(|| Failure::null("the payload"))?.check()?;
        // SAFETY: the same, and this is the one call.
        drop(unsafe { Box::from_raw(kept) });
        Ok(pwu_status::PWU_OK)
    })
}
