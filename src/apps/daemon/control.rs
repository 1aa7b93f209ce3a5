//! What a request on the control socket means: views are answered from memory at once, requests go to the engine.

use super::state::State;
use crate::apps::columns::{self, Dress};
use crate::apps::engine_view::EngineView;
use crate::apps::topology::Style;
use crate::apps::{json, topology};
use crate::engine::Ask;
use crate::wire::ipc::{Command, MapsView, Refused, Scratch};
use core::fmt::{self, Write};

/// What to do with a request.
pub enum Verdict {
    /// The reply is written.
    Replied,
    /// The engine is to be asked ([`ask`]); the reply comes with its answer.
    Ask,
    Reconfigure,
    Shutdown {
        keep: bool,
    },
}

/// Our own words, which the peer's grammar does not have.
#[inline(never)]
fn own(request: &str, state: &State<'_>, out: &mut dyn Write) -> Option<fmt::Result> {
    Some(match request {
        "status" => super::status::text(state, out),
        "status json" => super::status::json(state, out),
        "metrics" => super::status::metrics(state, out),
        "log" => {
            let mut told = Ok(());
            state.log.each(&mut |second, text| {
                if told.is_ok() {
                    told = writeln!(out, "[{second:6}] {text}");
                }
            });
            told
        }
        _ => return None,
    })
}

fn one_map(view: &EngineView<'_>, name: &str, out: &mut dyn Write, show: &dyn Fn(usize, &mut dyn Write) -> fmt::Result) -> fmt::Result {
    match view.position(name) {
        Some(position) => show(position, out),
        None => out.write_str("fail\ndevice not found\n"),
    }
}

/// Reads one request and carries it out as far as that needs no device.
#[inline(never)]
pub fn serve(request: &[u8], root: bool, state: &State<'_>, out: &mut dyn Write) -> Verdict {
    let scratch = &mut Scratch::default();
    let text = core::str::from_utf8(request).unwrap_or("").trim_ascii();
    let mut counted = Counted { out, used: 0 };
    let out = &mut counted;
    if let Some(done) = own(text, state, out) {
        let _ = done;
        return Verdict::Replied;
    }
    // Our own, and not to be looked at by anyone: it comes before the grammar of the peer.
    if text == "handover" && root {
        return Verdict::Shutdown { keep: true };
    }
    let command = match Command::parse(request, scratch) {
        Ok(command) => command,
        Err(refused) => {
            let _ = out.write_str("fail\n");
            if refused != Refused::Unknown {
                let _ = help(out);
            }
            return Verdict::Replied;
        }
    };
    if command.needs_root() && !root {
        let _ = out.write_str("fail\npermission deny: need to be root\n");
        return Verdict::Replied;
    }
    let view = &state.view;
    let _ = match command {
        Command::ShowPaths { raw, format } => {
            columns::paths(view, format.unwrap_or(columns::PATHS_DEFAULT), if raw { Dress::Raw } else { Dress::Pretty }, out)
        }
        Command::ShowPath(name) => match view.engine.find_path(name) {
            Some(path) => writeln!(out, "{}", path.map().map_or("unknown", |_| crate::apps::view::sys_word(path.sys_state()))),
            None => out.write_str("fail\ndevice not found\n"),
        },
        Command::ShowMaps(what) => maps(view, None, what, out),
        Command::ShowMap { map, view: what } => one_map(view, map, out, &|position, out| maps(view, Some(position), what, out)),
        Command::ShowConfig { local } => crate::apps::config::dump(out, state.settings, local.then_some(view), false),
        Command::ShowWildcards => columns::wildcards(out),
        Command::ShowStatus => super::status::peer(state, out),
        Command::ShowDaemon => writeln!(out, "pid {} {}", state.pid, state.phase),
        Command::ShowBlacklist | Command::ShowDevices => reasons(view, out),
        Command::AddPath(_)
        | Command::RemovePath(_)
        | Command::AddMap(_)
        | Command::RemoveMap(_)
        | Command::RemoveMaps
        | Command::Suspend(_)
        | Command::Resume(_)
        | Command::Resize(_)
        | Command::Reload(_)
        | Command::ResetMap(_)
        | Command::FailPath(_)
        | Command::ReinstatePath(_)
        | Command::SwitchGroup { .. }
        | Command::DisableQueueing(_)
        | Command::HurryQueueing { .. }
        | Command::RestoreQueueing(_)
        | Command::SetMarginal(_)
        | Command::UnsetMarginal(_)
        | Command::UnsetMarginalMap(_) => return Verdict::Ask,
        Command::Reconfigure { .. } => return Verdict::Reconfigure,
        Command::Shutdown => return Verdict::Shutdown { keep: false },
        Command::Quit => Ok(()),
        Command::ResetStats(_) | Command::QueueWithoutDaemon { .. } | Command::Persistent { .. } => {
            out.write_str("fail\nnot done by corepath\n")
        }
    };
    if out.used == 0 {
        let _ = out.write_str("ok\n");
    }
    Verdict::Replied
}

/// The engine's part of a request, if it has one.
pub fn ask<'r>(request: &'r [u8], scratch: &'r mut Scratch) -> Option<Ask<'r>> {
    Some(match Command::parse(request, scratch).ok()? {
        Command::AddPath(path) => Ask::AddPath(path),
        Command::RemovePath(path) => Ask::RemovePath(path),
        Command::AddMap(map) => Ask::AddMap(map),
        Command::RemoveMap(map) => Ask::RemoveMap(map),
        Command::RemoveMaps => Ask::RemoveMaps,
        Command::Suspend(map) => Ask::Suspend(map),
        Command::Resume(map) => Ask::Resume(map),
        Command::Resize(map) => Ask::Resize(map),
        Command::Reload(map) | Command::ResetMap(map) => Ask::Reload(map),
        Command::FailPath(path) => Ask::FailPath(path),
        Command::ReinstatePath(path) => Ask::ReinstatePath(path),
        Command::SwitchGroup { map, group } => Ask::SwitchGroup { map, group: u8::try_from(group).unwrap_or(u8::MAX) },
        Command::DisableQueueing(map) => Ask::DisableQueueing(map),
        Command::HurryQueueing { on } => Ask::HurryQueueing(on),
        Command::RestoreQueueing(map) => Ask::RestoreQueueing(map),
        Command::SetMarginal(path) => Ask::SetMarginal(path),
        Command::UnsetMarginal(path) | Command::UnsetMarginalMap(path) => Ask::UnsetMarginal(path),
        _ => return None,
    })
}

fn maps(view: &EngineView<'_>, only: Option<usize>, what: MapsView<'_>, out: &mut dyn Write) -> fmt::Result {
    // The peer's single-map form has no header even without raw, but pads.
    let pretty = if only.is_some() { Dress::Padded } else { Dress::Pretty };
    match what {
        MapsView::Names => columns::maps(view, only, columns::MAPS_DEFAULT, pretty, out),
        MapsView::Status => columns::maps(view, only, columns::MAPS_STATUS, pretty, out),
        MapsView::Stats => columns::maps(view, only, columns::MAPS_STATS, pretty, out),
        MapsView::Topology => topology::tree(view, only, Style::PLAIN, out),
        MapsView::Json => json::maps(view, only, out),
        MapsView::Format { raw, format } => columns::maps(view, only, format, if raw { Dress::Raw } else { pretty }, out),
    }
}

/// Disks that are left alone, each with its reason.
fn reasons(view: &EngineView<'_>, out: &mut dyn Write) -> fmt::Result {
    for path in view.engine.paths() {
        let (code, sentence) = crate::apps::say::reason_row(path.reason());
        let word = if path.map().is_some() { "claimed" } else { "left alone" };
        writeln!(out, "{} {}: {word}, {sentence} [{code}]", path.name(), path.devno())?;
    }
    Ok(())
}

/// The list that follows a request nobody understands; the first line is the banner clients look for.
fn help(out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "multipath-tools v0.14.3 (compatible: corepath {})", env!("CARGO_PKG_VERSION"))?;
    out.write_str(
        "CLI commands reference:\n list|show paths [raw] [format F]\n list|show path P\n list|show maps|multipaths [status|stats|topology|json|[raw] format F]\n \
         list|show map M [topology|json|[raw] format F]\n list|show status|daemon|config [local]|wildcards|devices\n add|remove|del path P\n \
         add|remove|del map M\n remove|del maps\n fail|reinstate path P\n switch|switchgroup map M group N\n suspend|resume|resize|reload|reset map M\n \
         disablequeueing|restorequeueing map M | maps | starved\n setmarginal|unsetmarginal path P\n unsetmarginal map M\n reconfigure [all]\n shutdown\n quit|exit\n",
    )
}

/// Knows whether anything was written.
struct Counted<'a> {
    out: &'a mut dyn Write,
    used: usize,
}

impl Write for Counted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.used += text.len();
        self.out.write_str(text)
    }
}
