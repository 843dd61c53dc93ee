//! Writes what fuzzing begins with to `corpus/`: the small vectors of the bodies,
//! and the golden buffers of the library's tests. Run in `fuzz/`.

use std::path::Path;
use std::{fs, io};

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
    let buffers = fs::read_dir("../crates/forebay/tests/golden")?;
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
