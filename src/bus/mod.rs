//! The bus: what is on the tape, published over ZeroMQ.

#[cfg(test)]
mod tests {
    /// The crate `zmq-sys` by itself would build 4.3.4 without CURVE: `crates/zeromq-src` is there to prevent it.
    #[test]
    fn libzmq_is_the_one_we_build_and_has_curve() {
        assert_eq!(zmq::version(), (4, 3, 5));
        assert_eq!(zmq::has("curve"), Some(true));
        let pair = zmq::CurveKeyPair::new().unwrap();
        assert_ne!(pair.public_key, pair.secret_key);
    }
}
