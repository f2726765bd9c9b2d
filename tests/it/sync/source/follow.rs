//! A writer that never stops, and a source that looks all the while: in the end the copy is the table.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// Random numbers of a fixed seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Lines as a feed writes them: mostly new rows, some late ones, some that replace another one.
fn lines(table: &str, dice: &mut Dice, newest: &mut u64) -> String {
    let line = |_| {
        *newest += if dice.roll(4) > 0 { 1_000_000 * dice.roll(60) } else { 0 };
        let at = newest.saturating_sub(1_000_000 * dice.roll(100_000) * u64::from(dice.roll(10) == 0));
        format!("{table},k={} v={}i {}\n", dice.roll(3), dice.roll(1_000), at * 1_000)
    };
    (0..200).map(line).collect()
}

#[test]
fn nothing_is_lost_while_a_writer_goes_on() {
    let Some(server) = Questdb::private() else { return };
    let table = made(&server, "PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, k)");
    let done = AtomicBool::new(false);
    let mut followed = Followed::new(&server, &table);
    let mut by_log = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut dice, mut newest, since) = (Dice(7), 0, Instant::now());
            while since.elapsed() < Duration::from_secs(12) {
                assert_eq!(server.write(&lines(&table, &mut dice, &mut newest)).status, 204);
                if dice.roll(60) == 0 {
                    let sql = format!("UPDATE {table} SET v = {} WHERE k = '1'", dice.roll(1_000));
                    assert_eq!(server.exec(&sql).status, 200);
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            by_log += u64::from(followed.look().by == By::Log);
        }
    });
    applied(&server);
    followed.same();
    assert_eq!(followed.same().by, By::Gate);
    assert!(by_log > 10 && followed.copy.len() > 1_000, "{by_log} {}", followed.copy.len());
}

#[test]
fn nothing_is_lost_when_the_server_is_killed_under_both_again_and_again() {
    let Some(server) = Questdb::private() else { return };
    let table = made(&server, "PARTITION BY DAY WAL DEDUP UPSERT KEYS(ts, k)");
    let done = AtomicBool::new(false);
    let mut followed = Followed::new(&server, &table);
    let (mut looks, mut troubles) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut dice, mut newest) = (Dice(11), 0);
            for _ in 0..5 {
                let life = Duration::from_millis(500 + dice.roll(1_500));
                let since = Instant::now();
                while since.elapsed() < life {
                    assert_eq!(server.write(&lines(&table, &mut dice, &mut newest)).status, 204);
                }
                server.kill();
                server.restart();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            match followed.try_look() {
                Ok(_) => looks += 1,
                Err(trouble) => {
                    assert!(trouble.passes(), "{trouble}");
                    troubles += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    });
    applied(&server);
    followed.same();
    assert_eq!(followed.same().by, By::Gate);
    assert!(looks > 10 && troubles > 5 && followed.copy.len() > 1_000, "{looks} {troubles} {}", followed.copy.len());
}
