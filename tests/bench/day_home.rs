//! How long the backlog of a day takes to go home: a whole agent, its defaults, TLS on loopback.
//!
//! `cargo bench --bench day_home [-- SERIES HOURS [VERSION]]`: 1,000 series scraped every 15 s for 24 hours, 5.8 million samples with the synthetic ones; VERSION 1
//! for remote write 1.0. A ring file is written as an agent would have written it in an outage; then `tidegate run` is started with it, the defaults of every key
//! that matters here, and a receiver that checks TLS, decompresses and counts. Prints when the first request was answered (after a start
//! an agent waits for a random time of up to 11.5 s before a backlog), when the last one, and the processor time that the agent took: on a busy machine
//! the second is what compares.

#[path = "../common/mod.rs"]
mod common;

use common::TempDir;
use common::agent::Agent;
use common::receiver::{Authority, Receiver};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use tidegate::catalogue::{Catalogue, SeriesText};
use tidegate::clock::UnixMillis;
use tidegate::frame::{Frame, ScrapeCounts};
use tidegate::host::config::{Config, Sizes};
use tidegate::host::medium::{Medium, Naming, Shape};
use tidegate::sample::{MetricType, Number, Sample, SeriesRef, TargetRef};
use tidegate::wal::{Boot, ClockSource, RemoteConfig, Ring, RingConfig, WhenFull};

const INTERVAL_MS: u64 = 15_000;
/// `up` and its kin.
const SYNTHETIC: usize = 5;

fn main() {
    // `cargo bench` adds `--bench`.
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let argument = |place: usize, default: u64| arguments.get(place).copied().unwrap_or(default);
    let (series, hours) = (argument(0, 1_000) as usize, argument(1, 24));
    let scrapes = hours * 3_600_000 / INTERVAL_MS;
    let message = if argument(2, 2) == 1 {
        "prometheus.WriteRequest"
    } else {
        "io.prometheus.write.v2.Request"
    };
    let authority = Authority::new();
    let receiver = Receiver::counting(Some(&authority));
    let directory = TempDir::new();
    let configuration = configure(directory.path(), &authority, &receiver, message);
    write_ring(&configuration, series, scrapes);
    let samples = scrapes as usize * (series + SYNTHETIC);

    let start = Instant::now();
    let agent = Agent::start(&configuration);
    let arrived =
        |receiver: &Receiver| receiver.arrived(|arrived| arrived.taken.iter().map(|(_, count)| count).sum::<usize>());
    common::wait_for("the day at the receiver", Duration::from_secs(600), || {
        arrived(&receiver) >= samples
    });
    let cpu = cpu_ms(agent.id());
    let taken = receiver.arrived(|arrived| arrived.taken.clone());
    agent.kill();
    let mut sum = 0;
    let last = taken.iter().find(|(_, count)| {
        sum += count;
        sum >= samples
    });
    let (first, last) = (taken.first().expect("sent").0, last.expect("all").0);
    let after = |at: Instant| at.duration_since(start).as_secs_f64();
    println!(
        "{series} series, {hours} hours, {scrapes} scrapes: {samples} samples, {} requests",
        taken.len()
    );
    println!(
        "first answer {:.1} s after the start, then all home in {:.1} s",
        after(first),
        last.duration_since(first).as_secs_f64()
    );
    println!(
        "processor time of the agent: {:.1} s, {:.0} ns per sample",
        cpu as f64 / 1e3,
        cpu as f64 * 1e6 / samples as f64
    );
}

fn configure(directory: &Path, authority: &Authority, receiver: &Receiver, message: &str) -> std::path::PathBuf {
    let ca = directory.join("ca.pem");
    std::fs::write(&ca, &authority.ca_pem).expect("written");
    let ring = directory.join("ring");
    let text = format!(
        "global: {{scrape_interval: 15s}}\nscrape_configs:\n- job_name: box\n  static_configs: [{{targets: ['127.0.0.1:9']}}]\n\
         remote_write:\n- url: https://{}/api/v1/write\n  protobuf_message: {message}\n  tls_config: {{ca_file: {}}}\n\
         tidegate:\n  listen_address: ''\n  ring: {{path: {}}}\n  clock: {{trust: always}}\n",
        receiver.address(),
        ca.display(),
        ring.display()
    );
    let path = directory.join("tidegate.yml");
    std::fs::write(&path, text).expect("written");
    path
}

/// What an agent has on its medium that scraped up to now and reached nobody.
fn write_ring(configuration: &Path, series: usize, scrapes: u64) {
    let config = Config::load(&configuration.to_string_lossy())
        .expect("a valid configuration")
        .config;
    let sizes = Sizes::of(&config, &config.expand().expect("static targets"));
    let keys = &config.tidegate.ring;
    let shape = Shape {
        ring_bytes: keys.size.bytes,
        segment_bytes: keys.segment_size.bytes as u32,
        block_bytes: keys.block_size.bytes as u32,
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis() as i64;
    let begun = now - (scrapes * INTERVAL_MS) as i64;
    let naming = Naming {
        uuid: *b"a day of samples",
        created_ms: begun,
        label: "day_home",
    };
    let medium = Medium::create(Path::new(&keys.path), &shape, &naming).expect("a new file");
    let ring_config = RingConfig {
        block_bytes: shape.block_bytes,
        segment_bytes: shape.segment_bytes,
        ring_bytes: shape.ring_bytes,
        codec: sizes.codec,
        commit_interval_ms: 60_000,
        staging_blocks: sizes.staging_blocks,
        max_series: sizes.max_series,
        max_frame_samples: sizes.frame_samples,
        extras_bytes: 0,
        text_bytes: sizes.text_bytes,
        remotes: [RemoteConfig {
            id: 1,
            best_effort: false,
        }]
        .into_iter()
        .collect(),
        when_full: WhenFull::DropOldest,
        config_crc: 1,
        compress: None,
    };
    let boot = Boot {
        id: [7; 16],
        now: tidegate::clock::Instant(0),
        wall: Some((UnixMillis(begun), ClockSource::Synchronised)),
        error_ms: 5,
    };
    let mut catalogue = Catalogue::new(sizes.max_series, sizes.text_bytes, sizes.max_targets);
    let (mut ring, _) = Ring::mount(medium, ring_config, boot, &mut catalogue).expect("a new ring");
    catalogue
        .set_target(TargetRef(0), r#"instance="192.168.10.20:9100",job="box""#)
        .expect("room");
    for number in 0..series {
        let (name, body) = (
            format!("metric_{}_total", number / 8),
            format!("part=\"{}\"", number % 8),
        );
        let text = SeriesText {
            name: &name,
            body: &body,
        };
        catalogue.define(TargetRef(0), text, MetricType::Counter).expect("room");
    }
    let mut frame = Frame::with_capacity(series);
    let mut random = fastrand::Rng::with_seed(1);
    let mut values = vec![0_i64; series];
    for scrape in 0..scrapes {
        let time = scrape * INTERVAL_MS;
        frame.reset(TargetRef(0), time);
        frame.up = true;
        frame.duration_100us = 50;
        frame.counts = ScrapeCounts {
            scraped: series as u32,
            post_relabel: series as u32,
            added: 0,
        };
        for (number, value) in values.iter_mut().enumerate() {
            // As in the captures two of three do not move.
            *value += if number % 3 == 0 { random.i64(0..1_000) } else { 0 };
            let sample = Sample {
                number: Number::decimal(*value, 0),
                series: SeriesRef(number as u16),
            };
            frame.samples.push(sample).expect("room");
        }
        while ring.append(&frame, &mut catalogue).is_err() {
            ring.commit(&mut catalogue).expect("a file takes writes");
        }
    }
    ring.close(&mut catalogue).expect("a file takes writes");
}

/// User and system time of a process, milliseconds.
fn cpu_ms(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let behind = stat.rsplit_once(')').expect("a name in brackets").1;
    let ticks: u64 = behind
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().expect("ticks"))
        .sum();
    // USER_HZ is 100 on every Linux.
    ticks * 10
}
