# Everyday commands. `just` alone lists them.

_default:
    @just --list

# run the tests: all, or those whose name contains one of the words
test *words:
    cargo test --workspace -- {{ words }}

# run the integration tests of one subject, for example `just subject docs`
subject name:
    cargo test -p forebay --test it -- {{ name }}::

# simulate power cuts, more than in `just test`: `just sim 1000`; from a seed on: `just sim 1 4711`
sim seeds="1000" seed="1":
    FOREBAY_SIM_SEEDS={{ seeds }} FOREBAY_SIM_SEED={{ seed }} \
        cargo test -p forebay --test it -- crash:: --nocapture

# run random lives of a buffer with faults, stops and damage: `just lives SECONDS [SEED]`
lives seconds="600" seed="1":
    FOREBAY_LIVES_SECONDS={{ seconds }} FOREBAY_LIVES_SEED={{ seed }} \
        cargo test -p forebay --test it -- lives::nothing_promised_is_lost --nocapture \
        --include-ignored

# check alert rules and dashboard with a real Prometheus, where it is installed
monitoring:
    scripts/monitoring

# damage a buffer in two places at once, more often than in `just test`
damage seeds="1000000" seed="1":
    FOREBAY_DAMAGE_SEEDS={{ seeds }} FOREBAY_DAMAGE_SEED={{ seed }} \
        cargo test -p forebay --test it -- damage::pairs --nocapture

# replace delimiters and roots, and compare verify with reading, more often than in `just test`
delimiters seeds="100000" seed="1":
    FOREBAY_DELIMITERS_SEEDS={{ seeds }} FOREBAY_DELIMITERS_SEED={{ seed }} \
        cargo test -p forebay --test it -- damage::delimiters --nocapture

# fuzz one of scanner, ledger, directory, calls for some seconds (needs cargo-fuzz)
fuzz target seconds="600":
    cd fuzz && cargo run -q --example seeds
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir . {{ target }} -- \
        -max_total_time={{ seconds }} -max_len=65536

# the concurrency models with more schedules each: `just models 5000 closing`
models schedules="5000" *words="":
    FOREBAY_MODEL_SCHEDULES={{ schedules }} cargo test -p forebay-models -- {{ words }}

# micro-benchmarks of the format and of acknowledging
micro *words:
    cargo bench -p forebay-bench --bench micro -- {{ words }}

# instructions of the hot paths, against scripts/instructions.txt (needs valgrind); or `--update` it
instructions *flags:
    scripts/instructions {{ flags }}

# SIGKILL real producers and consumers, each this many times
kill rounds="1000":
    FOREBAY_ROUNDS={{ rounds }} cargo test -p forebay-cli --test it -- kill:: --nocapture

# fill up a real disk under processes that are killed (root, loop devices)
full-disk rounds="40":
    FOREBAY_ROUNDS={{ rounds }} cargo test -p forebay-cli --test disks -- \
        --ignored --nocapture full_disk::

# cut the power of a disk under a real file system (root, loop devices, FUSE)
power-cut rounds="100":
    FOREBAY_ROUNDS={{ rounds }} cargo test -p forebay-cli --test disks -- \
        --ignored --nocapture --test-threads 1 power_cut::

# mixed load for some seconds, watching memory, open files, disk and every record
soak seconds="600":
    FOREBAY_SOAK_SECONDS={{ seconds }} cargo test -p forebay --test soak -- --nocapture

# data races, by the thread sanitizer (a nightly toolchain with rust-src, x86-64 Linux)
tsan *words="stress:: background_sync:: acks:: wakeups:: tokio_edge:: limits::a_full limits::disk":
    RUSTFLAGS="-Zsanitizer=thread" cargo +nightly test -Zbuild-std \
        --target x86_64-unknown-linux-gnu --target-dir target/tsan \
        -p forebay --test it -- {{ words }}

# format the sources
fmt:
    cargo fmt --all

# clippy on all targets and features, and without any; a warning is an error
lint:
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    cargo clippy -p forebay --no-default-features -- -D warnings

# build the documentation; a warning is an error
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# licences, advisories and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny check

# measure this machine and the buffer on it, and renew docs/performance.md
performance dir="target":
    scripts/performance {{ dir }}

# measure forebay beside its peers and renew docs/peers.md (needs g++, libclang)
peers *options:
    cargo run --release --manifest-path bench/Cargo.toml -- {{ options }}

# compile for other targets; or test one: `just targets test i686-unknown-linux-gnu --lib`
targets *arguments:
    scripts/targets {{ arguments }}

# make the library's package, and run the tests that come with it
package:
    scripts/package

# everything a change has to pass
ci:
    bash .ci/run
