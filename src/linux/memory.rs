//! Memory of this process.

use std::io;

use crate::sys::cvt;

unsafe extern "C" {
    /// Where the program begins in memory, and where its code ends: symbols of the linker.
    static __executable_start: u8;
    static etext: u8;
}

/// Gives up the mappings of the program's own code and constants. They stay in the page cache and
/// come back, 64 KiB at a fault, when they are used again: a process that did something large and
/// will wait from now on for something small has no more of the program than the small thing needs.
///
/// # Errors
/// When the kernel refuses, which changes nothing.
pub fn release_program() -> io::Result<()> {
    let (start, end) = (&raw const __executable_start as usize, &raw const etext as usize);
    // SAFETY: sysconf reads a constant.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let (start, end) = (start.next_multiple_of(page), end / page * page);
    let length = end.saturating_sub(start);
    // SAFETY: between the two lie only private mappings of the program's file that nobody can have
    // written to: what is dropped is read from the file again.
    cvt(unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_gave_itself_up_goes_on() {
        let constant = "what is read before is read after";
        let before = constant.len() + usize::from(constant.as_bytes()[5]);
        release_program().unwrap();
        assert_eq!(constant.len() + usize::from(constant.as_bytes()[5]), before);
    }
}
