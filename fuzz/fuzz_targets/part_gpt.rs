//! The GPT reader on a disk of any bytes, as they are and with checksums made right, so that what is behind them is reached.
#![no_main]

mod part;

use corepath::wire::partition::Kind;

const CRC: crc::Crc<u32, crc::Table<16>> = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_ISO_HDLC);

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    part::check(Some(Kind::Gpt), data);
    let mut disk = data.to_vec();
    let Some((settings, content)) = disk.split_first_chunk_mut::<4>() else { return };
    let block_size = 512usize << (settings[1] % 5);
    let word = |content: &[u8], at: usize| u32::from_le_bytes(content[at..at + 4].try_into().unwrap());
    if content.len() < 2 * block_size {
        return;
    }
    let header = block_size;
    content[header..header + 8].copy_from_slice(b"EFI PART");
    content[header + 84..header + 88].copy_from_slice(&128u32.to_le_bytes());
    let entries = word(content, header + 72) as usize % 8 * block_size;
    let count = word(content, header + 80) as usize;
    if let Some(table) = content.get(entries..entries + (count % 160) * 128) {
        let crc = CRC.checksum(table);
        content[header + 88..header + 92].copy_from_slice(&crc.to_le_bytes());
    }
    let size = word(content, header + 12) as usize;
    if size <= block_size && size >= 92 {
        content[header + 16..header + 20].fill(0);
        let crc = CRC.checksum(&content[header..header + size]);
        content[header + 16..header + 20].copy_from_slice(&crc.to_le_bytes());
    }
    part::check(Some(Kind::Gpt), &disk);
});
