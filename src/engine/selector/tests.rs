//! Choices on kernels with and without modules, before and after 7.0; live tables that are as good as the wanted one.

use super::*;
use crate::wire::table::{TableGroup, TablePath};

fn settings(selector: &str, features: &str, handler: &str) -> MapSettings {
    MapSettings {
        selector: fixed(selector),
        features: fixed(features),
        handler: fixed(handler),
        retain_handler: true,
        repeat_count: 1,
        ..MapSettings::default()
    }
}

fn scsi(tpgs: Tpgs, attached: &'static str) -> Member<'static> {
    Member { bus: Bus::Scsi, tpgs, attached, ..Member::default() }
}

fn pick(s: &MapSettings, kernel: &Kernel, members: &[Member<'_>]) -> Choice {
    choose(s, kernel, members, members.len()).unwrap()
}

#[test]
fn selector_falls_back_by_name() {
    let plain = [scsi(Tpgs::None, "")];
    let full = Kernel::FULL;
    let no_hst = full.with_selector(Selector::HistoricalServiceTime, false);
    let only_rr = Kernel::BARE.with_selector(Selector::RoundRobin, true);
    let only_rr = Kernel { multipath: true, ..only_rr };
    for (wanted, kernel, got, replaced) in [
        ("service-time 0", &full, "service-time 0", false),
        ("", &full, "service-time 0", false),
        ("round-robin 1 5", &full, "round-robin 1 5", false),
        ("round-robin 2 5", &full, "round-robin 0", false),
        ("queue-length", &full, "queue-length 0", false),
        ("historical-service-time 2 100 5", &full, "historical-service-time 2 100 5", false),
        ("historical-service-time 2 100 5", &no_hst, "service-time 0", true),
        ("service-time 0", &only_rr, "round-robin 0", true),
        ("no-such-selector 0", &full, "service-time 0", true),
    ] {
        let c = pick(&settings(wanted, "0", "0"), kernel, &plain);
        assert_eq!((c.selector.as_str(), c.selector_replaced), (got, replaced), "{wanted}");
    }
    let none = Kernel { multipath: true, ..Kernel::BARE };
    assert_eq!(choose(&settings("", "", ""), &none, &plain, 1), Err(Missing::Selector));
    assert_eq!(choose(&settings("", "", ""), &Kernel::BARE, &plain, 1), Err(Missing::Target));
}

#[test]
fn io_affinity_needs_a_processor_per_path() {
    let members = [scsi(Tpgs::None, ""); 4];
    let four = Kernel { processors: 4, ..Kernel::FULL };
    assert_eq!(pick(&settings("io-affinity 0", "", ""), &four, &members).selector, "io-affinity 0");
    assert_eq!(pick(&settings("io-affinity 0", "", ""), &Kernel { processors: 3, ..four }, &members).selector, "service-time 0");
    let ten = Kernel { processors: 10, ..four };
    let masks: std::vec::Vec<u64> = (0..4).map(|i| processors(&ten, i, 4)).collect();
    assert_eq!(masks, [0b01_0001_0001, 0b10_0010_0010, 0b00_0100_0100, 0b00_1000_1000]);
    assert_eq!(processors(&Kernel { processors: u16::MAX, ..four }, 0, 1), u64::MAX);
    assert_eq!((processors(&ten, 4, 4), processors(&ten, 0, 0)), (0, 0));
}

#[test]
fn handler_by_the_rules_of_the_grammar() {
    let full = Kernel::FULL;
    let no_emc = full.with_handler(Handler::Emc, false);
    use Tpgs::{Both, Implicit, None as No, Unknown};
    let nvme = Member { bus: Bus::Nvme, ..scsi(No, "") };
    let by = |prio| Member { prio, ..scsi(No, "") };
    type Case<'a> = (&'a str, Kernel, &'a [Member<'a>], &'a str, Option<Handler>);
    let cases: &[Case<'_>] = &[
        ("0", full, &[scsi(No, ""), scsi(No, "")], "", None),
        ("", full, &[scsi(No, "")], "", None),
        ("0", full, &[scsi(Both, ""), scsi(Unknown, "")], "alua", None),
        ("0", full, &[scsi(Unknown, "")], "", None),
        ("0", full, &[scsi(Implicit, ""), scsi(No, "")], "", None),
        ("1 alua", full, &[scsi(Implicit, ""), scsi(No, "")], "", None),
        ("1 alua", full, &[scsi(Unknown, "")], "alua", None),
        ("2 alua 1", full, &[scsi(Both, "")], "alua 1", None),
        ("2 alua 1", full, &[scsi(Both, "alua")], "alua 1", None),
        ("1 emc", full, &[scsi(No, "")], "emc", None),
        ("3 emc 1 1", full, &[scsi(No, "")], "emc", None),
        ("1 emc", full, &[scsi(Both, ""), scsi(Both, "alua")], "alua", None),
        ("2 alua 1", full, &[scsi(No, "rdac")], "rdac", None),
        ("1 emc", no_emc, &[scsi(No, "")], "", Some(Handler::Emc)),
        ("1 emc", no_emc, &[scsi(No, "emc")], "emc", None),
        ("1 alua", full, &[nvme], "", None),
        ("", full, &[by(PrioKind::Emc), by(PrioKind::Emc)], "emc", None),
        ("", no_emc, &[by(PrioKind::Emc)], "", Some(Handler::Emc)),
        ("0", full, &[by(PrioKind::Emc)], "", None),
        ("", full, &[by(PrioKind::Rdac)], "rdac", None),
        ("", full, &[by(PrioKind::HpSw)], "hp_sw", None),
        ("", full, &[by(PrioKind::HpSw), by(PrioKind::Const)], "", None),
        ("1 rdac", full, &[scsi(No, ""), nvme], "", None),
    ];
    for (configured, kernel, members, handler, missing) in cases {
        let c = pick(&settings("", "", configured), kernel, members);
        assert_eq!((c.handler.as_str(), c.handler_missing), (*handler, *missing), "{configured} {members:?}");
        assert!(!c.handler_unknown);
    }
    let c = pick(&settings("", "", "1 vendor_x"), &full, &[scsi(No, "")]);
    assert_eq!((c.handler.as_str(), c.handler_unknown), ("", true));
    let c = pick(&settings("", "2 queue_mode bio", "1 emc"), &full, &[scsi(No, "")]);
    assert_eq!((c.handler.as_str(), c.features.queue_mode.as_str()), ("", "bio"));
}

#[test]
fn features_that_the_kernel_takes() {
    let m = [scsi(Tpgs::None, "")];
    let f = |text: &str| {
        let c = pick(&settings("", text, ""), &Kernel::FULL, &m);
        (c.features.pg_init_retries, c.features.pg_init_delay_msecs, c.features_mended)
    };
    assert_eq!(f("0"), (None, None, false));
    assert_eq!(f("4 pg_init_retries 50 pg_init_delay_msecs 2000"), (Some(50), Some(2000), false));
    assert_eq!(f("4 PG_INIT_RETRIES 3 Queue_Mode MQ"), (Some(3), None, false));
    assert_eq!(f("2 pg_init_retries 51"), (Some(50), None, true));
    assert_eq!(f("2 pg_init_retries 0"), (Some(1), None, true));
    assert_eq!(f("2 pg_init_retries 99999999999"), (None, None, true));
    assert_eq!(f("1 pg_init_retries"), (None, None, true));
    assert_eq!(f("1 no_such_feature"), (None, None, true));
    assert_eq!(f("2 queue_mode fast"), (None, None, true));
    assert_eq!(f("2 queue_if_no_path retain_attached_hw_handler"), (None, None, false));
    let c = pick(&settings("", "2 queue_if_no_path retain_attached_hw_handler", ""), &Kernel::FULL, &m);
    assert_eq!(c.features, Features::default());
}

#[test]
fn repeat_counts_as_the_peer() {
    let mut s = settings("round-robin 0", "", "");
    s.repeat_count = 10;
    assert_eq!(repeat_count(&s, Prio(50)), 10);
    s.rr_weight_priorities = true;
    for (prio, want) in [(50, 500), (0, 10), (-1, 10), (i32::MAX, u32::MAX)] {
        s.repeat_count = if prio == i32::MAX { 1000 } else { 10 };
        assert_eq!(repeat_count(&s, Prio(prio)), want);
    }
    s.repeat_count = 0;
    assert_eq!(repeat_count(&s, Prio(-1)), 1);
}

fn table(groups: &[(&str, &[u32])]) -> Table {
    let mut t = Table { first_group: 1, ..Table::default() };
    for (g, (selector, minors)) in groups.iter().enumerate() {
        let _ = t.groups.push(TableGroup { selector: fixed(selector) });
        for &m in *minors {
            let _ = t.paths.push(TablePath { devno: DevNo::new(8, m), group: g as u8, repeat: Some(1), ..TablePath::default() });
        }
    }
    t
}

const ST: &str = "service-time 0";

#[test]
fn equal_tables_do_not_differ() {
    let t = table(&[(ST, &[0, 16]), (ST, &[32, 48])]);
    assert!(!differs(&t, &t, "", &Kernel::FULL).any());
    assert!(!differs(&Table::default(), &Table::default(), "", &Kernel::FULL).any());
    let swapped = table(&[(ST, &[16, 0]), (ST, &[48, 32])]);
    assert!(!differs(&t, &swapped, "", &Kernel::FULL).any(), "order within a group");
    let mut repeats = t.clone();
    repeats.paths.iter_mut().for_each(|p| p.repeat = Some(1000));
    assert!(!differs(&repeats, &t, "", &Kernel::FULL).any(), "the kernel makes it 1");
}

#[test]
fn each_difference_by_its_name() {
    let base = table(&[(ST, &[0, 16]), (ST, &[32, 48])]);
    let d = |have: &Table| differs(&base, have, "", &Kernel::FULL);
    let only = |set: fn(&mut Difference)| {
        let mut d = Difference::default();
        set(&mut d);
        d
    };
    let mut t = base.clone();
    t.first_group = 2;
    assert_eq!(d(&t), only(|d| d.best_group = true));
    t = base.clone();
    t.handler = fixed("alua");
    assert_eq!(d(&t), only(|d| d.handler = true));
    t = base.clone();
    t.features.pg_init_retries = Some(50);
    assert_eq!(d(&t), only(|d| d.features = true));
    assert_eq!(d(&table(&[(ST, &[0, 16]), ("round-robin 0", &[32, 48])])), only(|d| d.selector = true));
    assert_eq!(d(&table(&[(ST, &[0, 16]), (ST, &[32])])), only(|d| d.members = true));
    assert_eq!(d(&table(&[(ST, &[0, 16]), (ST, &[32, 64])])), only(|d| d.members = true));
    assert_eq!(d(&table(&[(ST, &[0]), (ST, &[32, 48, 16])])), only(|d| d.groups = true));
    assert_eq!(d(&table(&[(ST, &[0, 16, 32, 48])])), only(|d| d.groups = true));
    let reversed = table(&[(ST, &[32, 48]), (ST, &[0, 16])]);
    assert_eq!(d(&reversed), only(|d| d.groups = true));
    assert!(only_order_differs(&base, &reversed));
    assert!(!only_order_differs(&base, &base));
    assert!(!only_order_differs(&base, &table(&[(ST, &[0]), (ST, &[32, 48, 16])])));
    assert!(!only_order_differs(&base, &table(&[(ST, &[32]), (ST, &[0, 16, 48])])));
    assert!(!only_order_differs(&base, &table(&[(ST, &[32, 48]), (ST, &[0])])));
    // Two groups merged into one is more than order, from both sides.
    assert!(!only_order_differs(&base, &table(&[(ST, &[0, 32]), (ST, &[16, 48])])));
}

#[test]
fn what_the_kernel_rewrites_is_no_difference() {
    let v7 = Kernel { always_retains: true, ..Kernel::FULL };
    let hd = |want: &str, have: &str, attached: &str, k: &Kernel| handlers_differ(want, have, attached, k);
    assert!(!hd("alua 1", "alua", "alua", &Kernel::FULL), "parameters are never printed");
    assert!(!hd("emc", "alua", "alua", &Kernel::FULL), "an attached handler wins");
    assert!(hd("emc", "alua", "", &Kernel::FULL));
    assert!(hd("", "alua", "alua", &Kernel::FULL), "before 7.0 no handler means no pg_init");
    assert!(!hd("", "alua", "alua", &v7), "since 7.0 it is retained");
    assert!(hd("alua", "", "alua", &v7));
    assert!(hd("vendor_a", "vendor_b", "", &v7), "names we do not know are compared too");
    assert!(!hd("", "", "alua", &v7));
    assert!(selectors_agree("historical-service-time 0", "historical-service-time 2 512 2"));
    assert!(selectors_agree("service-time  0", "service-time 0"));
    assert!(!selectors_agree("historical-service-time 2 100 5", "historical-service-time 2 512 2"));
    assert!(!selectors_agree("service-time 0", "queue-length 0"));
    assert!(!selectors_agree("round-robin 0", "round-robin 1 5"));
}
