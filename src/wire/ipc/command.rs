//! The command language of the socket: words that may be shortened as long as they stay unique, a few of which take a parameter.
//!
//! Quotes, comments and braces are those of the configuration file. Parsing knows nothing of maps or paths: names stay text.

use crate::model::parse_decimal;

/// Most keywords in one command.
const KEYWORDS: usize = 4;

macro_rules! words {
    ($($word:ident $($text:literal)+;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Word { $($word),* }
        const ALL: &[Word] = &[$(Word::$word),*];
        /// How each of [`ALL`] is written, one on a line; a prefix common to two spellings of one is not unique either.
        const SPELLINGS: &str = concat!($($($text, " ",)+ "\n"),*);
    };
}

words! {
    List "list" "show";
    Add "add";
    Remove "remove" "del";
    Switch "switch" "switchgroup";
    Suspend "suspend";
    Resume "resume";
    Reinstate "reinstate";
    Fail "fail";
    Resize "resize";
    Reset "reset";
    Reload "reload";
    ForceQueueing "forcequeueing";
    DisableQueueing "disablequeueing";
    RestoreQueueing "restorequeueing";
    Paths "paths";
    Maps "maps" "multipaths";
    Path "path";
    Map "map" "multipath";
    Group "group";
    Reconfigure "reconfigure";
    Daemon "daemon";
    Status "status";
    Stats "stats";
    Topology "topology";
    Config "config";
    Blacklist "blacklist";
    Devices "devices";
    Raw "raw";
    Wildcards "wildcards";
    Quit "quit" "exit";
    Shutdown "shutdown";
    GetPrStatus "getprstatus";
    SetPrStatus "setprstatus";
    UnsetPrStatus "unsetprstatus";
    Format "format";
    Json "json";
    GetPrKey "getprkey";
    SetPrKey "setprkey";
    UnsetPrKey "unsetprkey";
    Key "key";
    Local "local";
    SetMarginal "setmarginal";
    UnsetMarginal "unsetmarginal";
    All "all";
    GetPrHold "getprhold";
    SetPrHold "setprhold";
    UnsetPrHold "unsetprhold";
    PathList "pathlist";
    Starved "starved";
}

impl Word {
    /// Each spelling with its meaning.
    fn each() -> impl Iterator<Item = (&'static str, Word)> {
        SPELLINGS.split('\n').zip(ALL).flat_map(|(line, word)| line.split_ascii_whitespace().map(|text| (text, *word)))
    }

    /// The whole word, else the only word that begins so.
    fn find(word: &[u8]) -> Option<Word> {
        let (mut found, mut count) = (None, 0);
        for (text, meaning) in Word::each() {
            if text.as_bytes() == word {
                return Some(meaning);
            }
            if text.as_bytes().starts_with(word) {
                found = Some(meaning);
                count += 1;
            }
        }
        found.filter(|_| count == 1)
    }

    const fn takes_parameter(self) -> bool {
        matches!(self, Word::Path | Word::Map | Word::Group | Word::Format | Word::Key | Word::PathList)
    }
}

/// Which view of all maps is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapsView<'a> {
    Names,
    Status,
    Stats,
    Topology,
    Json,
    Format { raw: bool, format: &'a str },
}

/// Persistent reservation bookkeeping: out of scope, but known as commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persistent {
    GetStatus,
    SetStatus,
    UnsetStatus,
    GetKey,
    SetKey,
    UnsetKey,
    GetHold,
    SetHold,
    UnsetHold,
}

/// One command. Maps and paths are as typed: alias, WWID, kernel name, device number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command<'a> {
    /// `None`: the default columns.
    ShowPaths {
        raw: bool,
        format: Option<&'a str>,
    },
    ShowPath(&'a str),
    ShowMaps(MapsView<'a>),
    ShowMap {
        map: &'a str,
        view: MapsView<'a>,
    },
    ShowConfig {
        local: bool,
    },
    ShowBlacklist,
    ShowDevices,
    ShowWildcards,
    ShowStatus,
    ShowDaemon,
    AddPath(&'a str),
    RemovePath(&'a str),
    AddMap(&'a str),
    RemoveMap(&'a str),
    RemoveMaps,
    Suspend(&'a str),
    Resume(&'a str),
    Resize(&'a str),
    ResetMap(&'a str),
    /// `None`: all maps.
    ResetStats(Option<&'a str>),
    Reload(&'a str),
    FailPath(&'a str),
    ReinstatePath(&'a str),
    /// The group is 1-based.
    SwitchGroup {
        map: &'a str,
        group: u32,
    },
    Reconfigure {
        all: bool,
    },
    /// `None`: all maps.
    DisableQueueing(Option<&'a str>),
    /// Of maps without a path, after a moment, from now on: ours alone.
    HurryQueueing {
        on: bool,
    },
    RestoreQueueing(Option<&'a str>),
    /// `queue_without_daemon` as configured (`false`) or on.
    QueueWithoutDaemon {
        force: bool,
    },
    SetMarginal(&'a str),
    UnsetMarginal(&'a str),
    UnsetMarginalMap(&'a str),
    Persistent {
        map: &'a str,
        what: Persistent,
    },
    Quit,
    Shutdown,
}

impl Command<'_> {
    /// Everything that is not a question is root's alone.
    pub const fn needs_root(&self) -> bool {
        !matches!(
            self,
            Command::ShowPaths { .. }
                | Command::ShowPath(_)
                | Command::ShowMaps(_)
                | Command::ShowMap { .. }
                | Command::ShowConfig { .. }
                | Command::ShowBlacklist
                | Command::ShowDevices
                | Command::ShowWildcards
                | Command::ShowStatus
                | Command::ShowDaemon
        )
    }
}

/// Why a text is no command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Nothing in it, or only a comment.
    Empty,
    /// The last word is unknown or not unique; the reply lists the commands.
    UnknownLast,
    /// An earlier word is.
    Unknown,
    /// A word that needs a parameter has none.
    MissingParameter,
    /// Known words that make no command together.
    NoSuchCommand,
}

/// Room for the words of one command, without their quotes.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    bytes: [u8; super::REQUEST_LEN],
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { bytes: [0; super::REQUEST_LEN] }
    }
}

/// One token of the configuration's line language.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Quote,
    /// Where its bytes are in the scratch.
    Word(usize, usize),
}

/// Cuts a line into tokens. Bytes are copied without quotes, so the scratch never has less room than the line.
struct Tokens<'t, 's> {
    line: &'t [u8],
    out: &'s mut [u8],
    used: usize,
    quoted: bool,
}

fn is_blank(b: u8) -> bool {
    b.is_ascii_whitespace() || b == 0x0b || b >= 0x80
}

impl Tokens<'_, '_> {
    /// `Err`: the line is longer than the scratch.
    fn next(&mut self) -> Result<Option<Token>, ()> {
        while let [b, rest @ ..] = self.line
            && !self.quoted
            && is_blank(*b)
        {
            self.line = rest;
        }
        let [first, after @ ..] = self.line else { return Ok(None) };
        let begin = self.used;
        if self.quoted {
            while let [b, rest @ ..] = self.line {
                match (b, rest) {
                    (b'"', [b'"', rest @ ..]) => {
                        self.line = rest;
                        self.put(b'"')?;
                    }
                    (b'"', _) => break,
                    _ => {
                        self.line = rest;
                        self.put(*b)?;
                    }
                }
            }
            if self.used > begin {
                return Ok(Some(Token::Word(begin, self.used)));
            }
        }
        match first {
            b'"' => {
                self.quoted = !self.quoted;
                self.line = self.line.get(1..).unwrap_or(&[]);
                return Ok(Some(Token::Quote));
            }
            b'#' | b'!' => return Ok(None),
            b'{' | b'}' => {
                self.line = after;
                self.put(*first)?;
                return Ok(Some(Token::Word(begin, self.used)));
            }
            _ => {}
        }
        while let [b, rest @ ..] = self.line
            && !is_blank(*b)
            && !matches!(b, b'"' | b'#' | b'!' | b'{' | b'}')
        {
            self.line = rest;
            self.put(*b)?;
        }
        Ok(Some(Token::Word(begin, self.used)))
    }

    fn put(&mut self, b: u8) -> Result<(), ()> {
        *self.out.get_mut(self.used).ok_or(())? = b;
        self.used += 1;
        Ok(())
    }
}

impl<'s> Command<'s> {
    /// Reads one request. The command borrows its parameters from `scratch`.
    pub fn parse(line: &[u8], scratch: &'s mut Scratch) -> Result<Command<'s>, Refused> {
        let mut keys = [None; KEYWORDS];
        let mut spans = [(0, 0); KEYWORDS];
        let (mut count, mut parameters) = (0, 0);
        let mut tokens = Tokens { line, out: &mut scratch.bytes, used: 0, quoted: false };
        let next = |t: &mut Tokens<'_, '_>| t.next().map_err(|()| Refused::Unknown);
        let mut token = next(&mut tokens)?;
        if token.is_none() {
            return Err(Refused::Empty);
        }
        while let Some(now) = token {
            let key = match now {
                Token::Word(a, b) => Word::find(tokens.out.get(a..b).unwrap_or(&[])),
                Token::Quote => None,
            };
            token = next(&mut tokens)?;
            let Some(key) = key else {
                return Err(if token.is_none() { Refused::UnknownLast } else { Refused::Unknown });
            };
            if key.takes_parameter() {
                let quoted = token == Some(Token::Quote);
                if quoted {
                    token = next(&mut tokens)?;
                }
                let Some(Token::Word(a, b)) = token else { return Err(Refused::MissingParameter) };
                *spans.get_mut(parameters).ok_or(Refused::NoSuchCommand)? = (a, b);
                parameters += 1;
                token = next(&mut tokens)?;
                if quoted && token == Some(Token::Quote) {
                    token = next(&mut tokens)?;
                }
            }
            // Words past the fourth are still read, so that a bad one is named as such.
            if let Some(place) = keys.get_mut(count) {
                *place = Some(key);
            }
            count += 1;
        }
        let bytes: &'s [u8] = &scratch.bytes;
        let text = |i: usize| {
            let (a, b) = spans.get(i).copied()?;
            core::str::from_utf8(bytes.get(a..b)?).ok()
        };
        if count > KEYWORDS {
            return Err(Refused::NoSuchCommand);
        }
        command(keys, text(0).ok_or(Refused::Unknown)?, text(1).ok_or(Refused::Unknown)?).ok_or(Refused::NoSuchCommand)
    }
}

/// The commands there are. `one` and `two` are the parameters in the order typed, empty where there is none.
#[inline(never)]
fn command<'s>(keys: [Option<Word>; KEYWORDS], one: &'s str, two: &'s str) -> Option<Command<'s>> {
    use Word::*;
    let persistent = |what| Some(Command::Persistent { map: one, what });
    match keys {
        [Some(List), Some(Paths), None, None] => Some(Command::ShowPaths { raw: false, format: None }),
        [Some(List), Some(Paths), Some(Format), None] => Some(Command::ShowPaths { raw: false, format: Some(one) }),
        [Some(List), Some(Paths), Some(Raw), Some(Format)] => Some(Command::ShowPaths { raw: true, format: Some(one) }),
        [Some(List), Some(Path), None, None] => Some(Command::ShowPath(one)),
        [Some(List), Some(Maps), view, last] => Some(Command::ShowMaps(match (view, last) {
            (None, None) => MapsView::Names,
            (Some(Status), None) => MapsView::Status,
            (Some(Stats), None) => MapsView::Stats,
            (Some(Topology), None) => MapsView::Topology,
            (Some(Json), None) => MapsView::Json,
            (Some(Format), None) => MapsView::Format { raw: false, format: one },
            (Some(Raw), Some(Format)) => MapsView::Format { raw: true, format: one },
            _ => return None,
        })),
        [Some(List), Some(Topology), None, None] => Some(Command::ShowMaps(MapsView::Topology)),
        [Some(List), Some(Map), view, last] => {
            let view = match (view, last) {
                (Some(Topology), None) => MapsView::Topology,
                (Some(Json), None) => MapsView::Json,
                (Some(Format), None) => MapsView::Format { raw: false, format: two },
                (Some(Raw), Some(Format)) => MapsView::Format { raw: true, format: two },
                _ => return None,
            };
            Some(Command::ShowMap { map: one, view })
        }
        [Some(List), Some(Config), None, None] => Some(Command::ShowConfig { local: false }),
        [Some(List), Some(Config), Some(Local), None] => Some(Command::ShowConfig { local: true }),
        [Some(List), Some(Blacklist), None, None] => Some(Command::ShowBlacklist),
        [Some(List), Some(Devices), None, None] => Some(Command::ShowDevices),
        [Some(List), Some(Wildcards), None, None] => Some(Command::ShowWildcards),
        [Some(List), Some(Status), None, None] => Some(Command::ShowStatus),
        [Some(List), Some(Daemon), None, None] => Some(Command::ShowDaemon),
        [Some(Add), Some(Path), None, None] => Some(Command::AddPath(one)),
        [Some(Remove), Some(Path), None, None] => Some(Command::RemovePath(one)),
        [Some(Add), Some(Map), None, None] => Some(Command::AddMap(one)),
        [Some(Remove), Some(Map), None, None] => Some(Command::RemoveMap(one)),
        [Some(Remove), Some(Maps), None, None] => Some(Command::RemoveMaps),
        [Some(Suspend), Some(Map), None, None] => Some(Command::Suspend(one)),
        [Some(Resume), Some(Map), None, None] => Some(Command::Resume(one)),
        [Some(Resize), Some(Map), None, None] => Some(Command::Resize(one)),
        [Some(Reset), Some(Map), None, None] => Some(Command::ResetMap(one)),
        [Some(Reset), Some(Map), Some(Stats), None] => Some(Command::ResetStats(Some(one))),
        [Some(Reset), Some(Maps), Some(Stats), None] => Some(Command::ResetStats(None)),
        [Some(Reload), Some(Map), None, None] => Some(Command::Reload(one)),
        [Some(Fail), Some(Path), None, None] => Some(Command::FailPath(one)),
        [Some(Reinstate), Some(Path), None, None] => Some(Command::ReinstatePath(one)),
        // A group that is no number is no group: 0 is refused by whoever looks for it.
        [Some(Switch), Some(Map), Some(Group), None] => Some(Command::SwitchGroup { map: one, group: parse_decimal(two).unwrap_or(0) }),
        [Some(Reconfigure), None, None, None] => Some(Command::Reconfigure { all: false }),
        [Some(Reconfigure), Some(All), None, None] => Some(Command::Reconfigure { all: true }),
        [Some(DisableQueueing), Some(Map), None, None] => Some(Command::DisableQueueing(Some(one))),
        [Some(DisableQueueing), Some(Maps), None, None] => Some(Command::DisableQueueing(None)),
        [Some(DisableQueueing), Some(Starved), None, None] => Some(Command::HurryQueueing { on: true }),
        [Some(RestoreQueueing), Some(Starved), None, None] => Some(Command::HurryQueueing { on: false }),
        [Some(RestoreQueueing), Some(Map), None, None] => Some(Command::RestoreQueueing(Some(one))),
        [Some(RestoreQueueing), Some(Maps), None, None] => Some(Command::RestoreQueueing(None)),
        [Some(ForceQueueing), Some(Daemon), None, None] => Some(Command::QueueWithoutDaemon { force: true }),
        [Some(RestoreQueueing), Some(Daemon), None, None] => Some(Command::QueueWithoutDaemon { force: false }),
        [Some(SetMarginal), Some(Path), None, None] => Some(Command::SetMarginal(one)),
        [Some(UnsetMarginal), Some(Path), None, None] => Some(Command::UnsetMarginal(one)),
        [Some(UnsetMarginal), Some(Map), None, None] => Some(Command::UnsetMarginalMap(one)),
        [Some(GetPrStatus), Some(Map), None, None] => persistent(Persistent::GetStatus),
        [Some(SetPrStatus), Some(Map), None | Some(PathList), None] => persistent(Persistent::SetStatus),
        [Some(UnsetPrStatus), Some(Map), None, None] => persistent(Persistent::UnsetStatus),
        [Some(GetPrKey), Some(Map), None, None] => persistent(Persistent::GetKey),
        [Some(SetPrKey), Some(Map), Some(Key), None] => persistent(Persistent::SetKey),
        [Some(UnsetPrKey), Some(Map), None, None] => persistent(Persistent::UnsetKey),
        [Some(GetPrHold), Some(Map), None, None] => persistent(Persistent::GetHold),
        [Some(SetPrHold), Some(Map), None, None] => persistent(Persistent::SetHold),
        [Some(UnsetPrHold), Some(Map), None, None] => persistent(Persistent::UnsetHold),
        [Some(Quit), None, None, None] => Some(Command::Quit),
        [Some(Shutdown), None, None, None] => Some(Command::Shutdown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse<'s>(line: &str, scratch: &'s mut Scratch) -> Result<Command<'s>, Refused> {
        Command::parse(line.as_bytes(), scratch)
    }

    #[test]
    fn meanings() {
        let s = &mut Scratch::default();
        assert_eq!(parse("switchgroup map x group 2", s), Ok(Command::SwitchGroup { map: "x", group: 2 }));
        assert_eq!(parse("switchgroup map x group two", s), Ok(Command::SwitchGroup { map: "x", group: 0 }));
        assert_eq!(
            parse("show map \"a b\" raw format \"%n \"\"%w\"\"\"", s),
            Ok(Command::ShowMap { map: "a b", view: MapsView::Format { raw: true, format: "%n \"%w\"" } })
        );
        assert_eq!(parse("reset maps stats", s), Ok(Command::ResetStats(None)));
        assert_eq!(parse("q q q q q", s), Err(Refused::NoSuchCommand));
        assert_eq!(parse("q q q q x", s), Err(Refused::UnknownLast));
        assert_eq!(parse("", s), Err(Refused::Empty));
        assert_eq!(parse("# list paths", s), Err(Refused::Empty));
        assert_eq!(parse("\"list\" paths", s), Err(Refused::Unknown));
        assert!(parse("fail path sda", s).is_ok_and(|c| c.needs_root()));
        assert!(parse("show daemon", s).is_ok_and(|c| !c.needs_root()));
    }

    #[test]
    fn every_word_finds_itself() {
        for (word, key) in Word::each() {
            assert_eq!(Word::find(word.as_bytes()), Some(key), "{word}");
        }
        assert_eq!(Word::each().count(), 55);
        assert_eq!(Word::find(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Command::parse(&bytes, &mut Scratch::default());
        }

        #[test]
        fn any_words(words in proptest::collection::vec(0..55usize + 4, 0..8)) {
            let odd = ["\"", "x", "{", "\"a \"\" b\""];
            let line: std::vec::Vec<&str> = words.iter().map(|&i| Word::each().nth(i).map_or_else(|| odd[i - 55], |w| w.0)).collect();
            let _ = Command::parse(line.join(" ").as_bytes(), &mut Scratch::default());
        }
    }
}
