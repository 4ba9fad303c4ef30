//! `ninefold bench`: the shape of what it prints, and the kernel that computes.
mod support;

use serde_json::Value;
use support::{Ran, command, finish};

fn bench(kernel: Option<&str>, arguments: &[&str]) -> Ran {
    let mut command = command([&["bench", "--quick"], arguments].concat());
    match kernel {
        Some(kernel) => command.env("NINEFOLD_KERNEL", kernel),
        None => command.env_remove("NINEFOLD_KERNEL"),
    };
    finish(command.spawn().unwrap())
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|value| value > 0.0 && value.is_finite())
}

#[test]
fn every_figure_is_there_and_stands_beside_its_bound() {
    let ran = bench(None, &["--json"]).exits(0);
    let report = ran.json();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["kernel"], report["kernels"][0], "the fastest is chosen");
    assert!(report["kernels"].as_array().unwrap().contains(&"portable".into()));
    assert!(positive(&report["self_test_micros"]) && positive(&report["cold_bytes"]));
    for figure in ["read", "write", "copy", "products"] {
        assert!(positive(&report["bounds"][figure]), "{figure}");
    }
    for figure in ["crc32_hot", "crc32_cold", "blake3_hot", "blake3_cold"] {
        assert!(positive(&report["checksums"][figure]), "{figure}");
    }
    let codes = report["codes"].as_array().unwrap();
    assert!(
        codes.iter().any(|code| code["code"] == "rs:10+4") && codes.iter().any(|code| code["code"] == "lrc:12,2,2")
    );
    for code in codes {
        let has = |work: &str, lost: u64, shard_bytes: u64, place: &str| {
            code["rates"].as_array().unwrap().iter().any(|rate| {
                (&rate["work"], &rate["lost"], &rate["shard_bytes"], &rate["place"])
                    == (&work.into(), &lost.into(), &shard_bytes.into(), &place.into())
                    && positive(&rate["gb_per_s"])
                    && positive(&rate["share"])
                    && rate["bound"] == if place == "hot" { "products" } else { "memory" }
            })
        };
        for (shard_bytes, place) in [4096, 65_536, 1_048_576].into_iter().flat_map(|it| [(it, "hot"), (it, "cold")]) {
            assert!(has("encode", 0, shard_bytes, place), "{code}");
        }
        let plans = code["plans"].as_array().unwrap();
        assert_eq!(plans.len(), 2, "{code}");
        for plan in plans {
            let lost = plan["lost"].as_u64().unwrap();
            assert!(positive(&plan["micros"]), "{code}");
            assert!(has("rebuild", lost, 65_536, "hot") && has("rebuild", lost, 1_048_576, "cold"), "{code}");
        }
    }
    assert!(ran.stderr.contains("measuring rs:10+4"), "{}", ran.stderr);
}

#[test]
fn the_text_form_has_the_kernel_the_bounds_and_the_codes() {
    let ran = bench(None, &[]).exits(0);
    for words in [
        "kernel ",
        "portable",
        "memory     read",
        "products",
        "CRC-32",
        "BLAKE3",
        "rs:10+4\n",
        "rebuild 4",
        "plan: 1 lost",
    ] {
        assert!(ran.stdout.contains(words), "no \"{words}\" in {}", ran.stdout);
    }
}

#[test]
fn a_kernel_can_be_forced_and_an_unknown_one_lists_what_there_is() {
    let report = bench(Some("portable"), &["--json"]).exits(0).json();
    assert_eq!(report["kernel"], "portable");
    let ran = bench(Some("foo"), &["--json"]).exits(2).says(&["foo", "portable"]);
    assert_eq!(ran.stdout, "");
}
