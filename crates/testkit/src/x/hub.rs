//! The venue's state: rules, the one stream, what is posted, and what goes wrong.

use std::collections::VecDeque;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;

use super::fault::{Fault, Garbage, Odd, Trouble};
use crate::kraken::rng::Rng;
use crate::kraken::text::{now_ns, time};
use crate::lines::Out;

/// Entries of the sent log that are kept.
const KEPT: usize = 1_000_000;
/// The first moment of the venue's ids, ms since 1970.
const EPOCH_MS: i64 = 1_288_834_974_657;

/// A post that was handed to the socket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sent {
    /// Number of the stream, from 1.
    pub stream: u64,
    pub id: String,
    /// As somebody wrote it, without entities.
    pub text: String,
    /// Tag of the rule that it matched.
    pub tag: String,
    pub author: String,
    /// The post that it is an edit of.
    pub edit_of: Option<String>,
}

/// A rule of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: String,
    pub value: String,
    pub tag: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) token: String,
    pub(crate) rules: Vec<Rule>,
    /// The open stream: the venue allows one.
    pub(crate) stream: Option<(u64, mpsc::Sender<Out>)>,
    pub(crate) opened: u64,
    /// When streams were asked for.
    pub(crate) asked: Vec<Instant>,
    /// Methods and paths that were asked for.
    pub(crate) requests: Vec<String>,
    pub(crate) clock_off_ns: i64,
    pub(crate) rng: Rng,
    pub(crate) next_rule: u64,
    pub(crate) connections: Refused,
    pub(crate) usage: Refused,
    /// Until when requests are refused, ns since 1970 by the venue's clock; answered once.
    pub(crate) limit: Option<i64>,
    refusals: Vec<(u16, Option<u32>)>,
    odd: VecDeque<Odd>,
    duplicates: u32,
    edits: u32,
    posts: i64,
    last: Option<String>,
    log: VecDeque<Sent>,
    remember: bool,
}

/// How many more are refused; `None`: all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(Option<u32>);

impl Refused {
    pub(crate) const NONE: Refused = Refused(Some(0));

    pub(crate) fn take(&mut self) -> bool {
        match &mut self.0 {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

impl Hub {
    pub(crate) fn new(token: String, rng: Rng, remember: bool) -> Hub {
        Hub {
            token,
            rules: Vec::new(),
            stream: None,
            opened: 0,
            asked: Vec::new(),
            requests: Vec::new(),
            clock_off_ns: 0,
            rng,
            next_rule: 1_166_916_266_197_536_768,
            connections: Refused::NONE,
            usage: Refused::NONE,
            limit: None,
            refusals: Vec::new(),
            odd: VecDeque::new(),
            duplicates: 0,
            edits: 0,
            posts: 0,
            last: None,
            log: VecDeque::new(),
            remember,
        }
    }

    pub(crate) fn now_ns(&self) -> i64 {
        now_ns().saturating_add(self.clock_off_ns)
    }

    /// The status that the next request is refused with, if any.
    pub(crate) fn refusal(&mut self) -> Option<u16> {
        let (status, left) = self.refusals.first_mut()?;
        let status = *status;
        if let Some(left) = left {
            *left -= 1;
            if *left == 0 {
                self.refusals.remove(0);
            }
        }
        Some(status)
    }

    /// Opens the stream.
    pub(crate) fn open(&mut self, room: usize) -> (u64, mpsc::Receiver<Out>) {
        let (queue, told) = mpsc::channel(room);
        self.opened += 1;
        self.stream = Some((self.opened, queue));
        (self.opened, told)
    }

    /// Somebody posts what matches a rule: the lines of it, and who gets them.
    pub(crate) fn post(&mut self, text: &str) -> Option<(mpsc::Sender<Out>, Vec<Out>)> {
        let (stream, queue) = self.stream.clone()?;
        let at_ns = self.now_ns();
        self.posts += 1;
        // As the venue makes them: milliseconds, then a count.
        let id = (((at_ns / 1_000_000 - EPOCH_MS) << 22) + self.posts).to_string();
        let rule = self.rules.get(self.rng.index(self.rules.len()));
        let (rule_id, tag) = rule.map_or(("1", "tapedeck"), |rule| (&rule.id, rule.tag.as_deref().unwrap_or_default()));
        let author = self.rng.between(1, 40);
        let edit_of = if self.edits > 0 { self.last.clone() } else { None };
        self.edits -= u32::from(edit_of.is_some());
        let history = edit_of.iter().chain([&id]).map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(",");
        let likes = self.rng.below(1_000);
        let quoted = serde_json::Value::from(entities(text)).to_string();
        let when = format!("{}Z", &time(at_ns)[..23]);
        let created = match self.odd.front() {
            Some(Odd::ZeroTime) => r#""created_at":"1970-01-01T00:00:00.000Z","#.to_owned(),
            Some(Odd::AbsurdTime) => r#""created_at":"2200-01-01T00:00:00.000Z","#.to_owned(),
            Some(Odd::NoTime) => String::new(),
            Some(Odd::TextTime) => r#""created_at":"soon","#.to_owned(),
            Some(Odd::NumberTime) => r#""created_at":1234,"#.to_owned(),
            Some(Odd::Fields) => format!(r#""created_at":"{when}","moonPhase":{{"a":[1,{{"b":null}}]}},"geo":7,"#),
            None => format!(r#""created_at":"{when}","#),
        };
        let metrics = match self.odd.pop_front() {
            Some(Odd::Fields) => r#"{"like_count":"many","quantum_count":{"x":1},"reply_count":1e400}"#.to_owned(),
            _ => format!(r#"{{"retweet_count":0,"reply_count":1,"like_count":{likes},"quote_count":0}}"#),
        };
        // Fields come in any order: here in two.
        let mut data = [
            format!(r#""author_id":"{author}",{created}"edit_history_tweet_ids":[{history}]"#),
            format!(r#""id":"{id}","lang":"en","public_metrics":{metrics}"#),
            format!(r#""text":{quoted}"#),
        ];
        if self.posts % 2 == 0 {
            data.reverse();
        }
        let tag_text = serde_json::Value::from(tag).to_string();
        let line = format!(
            r#"{{"data":{{{}}},"includes":{{"users":[{{"id":"{author}","location":"Town {author}","name":"N {author}","public_metrics":{{"followers_count":{author},"following_count":2,"listed_count":0,"tweet_count":9}},"username":"user{author}"}}]}},"matching_rules":[{{"id":"{rule_id}","tag":{tag_text}}}]}}"#,
            data.join(",")
        );
        let sent = Sent {
            stream,
            id: id.clone(),
            text: text.to_owned(),
            tag: tag.to_owned(),
            author: format!("user{author}"),
            edit_of,
        };
        let mut lines = vec![Out::Line("post", line.clone())];
        if self.duplicates > 0 {
            self.duplicates -= 1;
            lines.push(Out::Line("post", line));
        }
        self.enter(sent);
        self.last = Some(id);
        Some((queue, lines))
    }

    /// What faults of the connection tell the stream; the others change what comes.
    pub(crate) fn inject(&mut self, fault: Fault) -> Option<(mpsc::Sender<Out>, Vec<Out>)> {
        let outs = match fault {
            Fault::Cut { in_line } => vec![Out::Cut { in_line }],
            Fault::End { in_line } => vec![Out::End { in_line }],
            Fault::HalfOpen { lasts } => vec![Out::HalfOpen(lasts)],
            Fault::Disconnect(trouble) => vec![Out::Line("problem", problem(trouble).to_owned()), Out::HalfOpen(None)],
            Fault::Oversized { kib } => {
                let mut line = br#"{"data":{"id":"1","text":""#.to_vec();
                line.resize(kib << 10, b'x');
                line.extend_from_slice(b"\r\n");
                vec![Out::Bytes(line)]
            }
            Fault::Garbage(garbage) => vec![Out::Bytes(bytes_of(garbage))],
            Fault::Duplicate => {
                self.duplicates += 1;
                return None;
            }
            Fault::Edit => {
                self.edits += 1;
                return None;
            }
            Fault::Odd(odd) => {
                self.odd.push_back(odd);
                return None;
            }
            Fault::Clock { off_ns } => {
                self.clock_off_ns = off_ns;
                return None;
            }
            Fault::Refuse { status, times } => {
                if times != Some(0) {
                    self.refusals.push((status, times));
                }
                return None;
            }
            Fault::Limit { lasts } => {
                self.limit = Some(self.now_ns().saturating_add(i64::try_from(lasts.as_nanos()).unwrap_or(i64::MAX)));
                return None;
            }
            Fault::Connections { times } => {
                self.connections = Refused(times);
                return None;
            }
            Fault::Usage { times } => {
                self.usage = Refused(times);
                return None;
            }
            Fault::Heal => {
                self.refusals.clear();
                self.odd.clear();
                (self.duplicates, self.edits, self.clock_off_ns, self.limit) = (0, 0, 0, None);
                (self.connections, self.usage) = (Refused::NONE, Refused::NONE);
                return None;
            }
        };
        self.stream.clone().map(|(_, queue)| (queue, outs))
    }

    fn enter(&mut self, sent: Sent) {
        if self.remember {
            if self.log.len() >= KEPT {
                self.log.pop_front();
            }
            self.log.push_back(sent);
        }
    }

    pub(crate) fn log(&self) -> Vec<Sent> {
        self.log.iter().cloned().collect()
    }
}

/// A text as the venue sends it.
fn entities(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The error objects that users reported, and their kin.
pub(crate) fn problem(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Operational => {
            r#"{"errors":[{"title":"operational-disconnect","disconnect_type":"OperationalDisconnect","detail":"This stream has been disconnected for operational reasons.","type":"https://api.twitter.com/2/problems/operational-disconnect"}]}"#
        }
        Trouble::Connections => {
            r#"{"title":"ConnectionException","detail":"This stream is currently at the maximum allowed connection limit.","connection_issue":"TooManyConnections","type":"https://api.twitter.com/2/problems/streaming-connection"}"#
        }
        Trouble::Usage => {
            r#"{"title":"UsageCapExceeded","detail":"Usage cap exceeded: Monthly product cap","period":"Monthly","scope":"Product","type":"https://api.twitter.com/2/problems/usage-capped"}"#
        }
        Trouble::Old => r#"{"disconnect":{"code":7,"stream_name":"tapedeck","reason":"admin logout"}}"#,
    }
}

fn bytes_of(garbage: Garbage) -> Vec<u8> {
    let mut bytes = match garbage {
        Garbage::NotJson => br#"{"data":{"id":"15785"#.to_vec(),
        Garbage::InvalidUtf8 => b"{\"data\":{\"id\":\"1\",\"text\":\"\xff\xfe\"}}".to_vec(),
        Garbage::Array => b"[1,2,3]".to_vec(),
        Garbage::Empty => b"\r\n \r\n".to_vec(),
        Garbage::Shape => br#"{"data":{"text":"nobody's"},"matching_rules":[]}"#.to_vec(),
        Garbage::UnknownType => br#"{"quantum":{"posts":[1]},"phase":2}"#.to_vec(),
    };
    bytes.extend_from_slice(b"\r\n");
    bytes
}
