//! What mer's memory comes from: jemalloc. The system's keeps what a burst took: of 1,000 URLs that had had an event each
//! held 50 KiB from then on, and with this one 30 KiB a few seconds later.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads when it starts (`malloc_conf` in its manual): what is free for a second goes back to the system, in
/// the background, so that this costs no event anything and happens though nothing does.
#[allow(unsafe_code, reason = "jemalloc finds its settings by this name, which nobody else has")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static SETTINGS: &[u8; 43] = b"background_thread:true,dirty_decay_ms:1000\0";
