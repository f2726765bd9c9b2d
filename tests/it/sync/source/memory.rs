//! What reading a large table costs in memory.

use super::*;

/// Who reads in a process of its own is told so by this, with table and address.
const READS: &str = "TAPEDECK_TEST_READS";

/// This very test, run once more as a process that does nothing but read.
const NAME: &str = "sync::source::memory::a_million_rows_are_read_in_flat_memory";

#[test]
fn a_million_rows_are_read_in_flat_memory() {
    if let Ok(told) = std::env::var(READS) {
        let (table, url) = told.split_once(' ').unwrap();
        read_and_tell(table, url);
        return;
    }
    let Some(server) = Questdb::shared() else { return };
    let peak_of = |rows: u64| {
        let table = fresh_name("memory");
        let columns = "(x * 100000L)::timestamp ts, rnd_symbol('a', 'b', 'c') k, rnd_double() d, x v, rnd_varchar(10, 100, 1) note";
        run(
            server,
            &format!("CREATE TABLE {table} AS (SELECT {columns} FROM long_sequence({rows})) TIMESTAMP(ts) {DAYS}"),
        );
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", NAME, "--nocapture"]).env(READS, format!("{table} {}", server.dsn()));
        let out = String::from_utf8(child.output().unwrap().stdout).unwrap();
        let told = out.lines().find_map(|line| line.split("read and peaked: ").nth(1));
        let (read, peak_kb) = told.and_then(|told| told.split_once(' ')).unwrap_or_else(|| panic!("{out}"));
        assert_eq!(read.parse::<u64>().unwrap(), rows);
        peak_kb.parse::<u64>().unwrap()
    };
    let (few, many) = (peak_of(50_000), peak_of(1_000_000));
    assert!(many < 80 * 1024, "{many} kB");
    assert!(many < few + 8 * 1024, "{many} kB for a million rows, {few} kB for 50,000");
}

fn read_and_tell(table: &str, url: &str) {
    let mut asked = Asked::with(Config::new(url));
    let schema = asked.schema(table);
    let read = asked.runtime.block_on(async {
        let (out, mut from) = mpsc::channel(2);
        let wanted = Wanted { table, schema: &schema, span: Span::default(), limit: None };
        let take = async { while from.recv().await.is_some() {} };
        tokio::join!(asked.source.rows(&wanted, out), take).0.unwrap()
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("read and peaked: {read} {}", peak.trim().trim_end_matches(" kB"));
}
