//! Requests that arrive, and answers that do not.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Rig;
use super::follow::{TABLE, make};
use crate::sync::target::Subscriber;

/// A way to a server on which answers to some batches are lost: the server has done what was asked.
struct Way {
    url: String,
    lost: Arc<AtomicUsize>,
}

impl Way {
    /// Loses the answer of every third batch.
    fn to(port: u16) -> Way {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", door.local_addr().unwrap());
        let (batches, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&lost);
        std::thread::spawn(move || {
            for stream in door.incoming() {
                let (from, Ok(to)) = (stream.unwrap(), TcpStream::connect(("127.0.0.1", port))) else { continue };
                pass(from, to, &batches, &counted);
            }
        });
        Way { url, lost }
    }
}

fn pass(from: TcpStream, to: TcpStream, batches: &Arc<AtomicUsize>, lost: &Arc<AtomicUsize>) {
    let loses = Arc::new(AtomicBool::new(false));
    let (mut client, mut server) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let (flag, batches) = (Arc::clone(&loses), Arc::clone(batches));
    std::thread::spawn(move || {
        let mut bytes = [0; 64 << 10];
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            if bytes[..count].starts_with(b"POST /api/batch")
                && (batches.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(3)
            {
                flag.store(true, Ordering::SeqCst);
            }
            if server.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    });
    let (mut client, mut server, lost) = (from, to, Arc::clone(lost));
    std::thread::spawn(move || {
        let mut bytes = [0; 64 << 10];
        while let Ok(count @ 1..) = server.read(&mut bytes) {
            if loses.load(Ordering::SeqCst) {
                lost.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if client.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

#[test]
fn each_record_is_one_event_and_no_dead_letter_although_answers_are_lost() {
    let Some(rig) = Rig::new(TABLE) else { return };
    make(&rig);
    let way = Way::to(rig.pocket.port());
    let line = |n: u64| format!("prices,symbol=S{n} price={n}.5 {}\n", 1_767_312_000_000_000_000 + n * 1_000);
    rig.write(&(0..1_500).map(line).collect::<String>());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut subscriber = runtime.block_on(Subscriber::of(&rig.pocket, "prices"));
    let url = format!("sync.target.url={}", way.url);
    let said = rig.json(&["run", "--set", &url, "--set", "sync.retries=50"]);
    assert!(way.lost.load(Ordering::SeqCst) >= 2, "answers were lost");
    let prices = &said["collections"]["prices"];
    assert_eq!((&prices["synced"], &prices["failed"]), (&1_500.into(), &0.into()), "{said}");
    let ids: Vec<String> = (0..2).flat_map(|page| ids(&rig, page + 1)).collect();
    assert_eq!(ids.len(), 1_500);
    let seen = runtime.block_on(subscriber.until(ids));
    let twice: Vec<_> = seen.iter().filter(|(_, actions)| **actions != ["create"]).collect();
    assert!(twice.is_empty(), "{} of {}: {:?}", twice.len(), seen.len(), twice.first());
    rig.sync(&["verify", "--set", &url]);
}

fn ids(rig: &Rig, page: u32) -> Vec<String> {
    let path = format!("/api/collections/prices/records?perPage=1000&skipTotal=1&fields=id&sort=id&page={page}");
    let found = rig.pocket.call("GET", &path, &serde_json::Value::Null);
    found["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}
