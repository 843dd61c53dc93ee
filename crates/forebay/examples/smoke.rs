use std::time::Instant;
fn main() {
    let n: u64 = std::env::args()
        .nth(1)
        .map_or(1_000_000, |s| s.parse().unwrap());
    let len: usize = std::env::args().nth(2).map_or(256, |s| s.parse().unwrap());
    let payload = vec![7u8; len];
    for round in 0..3 {
        let dir = std::env::temp_dir().join(format!("smoke-{}-{round}", std::process::id()));
        let (w, mut r) = forebay::open(forebay::Config::new(&dir).max_size(8 << 30)).unwrap();
        let t = Instant::now();
        for _ in 0..n {
            w.append(&payload).unwrap();
        }
        let ta = t.elapsed();
        w.append(b"x").unwrap().wait_written().unwrap();
        let tw = t.elapsed();
        w.flush().unwrap();
        println!(
            "append {:.2} M/s written {:.2} synced {:.2}",
            n as f64 / ta.as_secs_f64() / 1e6,
            n as f64 / tw.as_secs_f64() / 1e6,
            n as f64 / t.elapsed().as_secs_f64() / 1e6
        );
        let t = Instant::now();
        let mut got = 0u64;
        while got < n {
            let b = r.next_batch(1000, 1 << 20).unwrap().unwrap();
            got += b.len() as u64;
            b.ack();
        }
        println!(
            "read batch {:.2} M/s",
            n as f64 / t.elapsed().as_secs_f64() / 1e6
        );
        println!("{:?}", w.usage());
        drop(r);
        w.close().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        // both at once
        let (w, mut r) = forebay::open(forebay::Config::new(&dir).max_size(8 << 30)).unwrap();
        let t = Instant::now();
        let p2 = payload.clone();
        let h = std::thread::spawn(move || {
            for _ in 0..n {
                w.append(&p2).unwrap();
            }
            w.close().unwrap();
        });
        let mut got = 0u64;
        while let Some(b) = r.next_batch(1000, 1 << 20).unwrap() {
            got += b.len() as u64;
            b.ack();
        }
        println!(
            "both {:.2} M/s {got} writes {}",
            n as f64 / t.elapsed().as_secs_f64() / 1e6,
            r.usage().writes
        );
        h.join().unwrap();
        r.close().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let (w, mut r) = forebay::open(forebay::Config::new(&dir).max_size(8 << 30)).unwrap();
        let t = Instant::now();
        for _ in 0..2000 {
            w.append(&payload).unwrap().wait_synced().unwrap();
        }
        println!("synced x1 {:.0}/s", 2000.0 / t.elapsed().as_secs_f64());
        let t = Instant::now();
        std::thread::scope(|s| {
            for _ in 0..16 {
                let w = w.clone();
                let p = &payload;
                s.spawn(move || {
                    for _ in 0..2000 {
                        w.append(p).unwrap().wait_synced().unwrap();
                    }
                });
            }
        });
        println!("synced x16 {:.0}/s", 32000.0 / t.elapsed().as_secs_f64());
        let t = Instant::now();
        let mut got = 0;
        while got < 34000 {
            match r.next().unwrap().unwrap() {
                forebay::Item::Record(d) => {
                    got += 1;
                    d.ack()
                }
                _ => panic!(),
            }
        }
        println!(
            "read single {:.2} M/s",
            got as f64 / t.elapsed().as_secs_f64() / 1e6
        );
        drop((w, r));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
