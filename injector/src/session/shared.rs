//! Numbers that this process and the eBPF programs both see: array maps, mapped into memory.

use crate::exit::{Context as _, Error, ExitCode, Result};
use std::{
    ffi::c_void,
    num::NonZeroUsize,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::Map;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Maps the first `bytes` of an array that was made with `BPF_F_MMAPABLE`; who asks for it unmaps it.
///
/// # Errors
/// When it is no such array, or can't be mapped.
pub(super) fn in_memory(map: &Map, bytes: usize) -> Result<NonNull<c_void>> {
    let Map::Array(data) = map else {
        return Err(Error::new(ExitCode::INTERNAL, "only arrays can be mapped into memory"));
    };
    let bytes = NonZeroUsize::new(bytes).context("an array without entries")?;
    let (access, shared) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    // SAFETY: a fresh mapping at an address of the kernel's choice; the kernel keeps the map as long as the mapping.
    unsafe { mmap(None, bytes, access, shared, data.fd(), 0) }.context("can't map an eBPF array into memory")
}

/// An array map in memory, as words of 64 bits. Reading and writing it needs no system call, so it keeps no program off its CPU.
#[derive(Debug)]
pub(super) struct Shared {
    memory: NonNull<AtomicU64>,
    len: u32,
}

impl Shared {
    /// Maps an array that was made with `BPF_F_MMAPABLE` and whose entries have `len` words of 8 bytes in all.
    ///
    /// # Errors
    /// When it is no such array, or can't be mapped.
    pub(super) fn new(map: &Map, len: u32) -> Result<Self> {
        Ok(Self { memory: in_memory(map, len as usize * size_of::<u64>())?.cast(), len })
    }

    /// A word.
    pub(super) fn get(&self, index: u32) -> u64 {
        self.entry(index).load(Ordering::Acquire)
    }

    /// Changes a word; what was changed before is seen before.
    pub(super) fn set(&self, index: u32, value: u64) {
        self.entry(index).store(value, Ordering::Release);
    }

    fn entry(&self, index: u32) -> &AtomicU64 {
        assert!(index < self.len, "entry {index} of {}", self.len);
        // SAFETY: in bounds, aligned to the page, mapped as long as `self`; all access is atomic, on both sides.
        unsafe { self.memory.add(index as usize).as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody has a reference any more. If it fails, it stays until the process ends.
        let _ = unsafe { munmap(self.memory.cast(), self.len as usize * size_of::<u64>()) };
    }
}
