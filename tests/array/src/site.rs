//! The fixed facts of one array: its storage processors, its target ports, its names.

/// A storage processor (controller): 0 is A, 1 is B. More are allowed and called C, D, ...
pub type Sp = u8;

pub fn sp_letter(sp: Sp) -> char {
    char::from(b'A' + sp.min(25))
}

pub fn sp_by_letter(text: &str) -> Option<Sp> {
    match text.as_bytes() {
        [c] if c.is_ascii_alphabetic() => Some(c.to_ascii_lowercase() - b'a'),
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub sp: Sp,
    /// Number of the port on its SP, from 0 (byte 7 of CLARiiON's page C0).
    pub number: u8,
    /// Target port group (VPD 83 designator type 5, RTPG).
    pub group: u16,
    /// Relative target port identifier (VPD 83 designator type 4), from 1.
    pub rtpi: u16,
}

#[derive(Clone, Debug)]
pub struct Site {
    pub ports: Vec<Port>,
    /// Serial number of the array, in LUN serials, C0/C4 pages and default WWNs.
    pub serial: String,
    pub vendor: String,
    pub product: String,
    pub revision: String,
    /// Sense data in descriptor format (control mode page D_SENSE).
    pub descriptor_sense: bool,
    /// Write cache enabled in the caching mode page: the guest then sends SYNCHRONIZE CACHE.
    pub write_cache: bool,
    /// Blocks per command announced in VPD B0; 0 says nothing.
    pub max_blocks: u32,
}

impl Site {
    pub fn port(&self, index: usize) -> Option<&Port> {
        self.ports.get(index)
    }

    pub fn sp(&self, port: usize) -> Sp {
        self.port(port).map_or(0, |p| p.sp)
    }

    pub fn port_name(&self, index: usize) -> &str {
        self.port(index).map_or("?", |p| p.name.as_str())
    }

    /// Group ids in ascending order, each once.
    pub fn groups(&self) -> Vec<u16> {
        let mut g: Vec<u16> = self.ports.iter().map(|p| p.group).collect();
        g.sort_unstable();
        g.dedup();
        g
    }

    /// `*`, `a0`, `a0,b1`, `sp=a`, `group=2`: indexes of the ports meant, or what was not understood.
    pub fn select(&self, text: &str) -> Result<Vec<usize>, String> {
        let mut found = Vec::new();
        for word in text.split(',') {
            let sp = word.strip_prefix("sp=").map(sp_by_letter);
            let group = word.strip_prefix("group=").map(|g| g.parse::<u16>().ok());
            if sp == Some(None) || group == Some(None) {
                return Err(format!("bad port selection '{word}'"));
            }
            let before = found.len();
            for (i, p) in self.ports.iter().enumerate() {
                let hit = word == "*" || p.name == word || sp == Some(Some(p.sp)) || group == Some(Some(p.group));
                if hit && !found.contains(&i) {
                    found.push(i);
                }
            }
            if found.len() == before && word != "*" && !self.known(word) {
                return Err(format!("no port '{word}'"));
            }
        }
        Ok(found)
    }

    fn known(&self, word: &str) -> bool {
        word.contains('=') || self.ports.iter().any(|p| p.name == word)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two SPs with two ports each, groups 1 and 2.
    pub(crate) fn site() -> Site {
        let port = |name: &str, sp, number, rtpi| Port { name: name.to_string(), sp, number, group: u16::from(sp) + 1, rtpi };
        Site {
            ports: vec![port("a0", 0, 0, 1), port("a1", 0, 1, 2), port("b0", 1, 0, 3), port("b1", 1, 1, 4)],
            serial: "CPA0001".into(),
            vendor: String::new(),
            product: String::new(),
            revision: String::new(),
            descriptor_sense: false,
            write_cache: true,
            max_blocks: 0,
        }
    }

    #[test]
    fn ports_are_selected_by_name_sp_group_and_star() {
        let s = site();
        assert_eq!(s.select("a1"), Ok(vec![1]));
        assert_eq!(s.select("sp=b"), Ok(vec![2, 3]));
        assert_eq!(s.select("group=1,b0"), Ok(vec![0, 1, 2]));
        assert_eq!(s.select("*"), Ok(vec![0, 1, 2, 3]));
        assert!(s.select("c9").is_err());
        assert!(s.select("sp=").is_err());
        assert!(s.select("group=x").is_err());
    }
}
