//! Writes what fuzzing begins with to `corpus/`: the small vectors of the bodies,
//! and buffers written by the existing implementation of the format where there
//! are any (in `../shared/golden` beside the repository, or where `FOREBAY_GOLDEN`
//! says). Run in `fuzz/`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

#[path = "../crates/forebay/tests/it/fuzz/bodies.rs"]
#[allow(dead_code, reason = "only the seeds are needed")]
mod bodies;

/// Longer files make slow inputs.
const LEN_MAX: usize = 16 << 10;

fn put(target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let dir = Path::new("corpus").join(target);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), bytes)
}

fn main() -> io::Result<()> {
    for (n, (target, bytes)) in bodies::seeds().into_iter().enumerate() {
        put(target, &format!("vector-{n}"), &bytes)?;
    }
    let golden = env::var_os("FOREBAY_GOLDEN").map(PathBuf::from);
    let golden = golden.unwrap_or_else(|| PathBuf::from("../../shared/golden"));
    let Ok(buffers) = fs::read_dir(&golden) else {
        println!("skipped: no golden buffers in {}", golden.display());
        return Ok(());
    };
    for buffer in buffers {
        let buffer = buffer?.path();
        if !buffer.is_dir() {
            continue;
        }
        let name = buffer
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (mut directory, mut files) = (Vec::new(), 0u8);
        for file in fs::read_dir(&buffer)? {
            let file = file?.path();
            let what = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let bytes = fs::read(&file)?;
            if bytes.len() > LEN_MAX {
                continue;
            }
            if what == "buffer.db" {
                put("ledger", &name, &bytes)?;
                directory.extend(bodies::entry(bodies::FILE_IDS.len() as u8, &bytes));
            } else if what.ends_with(".dat") {
                put("scanner", &format!("{name}-{what}"), &bytes)?;
                directory.extend(bodies::entry(files, &bytes));
                files += 1;
            }
        }
        put("directory", &name, &directory)?;
    }
    Ok(())
}
