//! The command line. One process is one array; see ../README.md.

use crate::array::Array;
use crate::lun::Lun;
use crate::persona;
use crate::rule::parse_hex;
use crate::site::{Port, Site, sp_by_letter};
use crate::store::Store;
use std::path::PathBuf;

pub const USAGE: &str = "\
usage: corepath-array [OPTIONS] --persona NAME --port NAME=SOCKET[,..] --lun N,size=SIZE[,..]
  --persona NAME           plain, alua, clariion, rdac or hpsw
  --port NAME=SOCKET[,sp=A][,group=N][,rtpi=N]
                           one vhost-user-scsi socket; a NAME that starts with a letter and goes on
                           with digits is on the SP of that letter (a0, b1)
  --lun N,size=SIZE[,file=PATH][,block=512|4096][,owner=SP][,default=SP][,wwn=HEX32][,serial=TEXT]
                           SIZE takes K, M, G; a file without size is taken as it is
  --luns COUNT,size=SIZE   LUNs 0 to COUNT-1, owned by A and B in turn
  --control SOCKET         control socket
  --script FILE            control lines to run before the first port listens
  --do LINE                one such line
  --serial TEXT --vendor TEXT --product TEXT --revision TEXT
  --log-size N             commands kept in the log (65536)
  --log-file FILE          every command and remark, appended as it ends
  --descriptor-sense       sense data in descriptor format
  --write-through          WCE off in the caching mode page
  --max-blocks N           maximum transfer length of VPD B0";

#[derive(Debug, Default)]
pub struct Config {
    pub sockets: Vec<PathBuf>,
    pub control: Option<PathBuf>,
    pub script: Vec<String>,
    pub log_file: Option<PathBuf>,
}

/// `64M`: bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("bad size '{text}'");
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1u64 << 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let n: u64 = digits.parse().map_err(|_| bad())?;
    // Offsets of files are signed.
    n.checked_mul(factor).filter(|n| *n <= i64::MAX as u64).ok_or_else(bad)
}

/// Reads the arguments (without the program's name) and makes the array.
pub fn parse(args: &[String]) -> Result<(Config, Array), String> {
    let mut config = Config::default();
    let mut persona = None;
    let mut log_size = 65536;
    let mut luns = Vec::new();
    let mut site = Site {
        ports: Vec::new(),
        serial: "CPA0001".into(),
        vendor: String::new(),
        product: String::new(),
        revision: String::new(),
        descriptor_sense: false,
        write_cache: true,
        max_blocks: 0,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value")).cloned();
        match arg.as_str() {
            "--persona" => {
                let name = value()?;
                let known = persona::NAMES.join(", ");
                persona = Some(persona::by_name(&name).ok_or(format!("one of {known}"))?);
            }
            "--port" => {
                let (port, path) = parse_port(&value()?, &site)?;
                site.ports.push(port);
                config.sockets.push(path);
            }
            "--lun" => luns.push(value()?),
            "--luns" => {
                let text = value()?;
                let (count, rest) = text.split_once(',').ok_or("--luns COUNT,size=SIZE")?;
                let count: u16 = count.parse().map_err(|_| "bad number of LUNs")?;
                for n in 0..count {
                    let sp = if n % 2 == 0 { 'a' } else { 'b' };
                    luns.push(format!("{n},owner={sp},{rest}"));
                }
            }
            "--control" => config.control = Some(value()?.into()),
            "--script" => {
                let text = std::fs::read_to_string(value()?).map_err(|e| e.to_string())?;
                config.script.extend(text.lines().map(str::to_string));
            }
            "--do" => config.script.push(value()?),
            "--serial" => site.serial = value()?,
            "--vendor" => site.vendor = value()?,
            "--product" => site.product = value()?,
            "--revision" => site.revision = value()?,
            "--log-size" => log_size = value()?.parse().map_err(|_| "bad log size")?,
            "--log-file" => config.log_file = Some(value()?.into()),
            "--descriptor-sense" => site.descriptor_sense = true,
            "--write-through" => site.write_cache = false,
            "--max-blocks" => site.max_blocks = value()?.parse().map_err(|_| "bad number")?,
            _ => return Err(format!("unknown option '{arg}'")),
        }
    }
    if site.ports.is_empty() || site.ports.len() > 64 {
        return Err("1 to 64 ports are needed".into());
    }
    let mut array = Array::new(site, persona.ok_or("--persona is needed")?, log_size);
    for text in &luns {
        let lun = parse_lun(text, &array.site)?;
        if array.luns.insert(lun.number, lun).is_some() {
            return Err(format!("lun given twice: '{text}'"));
        }
    }
    for line in config.script.clone() {
        crate::control::run(&mut array, 0, &line).map_err(|e| format!("{line}: {e}"))?;
    }
    for p in 0..array.site.ports.len() {
        array.power_on(p);
    }
    Ok((config, array))
}

fn parse_port(text: &str, site: &Site) -> Result<(Port, PathBuf), String> {
    let bad = || format!("bad port '{text}'");
    let (name, rest) = text.split_once('=').ok_or_else(bad)?;
    if name.is_empty() || site.ports.iter().any(|p| p.name == name) {
        return Err(bad());
    }
    let mut words = rest.split(',');
    let path = words.next().filter(|p| !p.is_empty()).ok_or_else(bad)?;
    let digits = name.len() > 1 && name.bytes().skip(1).all(|b| b.is_ascii_digit());
    let mut sp = if digits { sp_by_letter(&name[..1]) } else { None };
    let (mut group, mut rtpi) = (None, None);
    for w in words {
        match w.split_once('=') {
            Some(("sp", v)) => sp = Some(sp_by_letter(v).ok_or_else(bad)?),
            Some(("group", v)) => group = Some(v.parse().map_err(|_| bad())?),
            Some(("rtpi", v)) => rtpi = Some(v.parse().map_err(|_| bad())?),
            _ => return Err(bad()),
        }
    }
    let sp = sp.unwrap_or(0);
    let number = site.ports.iter().filter(|p| p.sp == sp).count();
    let port = Port {
        name: name.to_string(),
        sp,
        number: u8::try_from(number).unwrap_or(u8::MAX),
        group: group.unwrap_or(u16::from(sp) + 1),
        rtpi: rtpi.unwrap_or(site.ports.len() as u16 + 1),
    };
    Ok((port, path.into()))
}

fn parse_lun(text: &str, site: &Site) -> Result<Lun, String> {
    let bad = |what: &str| format!("bad {what} in lun '{text}'");
    let mut words = text.split(',');
    let number: u16 = words.next().and_then(|n| n.parse().ok()).ok_or_else(|| bad("number"))?;
    if number >= 0x4000 {
        return Err(bad("number")); // 14 bits of flat space addressing
    }
    let (mut size, mut file, mut block, mut owner) = (None, None, 512, 0);
    let (mut default, mut wwn, mut serial) = (None, None, None);
    for w in words {
        match w.split_once('=') {
            Some(("size", v)) => size = Some(parse_size(v)?),
            Some(("file", v)) => file = Some(v),
            Some(("block", "512")) => block = 512,
            Some(("block", "4096")) => block = 4096,
            Some(("owner", v)) => owner = sp_by_letter(v).ok_or_else(|| bad("owner"))?,
            Some(("default", v)) => default = Some(sp_by_letter(v).ok_or_else(|| bad("default"))?),
            Some(("wwn", v)) => {
                let b = parse_hex(v).ok_or_else(|| bad("wwn"))?;
                wwn = Some(<[u8; 16]>::try_from(b).map_err(|_| bad("wwn"))?);
            }
            Some(("serial", v)) => serial = Some(v.to_string()),
            _ => return Err(bad("word")),
        }
    }
    let store = match (file, size) {
        (Some(path), size) => Store::open(path.as_ref(), size).map_err(|e| format!("{path}: {e}"))?,
        (None, Some(size)) => Store::memory(size).map_err(|e| e.to_string())?,
        (None, None) => return Err(bad("size")),
    };
    let mut lun = Lun::new(site, number, block, store, owner);
    lun.default_owner = default.unwrap_or(owner);
    if let Some(w) = wwn {
        lun.wwn = w;
        lun.home_wwn = w;
    }
    if let Some(s) = serial {
        lun.serial = s;
    }
    Ok(lun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn a_command_line_makes_an_array() {
        let line = "--persona clariion --port a0=s0 --port b0=s1 --port x=s2,sp=b,group=9,rtpi=77 \
                    --luns 3,size=1M --lun 9,size=2M,owner=b,default=a,block=4096";
        let (config, array) = parse(&args(line)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.sockets.len(), 3);
        let ports = &array.site.ports;
        assert_eq!((ports[1].sp, ports[1].number, ports[1].group), (1, 0, 2));
        assert_eq!((ports[2].number, ports[2].group, ports[2].rtpi), (1, 9, 77));
        let l = &array.luns[&9];
        assert_eq!((l.owner, l.default_owner, l.blocks()), (1, 0, 512));
        assert_eq!(array.luns[&1].owner, 1);
    }

    #[test]
    fn bad_command_lines_are_refused() {
        for line in [
            "",
            "--persona plain",
            "--port a0=s --lun 0,size=1M",
            "--persona nosuch --port a0=s",
            "--persona plain --port a0=s --port a0=t",
            "--persona plain --port a0=s --lun 0",
            "--persona plain --port a0=s --lun 0,size=9999999999G",
            "--persona plain --port a0=s --lun 0,size=1M --lun 0,size=1M",
            "--persona plain --port a0=s --do frobnicate",
            "--persona plain --port",
        ] {
            assert!(parse(&args(line)).is_err(), "{line}");
        }
    }
}
