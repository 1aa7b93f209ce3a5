//! Links the executable without libc or start files, and compiles the array table.
//!
//! Link arguments belong here and nowhere else: given by RUSTFLAGS they would also reach build scripts and the test harness, which
//! then crash at start. The array table is read by the very modules that read multipath.conf.
#![allow(dead_code, unreachable_pub, unused_imports)]

#[path = "src/conf/complaint.rs"]
mod complaint;
#[path = "src/conf/ere/mod.rs"]
mod ere;
#[path = "src/conf/keyword.rs"]
mod keyword;
#[path = "src/conf/lex.rs"]
mod lex;
#[path = "src/conf/parse/mod.rs"]
mod parse;
#[path = "src/conf/value.rs"]
mod value;
#[path = "src/conf/wrong.rs"]
mod wrong;

use keyword::{Key, Place};
use parse::{Entry, Room, Section, Source};
use std::fmt::Write;
use value::Value;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for file in ["complaint.rs", "ere", "keyword.rs", "lex.rs", "parse", "value.rs", "wrong.rs", "arrays.conf"] {
        println!("cargo::rerun-if-changed=src/conf/{file}");
    }
    link_without_libc();
    let out = std::path::Path::new(&var("OUT_DIR")).join("arrays.rs");
    let text = std::fs::read("src/conf/arrays.conf").expect("src/conf/arrays.conf");
    std::fs::write(out, compile_arrays(&text)).expect("arrays.rs");
    println!("cargo::rerun-if-changed=initramfs");
    put_packed("pieces.rs", &pieces());
    println!("cargo::rerun-if-changed=src/apps/help.txt");
    let help = std::fs::read_to_string("src/apps/help.txt").expect("src/apps/help.txt");
    put_packed("help.rs", help.trim_end().as_bytes());
}

/// A file with a text for `apps::texts`.
fn put_packed(name: &str, text: &[u8]) {
    let packed = pack(text);
    let out = std::path::Path::new(&var("OUT_DIR")).join(name);
    std::fs::write(out, format!("const UNPACKED: usize = {};\nconst PACKED: &[u8] = &{packed:?};\n", text.len())).expect(name);
}

/// The files of initramfs/pieces, one after the other: who wants it, its mode (0 file, 1 program, 2 link), length of its path and of its text
/// (seven bits a byte), path, text.
fn pieces() -> Vec<u8> {
    let mut all = Vec::new();
    let list = std::fs::read_to_string("initramfs/pieces").expect("initramfs/pieces");
    for line in list.lines().filter(|line| !line.starts_with('#')) {
        let [who, mode, path, from] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("initramfs/pieces: {line}") };
        let mode = ["644", "755", "link"].iter().position(|known| *known == mode).unwrap_or_else(|| panic!("initramfs/pieces: {line}"));
        let text = if mode == 2 { from.as_bytes().to_vec() } else { std::fs::read(format!("initramfs/{from}")).expect(from) };
        assert!(path.len() < 1 << 7 && text.len() < 1 << 14, "{path}: a short path and a short file");
        all.extend([who.as_bytes()[0], mode as u8, path.len() as u8, text.len() as u8 & 0x7f, (text.len() >> 7) as u8]);
        all.extend(path.as_bytes());
        all.extend(text);
    }
    all
}

/// Packs ASCII text by references to what came before: a bit 0 and the seven of a character, or a bit 1, how long the repetition is less one,
/// and how far back it is less one: what is above its seven lowest bits, plus one, and these. Both numbers are written as `Bits::number`
/// does. Half of it is repetition, and reading it takes twenty lines.
fn pack(text: &[u8]) -> Vec<u8> {
    assert!(text.is_ascii(), "characters of seven bits");
    let mut places = std::collections::HashMap::<&[u8], Vec<usize>>::new();
    text.windows(2).enumerate().for_each(|(at, pair)| places.entry(pair).or_default().push(at));
    // From the end on: the fewest bits that write the rest, and the step they begin with, its length and how far back.
    let mut best = vec![(0, 1, 0); text.len() + 1];
    for at in (0..text.len()).rev() {
        best[at] = (8 + best[at + 1].0, 1, 0);
        let mut longest = 1;
        let pair = &text[at..text.len().min(at + 2)];
        // The nearest first: a number costs the less the smaller it is.
        for &from in places.get(pair).into_iter().flatten().rev().filter(|from| **from < at) {
            let back = at - from;
            let length = text[from..].iter().zip(&text[at..]).take_while(|(a, b)| a == b).count();
            for length in longest + 1..=length {
                let bits = 1 + Bits::cost(length - 1) + Bits::cost(((back - 1) >> 7) + 1) + 7 + best[at + length].0;
                best[at] = best[at].min((bits, length, back));
            }
            longest = longest.max(length);
        }
    }
    let (mut packed, mut at) = (Bits::default(), 0);
    while at < text.len() {
        let (_, length, back) = best[at];
        if back == 0 {
            packed.put(text[at].into(), 8);
        } else {
            packed.put(1, 1);
            packed.number(length - 1);
            packed.number(((back - 1) >> 7) + 1);
            packed.put((back - 1) & 0x7f, 7);
        }
        at += length;
    }
    packed.bytes
}

/// Bits, the highest of a byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: usize, count: usize) {
        for place in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> place & 1) << (7 - self.used % 8)) as u8;
            self.used += 1;
        }
    }

    /// A number from 1: as many zeros as it has bits after its highest, then the number (Elias gamma).
    fn number(&mut self, value: usize) {
        self.put(value, Bits::cost(value));
    }

    fn cost(value: usize) -> usize {
        2 * value.ilog2() as usize + 1
    }
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Segments may share a page of the file (4 KB less; none is writable and executable). Static-pie, self-relocating, no start files; `bins` only, so the library and the tests link as usual.
fn link_without_libc() {
    if var("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let args: &[&str] = match var("CARGO_CFG_TARGET_ARCH").as_str() {
        "x86_64" => {
            &["-nostartfiles", "-nostdlib", "-static-pie", "-Wl,-z,noseparate-code", "-Wl,-z,pack-relative-relocs", "-Wl,--no-undefined"]
        }
        // Linked by ld.lld itself (no cross gcc is needed), so these are linker arguments, not compiler ones.
        "aarch64" => &["-pie", "--no-dynamic-linker", "-z", "separate-code", "--no-undefined"],
        _ => &[],
    };
    for arg in args {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
    // Identical functions become one (4 KB) where the linker knows how: rustc's own lld does, GNU ld does not.
    if var("PROFILE") == "release" && var("CARGO_CFG_TARGET_ARCH") == "x86_64" && links_with("-Wl,--icf=all") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    // A panic ends the process without unwinding: 54 KB of unwind tables would only be carried along. Debug builds keep them for gdb.
    if var("PROFILE") == "release" {
        let script = std::path::Path::new(&var("OUT_DIR")).join("discard.ld");
        std::fs::write(&script, "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) *(.comment) } } INSERT BEFORE .text;\n")
            .expect("discard.ld");
        let through_gcc = if var("CARGO_CFG_TARGET_ARCH") == "x86_64" { "-Wl," } else { "" };
        println!("cargo::rustc-link-arg-bins={through_gcc}--no-eh-frame-hdr");
        println!("cargo::rustc-link-arg-bins={through_gcc}-T{}", script.display());
    }
}

/// Does the linker take this argument? It is asked with the smallest program there is.
fn links_with(arg: &str) -> bool {
    let dir = var("OUT_DIR");
    let source = std::path::Path::new(&dir).join("probe.rs");
    std::fs::write(&source, "fn main() {}").is_ok()
        && std::process::Command::new(var("RUSTC"))
            .args(["--target", &var("TARGET"), "--out-dir", &dir, "-C", &format!("link-arg={arg}")])
            .arg(&source)
            .output()
            .is_ok_and(|done| done.status.success())
}

/// Constant data in place of parsed text: one string, one list of values, one of programs. Numbers instead of references, since each
/// reference in constant data costs a relocation of 24 bytes beside its own 16.
#[derive(Default)]
struct Arrays {
    text: String,
    rows: String,
    cells: String,
    cell_count: usize,
    patterns: Vec<String>,
    programs: String,
    ops: Vec<ere::Code>,
    sets: Vec<ere::Set>,
}

impl Arrays {
    fn text(&mut self, text: &str) -> usize {
        self.text.find(text).unwrap_or_else(|| {
            self.text.push_str(text);
            self.text.len() - text.len()
        })
    }

    fn cell(&mut self, entry: &Entry<'_>) {
        let (len, value) = match entry.value {
            Value::Text(text) => (text.len(), self.text(text)),
            // As table::Cell::value reads it.
            Value::Number(keyword::INFINITY) => (255, 0xffff),
            Value::Number(code) if code >= keyword::OFF => (255, (code - keyword::OFF) as usize | 0x8000),
            Value::Number(number) => (255, number as usize),
        };
        assert!(len < 255 || matches!(entry.value, Value::Number(_)) && value <= 0xffff, "{:?}: too large", entry.key);
        writeln!(self.cells, "Cell {{ key: {}, len: {len}, value: {value} }},", entry.key as u8).unwrap();
        self.cell_count += 1;
    }

    /// Number of the pattern's program; 255 where it needs none.
    fn program(&mut self, pattern: Option<&str>) -> usize {
        let Some(pattern) = pattern.filter(|p| ere::Literal::parse(p.as_bytes()).is_none()) else { return 255 };
        if let Some(known) = self.patterns.iter().position(|p| p == pattern) {
            return known;
        }
        let number = self.patterns.len();
        assert!(number < 255, "too many patterns");
        self.patterns.push(pattern.into());
        let first = self.ops.len();
        ere::with_program(pattern.as_bytes(), |program| {
            for op in program.ops {
                self.ops.push(match op.op() {
                    ere::Op::Set(k) => {
                        let set = program.sets[usize::from(k)];
                        let known = self.sets.iter().position(|s| *s == set).unwrap_or_else(|| {
                            self.sets.push(set);
                            self.sets.len() - 1
                        });
                        ere::Code::new(ere::Op::Set(u8::try_from(known).expect("too many sets")))
                    }
                    _ => *op,
                });
            }
        })
        .expect("a pattern that was checked");
        writeln!(self.programs, "({first}, {}),", self.ops.len() - first).unwrap();
        number
    }
}

fn compile_arrays(text: &[u8]) -> String {
    let files = [Source { name: "src/conf/arrays.conf", text }];
    let lines = Room::lines(&files);
    let (mut sections, mut entries) = (vec![Section::EMPTY; lines], vec![Entry::EMPTY; lines]);
    let (mut slots, mut quoted) = (vec![0; 4 * lines], vec![0; Room::quoted(&files)]);
    let mut complaints = [complaint::Complaint::EMPTY; 50];
    let room = Room { sections: &mut sections, entries: &mut entries, slots: &mut slots, text: &mut quoted, complaints: &mut complaints };
    let parsed = parse::parse(&files, room);
    for complaint in parsed.report.kept {
        let mut line = String::new();
        complaint::emit(&mut line, files[0].name, complaint).unwrap();
        println!("cargo::error={line}");
    }
    let mut arrays = Arrays::default();
    let mut count = 0;
    for section in parsed.sections.iter() {
        assert!(section.place == Place::Device, "only devices belong in the array table");
        let run = parse::run(parsed.entries, section);
        let pattern = |key: Key| parse::own(parsed.entries, section, key).and_then(|entry| entry.value.text());
        let first = arrays.cell_count;
        run.iter().for_each(|entry| arrays.cell(entry));
        let [vendor, product, revision, blacklist] =
            [Key::Vendor, Key::Product, Key::Revision, Key::ProductBlacklist].map(|key| arrays.program(pattern(key)));
        writeln!(
            arrays.rows,
            "Row {{ first: {first}, count: {}, vendor: {vendor}, product: {product}, revision: {revision}, blacklist: {blacklist} }},",
            run.len()
        )
        .unwrap();
        count += 1;
    }
    let ops: String = arrays.ops.iter().map(|op| format!("{op:?},\n")).collect();
    format!(
        "pub(super) static TEXT: &str = {:?};\npub static ROWS: [Row; {count}] = [\n{}];\npub(super) static CELLS: [Cell; {}] = [\n{}];\n\
         pub(super) static PROGRAMS: [(u16, u16); {}] = [\n{}];\npub(super) static OPS: [Code; {}] = [\n{ops}];\npub(super) static SETS: [Set; {}] = {:?};\n",
        arrays.text,
        arrays.rows,
        arrays.cell_count,
        arrays.cells,
        arrays.patterns.len(),
        arrays.programs,
        arrays.ops.len(),
        arrays.sets.len(),
        arrays.sets,
    )
}
