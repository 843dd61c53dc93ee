//! Chooses the scheduler's locks and threads for the library, and its simulated storage.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cfg=forebay_models");
    println!("cargo::rustc-cfg=feature=\"sim\"");
    // The library's features are those of its own package.
    println!(
        "cargo::rustc-check-cfg=cfg(feature, values(\"metrics\", \"serde_json\", \"sim\", \"tokio\"))"
    );
}
