//! Chains of records in a dm reply: devices, versions, dependencies. They end, and never reach outside the buffer.
#![no_main]

use corepath::wire::dm::Reply;

libfuzzer_sys::fuzz_target!(|payload: &[u8]| {
    // A header that passes its checks, so that the chains are reached.
    let mut bytes = vec![0u8; 312];
    bytes.extend_from_slice(payload);
    let size = (bytes.len() as u32).to_ne_bytes();
    bytes[12..16].copy_from_slice(&size);
    bytes[16..20].copy_from_slice(&312u32.to_ne_bytes());
    let reply = Reply::parse(&bytes).unwrap();
    assert!(reply.entries().count() <= bytes.len());
    assert!(reply.versions().count() <= bytes.len());
    if let Ok(deps) = reply.deps() {
        assert!(deps.count() <= bytes.len());
    }
    let _ = Reply::parse(payload).map(|reply| reply.info());
});
