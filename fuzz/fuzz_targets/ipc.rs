//! The control socket: frames in pieces, and the commands in them.
#![no_main]

use corepath::wire::ipc::{Command, Decoder, Scratch};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Command::parse(bytes, &mut Scratch::default());
    let Some((&piece, mut rest)) = bytes.split_first() else { return };
    let mut decoder = Decoder::new();
    while !rest.is_empty() {
        let n = usize::from(piece).clamp(1, rest.len());
        let Ok(used) = decoder.feed(&rest[..n]) else { return };
        assert!(used > 0 && used <= n);
        rest = &rest[used..];
        if let Some(request) = decoder.request() {
            assert!(request.len() <= 512);
            let _ = Command::parse(request, &mut Scratch::default());
            decoder.clear();
        }
    }
});
