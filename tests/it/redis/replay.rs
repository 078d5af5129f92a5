//! Random walks of the model (`tests/it/model`), played on the real scripts in a real Redis: after every step the keys
//! say what the model says.

#[path = "../../../src/store/redis/scripts.rs"]
#[expect(dead_code, reason = "the model knows no notes and no lists of nodes")]
mod scripts;

use super::long;
use super::server::{NOTHING, Server};
use crate::model::WORLDS;
use crate::model::slot::{Answer, BATCHES, BUCKETS, COARSE, Call, Fold, Slot, bit, merge, tally};
use crate::model::state::NODES;
use crate::model::world::Event;
use redis::{Connection, Value};
use std::collections::BTreeMap;

/// A time that is never reached, and one that is past.
const NEVER: &str = "9000000000000";
const PAST: &str = "0";
/// Copies a slot to where another was.
const FALL: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[2] .. ':*')) do redis.call('DEL', key) end \
    for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':*')) do \
    redis.call('COPY', key, ARGV[2] .. string.sub(key, #ARGV[1] + 1)) end";

/// A partition as it stands in Redis under a prefix.
struct Real<'a> {
    connection: &'a mut Connection,
    prefix: &'static str,
}

fn answer(value: &Value) -> Answer {
    let (word, number): (String, u8) = match value {
        Value::Array(_) => {
            let (word, number, ..): (String, u8) = match value {
                Value::Array(all) => redis::from_redis_value(Value::Array(all[..2].to_vec())).unwrap(),
                _ => unreachable!(),
            };
            (word, number)
        }
        other => (redis::from_redis_value(other.clone()).unwrap(), 0),
    };
    match word.as_str() {
        "ok" => Answer::Ok,
        "dup" => Answer::Dup(number),
        "gap" => Answer::Gap(number),
        "late" => Answer::Late(number),
        "changed" => Answer::Changed,
        other => panic!("{other} is no answer"),
    }
}

impl Real<'_> {
    fn key(&self, rest: &str) -> String {
        format!("{}:{rest}", self.prefix)
    }

    fn script(&mut self, script: &str, keys: &[String], args: &[String]) -> Value {
        redis::cmd("EVAL").arg(script).arg(keys.len()).arg(keys).arg(args).query(self.connection).unwrap()
    }

    fn call(&mut self, call: Call, lease: u8) -> Answer {
        let flag = |value: &Value| if *value == Value::Int(1) { Answer::Ok } else { Answer::Changed };
        match call {
            Call::Apply { producer, number, bucket, late } => {
                let keys = [&format!("w:{producer}"), &format!("in:{bucket}"), "todo", "day"];
                let keys = keys.map(|rest: &str| self.key(rest));
                let blob = tally(bit(producer, number)).to_string();
                let until = if late { PAST } else { NEVER };
                let args = [
                    &number.to_string(),
                    &format!("{producer}:{number}"),
                    &blob,
                    &bucket.to_string(),
                    "0",
                    until,
                    "60000",
                    "4",
                    "a",
                    &blob,
                ];
                answer(&self.script(scripts::APPLY, &keys, &args.map(|arg: &str| arg.to_owned())))
            }
            Call::Pass { producer, first, last, lost, damaged } => {
                let keys = [&format!("w:{producer}"), "books", "damaged"].map(|rest: &str| self.key(rest));
                let reason = if lost { "lost" } else { "late" };
                let args = [first.to_string(), last.to_string(), reason.to_owned(), damaged.to_string()];
                let args: Vec<String> = args.into_iter().chain(["60000".to_owned()]).collect();
                answer(&self.script(scripts::PASS, &keys, &args))
            }
            Call::Fold { fold, kept } => self.fold(&fold, kept),
            Call::HandUp { .. } => unreachable!("it is one with folding"),
            Call::Lease { holder } => {
                let key = self.key("lease");
                let mut set = redis::cmd("SET");
                set.arg(&key).arg(holder).arg("NX").arg("PX").arg(600_000);
                assert_eq!(set.query::<Value>(self.connection).unwrap(), Value::Okay, "it is free");
                for (token, renewed) in [(holder, 1), (holder + 1, 0)] {
                    let args = ["600000".to_owned(), token.to_string()];
                    assert_eq!(
                        self.script(scripts::RENEW, std::slice::from_ref(&key), &args),
                        Value::Array(vec![Value::Int(renewed)])
                    );
                }
                Answer::Ok
            }
            Call::Release => {
                let key = [self.key("lease")];
                let other = self.script(scripts::RELEASE, &key, &[(lease + 1).to_string()]);
                assert_eq!(other, Value::Int(0), "it is another's");
                flag(&self.script(scripts::RELEASE, &key, &[lease.to_string()]))
            }
            Call::Strike { bucket, version } => {
                let args = [bucket.to_string(), version.to_string()];
                flag(&self.script(scripts::STRIKE, &[self.key("out")], &args))
            }
            Call::Expire { bucket } => {
                redis::cmd("DEL").arg(self.key(&format!("s:{bucket}"))).exec(self.connection).unwrap();
                Answer::Ok
            }
        }
    }

    fn fold(&mut self, fold: &Fold, kept: bool) -> Answer {
        let bucket = usize::from(fold.bucket);
        let pending = format!("in:{bucket}");
        let coarser = if bucket == COARSE { pending.clone() } else { format!("in:{COARSE}") };
        let mut keys = vec![
            pending,
            format!("s:{bucket}"),
            "todo".to_owned(),
            coarser,
            "stage".to_owned(),
            "log".to_owned(),
        ];
        keys.extend((bucket < COARSE).then(|| "out".to_owned()));
        let keys: Vec<String> = keys.iter().map(|rest| self.key(rest)).collect();
        let expected = if fold.expected == 0 { String::new() } else { fold.expected.to_string() };
        let mut fields = Vec::new();
        for (producer, number) in batches().filter(|(at, number)| fold.batches & bit(*at, *number) != 0) {
            fields.push(format!("{producer}:{number}"));
        }
        fields.extend(fold.names.iter().filter(|name| **name != 0).map(ToString::to_string));
        let mut args = vec![
            expected,
            fold.version.to_string(),
            if fold.keep { "keep" } else { "up" }.to_owned(),
            bucket.to_string(),
            format!("{COARSE}@0"),
            if kept { NEVER } else { PAST }.to_owned(),
            NEVER.to_owned(),
            "0".to_owned(),
            fields.len().to_string(),
        ];
        args.extend(fields);
        args.push(fold.sum.to_string());
        if fold.keep {
            args.extend(["0".to_owned(), merge(fold.base, fold.sum).to_string()]);
        }
        let answer = answer(&self.script(scripts::FOLD, &keys, &args));
        if answer == Answer::Ok && fold.keep {
            // Whoever reads learns of it here.
            let newest: String =
                redis::cmd("LINDEX").arg(self.key("log")).arg(0).query(self.connection).unwrap();
            assert_eq!(newest, format!("{bucket} {}", fold.version));
        }
        answer
    }

    /// What the keys say, in the form of [`said`].
    fn says(&mut self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let pattern = self.key("*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query(self.connection).unwrap();
        for key in keys {
            let rest = key[self.prefix.len() + 1..].to_owned();
            match rest.as_str() {
                "todo" => {
                    let due: Vec<String> =
                        redis::cmd("ZRANGE").arg(&key).arg(0).arg(-1).query(self.connection).unwrap();
                    all.extend(due.into_iter().map(|bucket| (format!("todo {bucket}"), String::new())));
                }
                "lease" | "damaged" | "w:0" | "w:1" => {
                    all.insert(rest, redis::cmd("GET").arg(&key).query(self.connection).unwrap());
                }
                // What the last folds were; looked at when they are made.
                "log" => {}
                _ => {
                    let fields: BTreeMap<String, String> =
                        redis::cmd("HGETALL").arg(&key).query(self.connection).unwrap();
                    all.extend(fields.into_iter().map(|(field, value)| (format!("{rest} {field}"), value)));
                }
            }
        }
        all
    }
}

fn batches() -> impl Iterator<Item = (usize, u8)> {
    (0..NODES).flat_map(|producer| (1..=BATCHES).map(move |number| (producer, number)))
}

/// What the keys have to say of a slot of the model.
fn said(slot: &Slot) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut say = |key: String, value: u16| all.insert(key, value.to_string());
    for (producer, watermark) in slot.watermarks.iter().enumerate().filter(|(_, watermark)| **watermark > 0) {
        say(format!("w:{producer}"), u16::from(*watermark));
    }
    for bucket in 0..BUCKETS {
        for (producer, number) in batches() {
            if slot.pending[bucket] & bit(producer, number) != 0 {
                say(format!("in:{bucket} {producer}:{number}"), tally(bit(producer, number)));
            }
        }
        let (version, sealed) = slot.sealed[bucket];
        if version != 0 {
            say(format!("s:{bucket} ~version"), u16::from(version));
            say(format!("s:{bucket} 0"), sealed);
        }
    }
    for (name, delta) in slot.deltas.iter().filter(|(name, _)| *name != 0) {
        say(format!("in:{COARSE} {name}"), *delta);
    }
    for (bucket, version) in slot.out.iter().enumerate().filter(|(_, version)| **version != 0) {
        say(format!("out {bucket}"), u16::from(*version));
    }
    let numbers = [
        ("lease", u16::from(slot.lease)),
        ("damaged", u16::from(slot.damaged)),
        ("day a", slot.day),
        ("books lost", slot.lost.count_ones() as u16),
        ("books late", slot.late.count_ones() as u16),
    ];
    for (key, value) in numbers.into_iter().filter(|(_, value)| *value != 0) {
        say(key.to_owned(), value);
    }
    let due = (0..BUCKETS).filter(|bucket| slot.due >> bucket & 1 == 1);
    all.extend(due.map(|bucket| (format!("todo {bucket}"), String::new())));
    all
}

fn fall(connection: &mut Connection, from: &str, to: &str) {
    redis::cmd("EVAL").arg(FALL).arg(0).arg(from).arg(to).exec(connection).unwrap();
}

fn play(connection: &mut Connection, event: Event, lease: u8) {
    match event {
        Event::Call(on_old, call, expected) => {
            let mut real = Real { connection, prefix: if on_old { "old" } else { "main" } };
            assert_eq!(real.call(call, lease), expected, "{call:?}");
        }
        Event::Save => fall(connection, "main", "saved"),
        Event::Restore => fall(connection, "saved", "main"),
        Event::FailOver => {
            fall(connection, "main", "old");
            fall(connection, "saved", "main");
        }
        Event::Heal => fall(connection, "nothing", "old"),
    }
}

#[test]
fn what_the_model_does_the_real_scripts_do() {
    let redis = Server::start(&NOTHING);
    let mut connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut steps = 0;
    for walk in 0..if long() { 400 } else { 40 } {
        for world in WORLDS {
            redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
            let rest = world.walk(seed.wrapping_add(walk), |before, action, events, after| {
                for event in events {
                    let on_old = matches!(event, Event::Call(true, ..));
                    let slot = before.old.as_ref().filter(|_| on_old).unwrap_or(&before.main);
                    play(&mut connection, *event, slot.lease);
                }
                for (prefix, slot) in [("main", Some(&after.main)), ("old", after.old.as_ref())] {
                    let found = Real { connection: &mut connection, prefix }.says();
                    let expected = slot.map(said).unwrap_or_default();
                    assert_eq!(found, expected, "{prefix} after {action:?} in {}", world.name);
                }
                steps += usize::from(!events.is_empty());
            });
            assert_eq!(world.wrong_at_rest(&rest), None, "{}", world.name);
        }
    }
    println!("{steps} steps");
    assert!(steps > 500);
}
