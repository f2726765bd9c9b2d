//! The texts every parsing bench reads, ours and the peers': one ticker and one trade as Kraken sends them.

pub const TICKER: &str = r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":64528.0,"bid_qty":4.46783504,"ask":64528.1,"ask_qty":0.01177486,"last":64528.1,"volume":1920.80714532,"vwap":64389.92134,"low":63513.9,"high":65219.9,"change":250.1,"change_pct":0.39,"timestamp":"2026-07-19T17:55:03.207891Z"}]}"#;
pub const TRADE: &str = r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":64528.1,"qty":0.00123440,"ord_type":"limit","trade_id":100320028,"timestamp":"2026-07-19T17:55:03.207891Z"}]}"#;
