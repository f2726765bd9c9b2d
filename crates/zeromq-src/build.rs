//! Hands on where libsodium lies: cargo tells it only to the build scripts of those who depend on it directly.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["DEP_SODIUM_LIB", "DEP_SODIUM_INCLUDE"] {
        println!("cargo:rerun-if-env-changed={name}");
        let value = std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: libsodium-sys-stable sets it"));
        println!("cargo:rustc-env={name}={value}");
    }
}
