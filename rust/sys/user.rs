// SPDX-License-Identifier: GPL-2.0

//! User space: running shell commands, to write parameters and files of debugfs; and reading files.
//! Kernel threads see no file system, but module init does. Both may sleep.

use ::core::{ptr, slice};
use kernel::{bindings, error::to_result, fmt, prelude::*, str::CString};

/// Runs `/bin/sh -c command` and waits for it.
///
/// # Errors
///
/// `EIO` if the command failed; the error of the kernel if it could not be run.
pub(crate) fn sh(command: &CStr) -> Result {
    let path = c"PATH=/bin:/sbin:/usr/bin:/usr/sbin";
    let words = [c"/bin/sh", c"-c", command, path];
    let [sh, c, command, path] = words.map(|word| word.as_char_ptr().cast_mut());
    let (mut argv, mut envp) = ([sh, c, command, ptr::null_mut()], [path, ptr::null_mut()]);
    // SAFETY: Both arrays end with a null pointer and live for the call, which waits.
    let ret = unsafe {
        bindings::call_usermodehelper(
            sh,
            argv.as_mut_ptr(),
            envp.as_mut_ptr(),
            bindings::UMH_WAIT_PROC as c_int,
        )
    };
    to_result(ret)?;
    (ret == 0).then_some(()).ok_or(EIO)
}

/// As [`sh()`], for a command that is formatted.
pub(crate) fn sh_fmt(command: fmt::Arguments<'_>) -> Result {
    sh(&CString::try_from_fmt(command)?)
}

/// The contents of a file.
///
/// # Invariants
///
/// `data` is null or an allocation of `len` bytes at least that the value owns.
pub(crate) struct File {
    data: *mut c_void,
    len: usize,
}

// SAFETY: The allocation belongs to no task.
unsafe impl Send for File {}
// SAFETY: It is not modified after read().
unsafe impl Sync for File {}

impl File {
    /// Reads the file at `path`, in the context of a user-space task.
    pub(crate) fn read(path: &CStr) -> Result<Self> {
        let mut data = ptr::null_mut();
        // SAFETY: `path` is a string, `data` valid for writes; with a null buffer the call
        // allocates.
        let len = unsafe {
            bindings::kernel_read_file_from_path(
                path.as_char_ptr(),
                0,
                &mut data,
                64 << 20,
                ptr::null_mut(),
                bindings::kernel_read_file_id_READING_UNKNOWN,
            )
        };
        if len < 0 {
            return Err(Error::from_errno(len as c_int));
        }
        // INVARIANT: By the contract of the call.
        Ok(Self {
            data,
            len: len as usize,
        })
    }

    /// The contents.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: By the type invariants.
        unsafe { slice::from_raw_parts(self.data.cast(), self.len) }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; it comes from vmalloc().
        unsafe { bindings::kvfree(self.data) };
    }
}
