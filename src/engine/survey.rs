//! What lives in the kernel: surveys and lists, and what they say about maps that came, went or were changed by others.
//!
//! Only devices whose uuid begins `mpath-` (or `partN-mpath-`) are looked at; no other is ever named in a request. An entry that was
//! read before a request of ours ended is not believed: that map is read by itself.

use super::map::{Job, Known};
use super::storage::{NONE, hash};
use super::{Context, Engine, LiveMap};
use crate::model::{DevNo, UUID_PREFIX};

impl Engine<'_> {
    /// `Event::Live`.
    pub(super) fn live(&mut self, cx: &Context<'_>, live: &LiveMap<'_>) {
        if let Some(wwid) = live.uuid.strip_prefix(UUID_PREFIX) {
            if !wwid.is_empty() {
                self.live_map(cx, live, wwid);
            }
        } else if let Some((number, wwid)) = partition_uuid(live.uuid) {
            self.live_part(cx, live, number, wwid);
        }
    }

    fn live_map(&mut self, cx: &Context<'_>, live: &LiveMap<'_>, wwid: &str) {
        let m = match self.map_by_wwid(wwid) {
            Some(m) => m,
            None => match self.map_new(wwid) {
                Some(m) => m,
                None => return,
            },
        };
        self.map_seen(m);
        let map = &self.maps[m];
        if map.job != Job::None || (map.touched == self.survey.serial && map.have.known != Known::Absent && self.surveyed) {
            // Read before or while something of ours was done: which, nobody knows. Its table, too: others may have switched queueing off.
            self.maps[m].have.status_known = false;
            self.maps[m].have.table_known = false;
            self.map_touch(m);
            return;
        }
        let before = self.maps[m].have.known;
        self.maps[m].have.table_strange = live.table.is_none() && live.size.0 > 0;
        if before == Known::Unknown {
            self.maps[m].have.known = Known::Absent;
        }
        self.absorb(cx, m, live);
        self.map_touch(m);
    }

    fn map_seen(&mut self, m: u32) {
        self.maps[m].seen = self.survey.serial;
        self.map_order.remove(&mut self.map_seen_list, m);
        self.map_order.push_back(&mut self.map_seen_list, m);
    }

    /// `Event::SurveyDone`: maps not mentioned are gone, or were not there in the first place.
    pub(super) fn survey_done(&mut self, cx: &Context<'_>, complete: bool) {
        self.survey.running = false;
        if !complete {
            self.survey.again(cx.now);
            return;
        }
        self.survey.failures = 0;
        self.survey.sweeping = true;
        self.surveyed = true;
        self.wake = true;
    }

    /// Some of the maps that the survey did not mention.
    pub(super) fn sweep_maps(&mut self, cx: &Context<'_>) {
        for _ in 0..super::intake::SWEEP {
            let m = self.map_seen_list.head;
            if m == NONE || self.maps[m].seen == self.survey.serial {
                self.survey.sweeping = false;
                return;
            }
            self.map_seen(m);
            let map = &mut self.maps[m];
            if map.job != Job::None || map.touched == self.survey.serial {
                // Made or changed since: read by itself.
                map.have.status_known = false;
            } else if map.have.known == Known::Live {
                self.note(None, Some(m), super::What::MapVanished);
                self.map_gone(cx, m);
            } else if map.have.known == Known::Unknown {
                self.map_gone(cx, m);
            }
            self.map_touch(m);
        }
    }

    /// `Event::Listed`: only what changed is read.
    pub(super) fn listed(&mut self, _cx: &Context<'_>, devno: DevNo, name: &str, event_nr: u32) {
        let known = self.map_by_devno(devno);
        match known {
            Some(m) => {
                let map = &mut self.maps[m];
                map.listed = self.list.serial;
                if map.have.event_nr != event_nr || map.name.as_str() != name || !map.have.active {
                    map.have.status_known = false;
                    self.map_touch(m);
                }
            }
            // Not known by its number: if it is one of ours at all, a survey tells what it is.
            None if self.part_devnos.find(hash_devno(devno), |k| self.parts[k].devno == devno).is_none() => self.survey.want = true,
            None => {}
        }
    }

    /// `Event::ListDone`.
    pub(super) fn list_done(&mut self, cx: &Context<'_>, complete: bool) {
        self.list.running = false;
        if complete {
            self.list.failures = 0;
        } else {
            self.list.again(cx.now);
        }
    }
}

pub(super) fn hash_devno(devno: DevNo) -> u32 {
    super::storage::hash_pair(devno.major, devno.minor)
}

pub(super) fn hash_part(map: u32, number: u32) -> u32 {
    super::storage::hash_pair(map, number) ^ hash(b"part")
}

/// `part3-mpath-WWID` -> (3, WWID).
pub(super) fn partition_uuid(uuid: &str) -> Option<(u32, &str)> {
    let (number, rest) = uuid.strip_prefix("part")?.split_once('-')?;
    let wwid = rest.strip_prefix(UUID_PREFIX)?;
    Some((crate::model::parse_decimal(number)?, wwid)).filter(|(_, w)| !w.is_empty())
}
