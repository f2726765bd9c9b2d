//! Four tables as the predecessor had them, of a fixed seed, an eighth of the prices bad on purpose.

use std::fmt::Write as _;

use super::Rig;

pub(super) const STOCKS: u64 = 32_120;
pub(super) const INSIGHTS: u64 = 5_000;
pub(super) const CORRELATIONS: u64 = 2_000;
pub(super) const VALUATIONS: u64 = 1_000;
pub(super) const ALL: u64 = STOCKS + INSIGHTS + CORRELATIONS + VALUATIONS;

pub(super) const TABLES: &str = r#"
[sync.table.wig80_historical]
preset = "wig80_historical"
[sync.table.ai_insights]
preset = "ai_insights"
[sync.table.market_correlations]
preset = "market_correlations"
[sync.table.valuation_analysis]
preset = "valuation_analysis"
"#;

const DAY_NS: u64 = 86_400_000_000_000;
/// 2024-01-01.
const BEGIN_NS: u64 = 1_704_067_200_000_000_000;
const SYMBOLS: u64 = 88;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Makes and fills the tables. Returns how many rows of prices are bad.
pub(super) fn fill(rig: &Rig) -> u64 {
    let rest = "TIMESTAMP(ts) PARTITION BY MONTH WAL DEDUP UPSERT KEYS(ts, ";
    rig.run(&format!(
        "CREATE TABLE wig80_historical (ts TIMESTAMP, symbol SYMBOL, open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, \
         volume LONG, macd DOUBLE, rsi DOUBLE, bb_upper DOUBLE, bb_lower DOUBLE) {rest}symbol)"
    ));
    rig.run(&format!(
        "CREATE TABLE ai_insights (ts TIMESTAMP, symbol SYMBOL, insight_type SYMBOL, result STRING, confidence DOUBLE) \
         {rest}symbol, insight_type)"
    ));
    rig.run(&format!(
        "CREATE TABLE market_correlations (ts TIMESTAMP, symbol_a SYMBOL, symbol_b SYMBOL, correlation DOUBLE, \
         strength STRING) {rest}symbol_a, symbol_b)"
    ));
    rig.run(&format!(
        "CREATE TABLE valuation_analysis (ts TIMESTAMP, symbol SYMBOL, pe_ratio DOUBLE, pb_ratio DOUBLE, \
         historical_pe_avg DOUBLE, historical_pb_avg DOUBLE, overvaluation_score DOUBLE) {rest}symbol)"
    ));
    let mut dice = Dice(1);
    let (mut lines, mut bad) = (String::new(), 0);
    for n in 0..STOCKS {
        let (symbol, ts) = (n % SYMBOLS, BEGIN_NS + n / SYMBOLS * DAY_NS);
        let low = 1_000 + dice.below(90_000);
        let (open, close) = (low + dice.below(500), low + dice.below(500));
        let high = open.max(close) + dice.below(300);
        let cents = |n: u64| format!("{}.{:02}", n / 100, n % 100);
        let [mut open, mut high, mut low, mut close] =
            [("open", open), (",high", high), (",low", low), (",close", close)]
                .map(|(name, n)| format!("{name}={}", cents(n)));
        let mut volume = format!(",volume={}i", dice.below(1_000_000));
        // 12.8 %, each kind of wrong in turn.
        if dice.below(1_000) < 128 {
            match bad % 6 {
                0 => open = "open=0".to_owned(),
                1 => high = ",high=0.01".to_owned(),
                2 => low = ",low=99999".to_owned(),
                3 => close.clear(),
                4 => volume = ",volume=-1i".to_owned(),
                _ => volume.clear(),
            }
            bad += 1;
        }
        let rsi = dice.below(100);
        let _ = writeln!(lines, "wig80_historical,symbol=S{symbol:02} {open}{high}{low}{close}{volume},rsi={rsi} {ts}");
    }
    let mut each = |count: u64, line: &mut dyn FnMut(&mut Dice, u64, u64) -> String| {
        for n in 0..count {
            let (symbol, ts) = (n % SYMBOLS, BEGIN_NS + n / SYMBOLS * DAY_NS);
            let _ = writeln!(lines, "{} {ts}", line(&mut dice, n, symbol));
        }
    };
    each(INSIGHTS, &mut |dice, n, symbol| {
        let result = format!("{{\\\"signal\\\":\\\"hold\\\",\\\"n\\\":{n}}}");
        format!(
            "ai_insights,symbol=S{symbol:02},insight_type=trend result=\"{result}\",confidence=0.{:02}",
            dice.below(100)
        )
    });
    each(CORRELATIONS, &mut |dice, _, symbol| {
        let other = (symbol + 1) % SYMBOLS;
        let correlation = dice.below(1_000);
        format!(
            "market_correlations,symbol_a=S{symbol:02},symbol_b=S{other:02} correlation=0.{correlation:03},strength=\"weak\""
        )
    });
    each(VALUATIONS, &mut |dice, _, symbol| {
        let (ratio, score) = (dice.below(40), dice.below(100));
        format!("valuation_analysis,symbol=S{symbol:02} pe_ratio={ratio}.5,overvaluation_score=0.{score:02}")
    });
    rig.write(&lines);
    bad
}
