//! What mer's memory comes from: mimalloc. The system's allocator keeps what a burst took: of 1,000 URLs that had had an
//! event each held 50 KiB from then on, and with this one 30 KiB some seconds later.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
