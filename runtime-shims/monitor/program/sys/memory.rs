//! The functions that the compiler calls without being asked, and the heap.
//!
//! Must not know: what is kept in it. Single-threaded, as the whole program is.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::null_mut;

use super::machine;

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe { machine::copy_up(to, from, count) };
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's; each direction reads what it is about to overwrite first.
    unsafe {
        if (to as usize).wrapping_sub(from as usize) >= count {
            machine::copy_up(to, from, count);
        } else {
            machine::copy_down(to, from, count);
        }
    }
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's. C wants the lowest byte.
    unsafe { machine::fill(to, value as u8, count) };
    to
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller's: both are valid for `count` bytes.
        let (l, r) = unsafe { (*left.add(at), *right.add(at)) };
        if l != r {
            return i32::from(l) - i32::from(r);
        }
    }
    0
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(left, right, count) }
}

/// # Safety
/// As C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller's: there is a NUL. The reads are volatile, or the compiler would make a call of strlen of them.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// The compiled `alloc` refers to it for unwinding, which this program never does: a panic ends it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    super::exit(134)
}

/// Small blocks are of 2⁴ to 2¹³ bytes, cut from pages and kept for reuse by size; larger ones are pages of their own,
/// which go back to the kernel.
struct Heap(UnsafeCell<Blocks>);

struct Blocks {
    /// Of each size the first free block; a free block begins with the address of the next.
    free: [*mut u8; SIZES],
    /// Where the next block is cut, and where the pages end.
    next: usize,
    end: usize,
}

const SMALLEST: u32 = 4;
const LARGEST: u32 = 13;
const SIZES: usize = (LARGEST - SMALLEST + 1) as usize;
const PAGES: usize = 32 * 1024;
/// Every small block is so aligned.
const ALIGNED: usize = 16;

// SAFETY: there is one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Blocks { free: [null_mut(); SIZES], next: 0, end: 0 }));

/// The index of the size that holds `layout`; none when it wants pages of its own.
fn size(layout: Layout) -> Option<usize> {
    let bits = layout.size().max(1 << SMALLEST).next_power_of_two().trailing_zeros();
    (bits <= LARGEST && layout.align() <= ALIGNED).then_some((bits - SMALLEST) as usize)
}

// SAFETY: a block is handed out once until it is freed, is as large as its size says, and aligned to it or to a page.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(index) = size(layout) else { return super::map(layout.size()) };
        // SAFETY: one thread, and nothing in here allocates.
        let blocks = unsafe { &mut *self.0.get() };
        let first = blocks.free[index];
        if first.is_null() {
            return blocks.cut(1 << (index as u32 + SMALLEST));
        }
        // SAFETY: a free block begins with the address of the next one.
        blocks.free[index] = unsafe { *first.cast::<*mut u8>() };
        first
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        let block = unsafe { self.alloc(layout) };
        // Fresh pages are zero, and cost nothing until they are used.
        if size(layout).is_some() && !block.is_null() {
            // SAFETY: the block is as large as `layout` says.
            unsafe { machine::fill(block, 0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(index) = size(layout) else { return super::unmap(block, layout.size()) };
        // SAFETY: one thread; the block is no longer used, aligned, and has room for an address.
        unsafe {
            let blocks = &mut *self.0.get();
            *block.cast::<*mut u8>() = blocks.free[index];
            blocks.free[index] = block;
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, wanted: usize) -> *mut u8 {
        // SAFETY: the caller's: `wanted` is a valid size for this alignment.
        let larger = unsafe { Layout::from_size_align_unchecked(wanted, layout.align()) };
        if size(layout).is_some() && size(layout) == size(larger) {
            return block;
        }
        // SAFETY: the caller's; both blocks are valid for the shorter of the two sizes.
        unsafe {
            let fresh = self.alloc(larger);
            if !fresh.is_null() {
                machine::copy_up(fresh, block, layout.size().min(wanted));
                self.dealloc(block, layout);
            }
            fresh
        }
    }
}

impl Blocks {
    fn cut(&mut self, size: usize) -> *mut u8 {
        if self.end - self.next < size {
            // What is left of the last pages is less than a block of this size, and stays unused.
            let pages = super::map(PAGES);
            if pages.is_null() {
                return pages;
            }
            (self.next, self.end) = (pages as usize, pages as usize + PAGES);
        }
        let block = self.next as *mut u8;
        self.next += size;
        block
    }
}
