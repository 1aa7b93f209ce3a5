//! Settings without configuration text: what a history or a scenario wants, in code.

use corepath::conf::settings::*;
use corepath::model::{PathFacts, Text};
use std::collections::BTreeMap;
use std::time::Duration;

/// udev's entry of a disk that it could not ask either: without the property that an identified disk has.
pub const HALF: &[u8] = b"E:ID_SERIAL=ACME";

pub struct Config {
    pub globals: Globals,
    pub path: PathSettings,
    pub map: MapSettings,
    pub aliases: BTreeMap<String, String>,
    pub named: Vec<String>,
    pub rejected: Vec<String>,
}

pub fn globals() -> Globals {
    Globals {
        verbosity: 2,
        polling_interval: Duration::from_secs(5),
        max_polling_interval: Duration::from_secs(20),
        find_multipaths: FindMultipaths::Strict,
        find_multipaths_given: false,
        find_multipaths_timeout: 0,
        allow_usb_devices: false,
        checker_timeout: None,
        queue_without_daemon: false,
        marginal_pathgroups: MarginalPathgroups::Off,
        auto_resize: AutoResize::GrowOnly,
        remove_retries: 0,
        partition_delimiter: Text::new(),
        reassign_maps: false,
        log_checker_err_once: false,
        uxsock_timeout: Duration::from_secs(4),
        missing_uev_wait: Duration::from_secs(30),
        max_retries: Timeout::Unset,
        pp_balance_paths: false,
    }
}

impl Default for Config {
    fn default() -> Config {
        let mut map = MapSettings {
            policy: Policy::Multibus,
            retain_handler: true,
            failback: Failback::Immediate,
            no_path_retry: NoPathRetry::Queue,
            repeat_count: 1,
            ..MapSettings::default()
        };
        map.selector = Text::try_from("service-time 0").unwrap();
        map.features = Text::try_from("0").unwrap();
        map.handler = Text::try_from("0").unwrap();
        Config {
            globals: globals(),
            path: PathSettings { checker: CheckerKind::Tur, prio: PrioKind::Const, ..PathSettings::default() },
            map,
            aliases: BTreeMap::new(),
            named: Vec::new(),
            rejected: Vec::new(),
        }
    }
}

impl Lookup for Config {
    fn globals(&self) -> &Globals {
        &self.globals
    }
    fn path(&self, _: &PathFacts) -> PathSettings {
        self.path.clone()
    }
    fn map(&self, wwid: &str, _: &PathFacts) -> MapSettings {
        let mut settings = self.map.clone();
        if let Some(alias) = self.aliases.get(wwid) {
            settings.alias = Text::try_from(alias.as_str()).unwrap();
        }
        settings
    }
    fn filter(&self, facts: &PathFacts, udev: Option<&[u8]>) -> Verdict {
        if udev == Some(HALF) {
            Verdict::MissingProperty
        } else if self.rejected.iter().any(|w| w == facts.wwid.as_str()) {
            Verdict::Rejected { stage: Stage::Wwid, origin: Origin::Default }
        } else {
            Verdict::Accepted
        }
    }
    fn named(&self, wwid: &str) -> bool {
        self.named.iter().any(|n| n == wwid) || self.aliases.contains_key(wwid)
    }
    fn binding(&self, _: &str) -> Option<&str> {
        None
    }
    fn aliases(&self, seen: &mut dyn FnMut(&str, &str)) {
        self.aliases.iter().for_each(|(wwid, alias)| seen(alias, wwid));
    }
}
