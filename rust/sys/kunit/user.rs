// SPDX-License-Identifier: GPL-2.0

//! The user space of the machine: a shell command, for what only files can do (parameters, the
//! shrinker's debugfs files).

use ::core::ptr;
use kernel::{bindings, prelude::*};

/// Runs `/bin/sh -c command` and waits for it.
///
/// # Context
///
/// May sleep.
///
/// # Errors
///
/// `EIO` when the command ended with anything but 0; what the kernel says when it can't be run.
pub(crate) fn sh(command: &CStr) -> Result {
    let mut argv = [
        c"/bin/sh".as_char_ptr().cast_mut(),
        c"-c".as_char_ptr().cast_mut(),
        command.as_char_ptr().cast_mut(),
        ptr::null_mut(),
    ];
    let mut envp = [
        c"PATH=/bin:/sbin:/usr/bin:/usr/sbin"
            .as_char_ptr()
            .cast_mut(),
        ptr::null_mut(),
    ];
    // SAFETY: Both arrays end with a null pointer and live for the call, which waits.
    let ret = unsafe {
        bindings::call_usermodehelper(
            argv[0],
            argv.as_mut_ptr(),
            envp.as_mut_ptr(),
            bindings::UMH_WAIT_PROC as c_int,
        )
    };
    if ret < 0 {
        return Err(Error::from_errno(ret));
    }
    if ret != 0 {
        return Err(EIO);
    }
    Ok(())
}
