//! What the engine asks, answered from what is in force. Never decides what depends on a device's answers (detect_prio and its kin): that is
//! the engine's.

use super::blacklist;
use super::effective::{Pick, Settings, checker, failback, features, no_path_retry, policy, prio, shaky, text};
use super::keyword::{Key, Place};
use super::settings::*;
use crate::model::{Bus, PathFacts, Text};

impl Settings<'_> {
    fn uid_attribute(&self, pick: &Pick<'_>, facts: &PathFacts) -> Text<32> {
        let by_name = pick.text(Key::UidAttrs).into_iter().flat_map(str::split_ascii_whitespace).find_map(|word| {
            let (prefix, attribute) = word.split_once(':')?;
            (!prefix.is_empty() && !attribute.is_empty() && facts.name.starts_with(prefix)).then(|| Text::try_from(attribute).ok())?
        });
        by_name.or_else(|| pick.text(Key::UidAttribute).and_then(|text| Text::try_from(text).ok())).unwrap_or_else(|| {
            let of_bus = match facts.bus {
                Bus::Nvme => "ID_WWN",
                Bus::Dasd => "ID_UID",
                _ => "ID_SERIAL",
            };
            Text::try_from(of_bus).unwrap_or_default()
        })
    }
}

/// A selector or handler. `+1` counts words as well as `1`, but the kernel reads no sign, of arguments neither.
#[inline(never)]
fn without_sign(pick: &Pick<'_>, key: Key) -> Text<64> {
    let text = pick.text(key).unwrap_or("");
    let (before, behind) = text.split_once('+').unwrap_or((text, ""));
    let mut out = Text::try_from(before).unwrap_or_default();
    let _ = out.push_str(behind);
    out
}

impl Lookup for Settings<'_> {
    fn globals(&self) -> &Globals {
        &self.globals
    }

    #[inline(never)]
    fn path(&self, facts: &PathFacts) -> PathSettings {
        let pick = self.pick(&facts.wwid, facts);
        PathSettings {
            checker: checker(pick.number(Key::PathChecker)),
            detect_checker: pick.yes(Key::DetectChecker),
            prio: prio(pick.number(Key::Prio)),
            prio_args: text(&pick, Key::PrioArgs),
            detect_prio: pick.yes(Key::DetectPrio),
            uid_attribute: self.uid_attribute(&pick, facts),
            fast_io_fail: pick.timeout(Key::FastIoFailTmo),
            dev_loss: pick.timeout(Key::DevLossTmo),
            eh_deadline: pick.timeout(Key::EhDeadline),
            recheck_wwid: pick.yes(Key::RecheckWwid),
            purge_disconnected: pick.yes(Key::PurgeDisconnected),
            vpd_vendor_hp3par: pick.yes(Key::VpdVendor),
            known: pick.known,
        }
    }

    #[inline(never)]
    fn map(&self, wwid: &str, facts: &PathFacts) -> MapSettings {
        let pick = self.pick(wwid, facts);
        let (features, queue) = features(pick.text(Key::Features).unwrap_or("0"));
        let mut no_path_retry = no_path_retry(pick.number(Key::NoPathRetry));
        if queue && no_path_retry == NoPathRetry::Unset {
            no_path_retry = NoPathRetry::Queue;
        }
        let mut words = features.split_ascii_whitespace();
        let bio_based = words.any(|word| word == "queue_mode") && words.next() == Some("bio");
        MapSettings {
            alias: text(&pick, Key::Alias),
            user_friendly_names: pick.yes(Key::UserFriendlyNames),
            alias_prefix: text(&pick, Key::AliasPrefix),
            policy: policy(pick.number(Key::PathGroupingPolicy)),
            detect_policy: pick.yes(Key::DetectPgpolicy),
            detect_policy_use_tpg: pick.yes(Key::DetectPgpolicyUseTpg),
            selector: without_sign(&pick, Key::PathSelector),
            handler: without_sign(&pick, Key::HardwareHandler),
            retain_handler: pick.yes(Key::RetainAttachedHwHandler),
            failback: failback(pick.number(Key::Failback)),
            no_path_retry,
            flush_on_last_del: match pick.number(Key::FlushOnLastDel) {
                Some(0) => FlushOnLastDel::Never,
                Some(1) => FlushOnLastDel::Always,
                _ => FlushOnLastDel::Unused,
            },
            repeat_count: pick.number(if bio_based { Key::RrMinIo } else { Key::RrMinIoRq }).unwrap_or(1),
            features,
            rr_weight_priorities: pick.yes(Key::RrWeight),
            deferred_remove: pick.yes(Key::DeferredRemove),
            skip_kpartx: pick.yes(Key::SkipKpartx),
            mode: pick.number(Key::Mode),
            uid: pick.number(Key::Uid),
            gid: pick.number(Key::Gid),
            max_sectors_kb: pick.number(Key::MaxSectorsKb),
            ghost_delay: pick.unless_off(Key::GhostDelay),
            shaky: shaky(&pick, u32::try_from(self.globals.max_polling_interval.as_secs()).unwrap_or(u32::MAX)),
        }
    }

    #[inline(never)]
    fn filter(&self, facts: &PathFacts, udev: Option<&[u8]>) -> Verdict {
        blacklist::filter(self, facts, udev)
    }

    fn named(&self, wwid: &str) -> bool {
        !wwid.is_empty()
            && (self.section_for(Place::Multipath, wwid).is_some() || self.wwids.contains(wwid) || self.command_line.contains(&wwid))
    }

    fn binding(&self, wwid: &str) -> Option<&str> {
        self.bindings.alias(wwid)
    }

    fn aliases(&self, seen: &mut dyn FnMut(&str, &str)) {
        self.bindings.iter().for_each(|(wwid, alias)| seen(alias, wwid));
        self.map_aliases().for_each(|(alias, wwid)| seen(alias, wwid));
    }
}
