//! `ninefold code`: facts, pattern counts and matrices against values known from elsewhere.
mod support;

use serde_json::Value;
use support::run;

fn facts(spec: &str) -> Value {
    run(["code", spec, "--json"]).exits(0).json()
}

fn pattern(facts: &Value, erasures: usize) -> (u64, u64) {
    let pattern = &facts["patterns"][erasures - 1];
    assert_eq!(pattern["erasures"], erasures);
    (pattern["decodable"].as_u64().unwrap(), pattern["total"].as_u64().unwrap())
}

fn choose(n: u64, k: u64) -> u64 {
    (0..k).fold(1, |product, at| product * (n - at) / (at + 1))
}

#[test]
fn golden_facts() {
    // k, n, losses it surely survives, mean reads.
    for (spec, k, n, tolerance, reads) in [
        ("lrc:12,2,2", 12, 16, 3, 6.75),
        ("lrc:6,2,2", 6, 10, 3, 3.6),
        ("rs:10+4", 10, 14, 4, 10.0),
        ("rs:4+2@cauchy", 4, 6, 2, 4.0),
        ("replicate:3", 1, 3, 2, 1.0),
        ("xorbas", 10, 16, 4, 5.0),
        ("lrc-uniform:12,2,2", 12, 16, 3, 7.0),
        ("rs:8+3@jerasure", 8, 11, 3, 8.0),
    ] {
        let facts = facts(spec);
        assert_eq!((&facts["k"], &facts["n"]), (&k.into(), &n.into()), "{spec}");
        assert_eq!(facts["guaranteed_tolerance"], tolerance, "{spec}");
        assert_eq!(facts["overhead"], f64::from(n) / f64::from(k), "{spec}");
        assert!((facts["mean_repair_reads"].as_f64().unwrap() - reads).abs() < 1e-9, "{spec}: {facts}");
        assert_eq!(facts["patterns"].as_array().unwrap().len(), (n - k) as usize, "{spec}");
        for erasures in 1..=(n - k) as usize {
            let (decodable, total) = pattern(&facts, erasures);
            assert_eq!(total, choose(n as u64, erasures as u64), "{spec}, {erasures}");
            if erasures <= tolerance {
                assert_eq!(decodable, total, "{spec}, {erasures}");
            }
        }
    }
    assert_eq!(pattern(&facts("lrc:12,2,2"), 4), (1568, 1820));
    assert_eq!(pattern(&facts("lrc:6,2,2"), 4), (180, 210));
}

#[test]
fn vector_codes_are_described_and_never_used() {
    // Mean reads: (13 + 13 + ... + 14 halves of 4 and ... data, all of the parities) / 14; a fourth of 13 others; groups.
    for (spec, k, n, chunks, tolerance, reads) in [
        ("hitchhiker:10+4", 10, 14, 2, 4, (10.0 * 6.7 + 4.0 * 10.0) / 14.0),
        ("clay:10+4", 10, 14, 256, 4, 3.25),
        ("lrc:16,2,3@gf16", 16, 21, 2, 4, (18.0 * 8.0 + 3.0 * 16.0) / 21.0),
    ] {
        let facts = facts(spec);
        assert_eq!((&facts["k"], &facts["n"], &facts["sub_chunks"]), (&k.into(), &n.into(), &chunks.into()), "{spec}");
        assert_eq!(facts["guaranteed_tolerance"], tolerance, "{spec}");
        assert!((facts["mean_repair_reads"].as_f64().unwrap() - reads).abs() < 1e-9, "{facts}");
        for erasures in 1..=tolerance {
            let (decodable, total) = pattern(&facts, erasures);
            assert!(decodable == total && total == choose(n, erasures as u64), "{spec}");
        }
        run(["code", spec, "--matrix"]).exits(2).says(&["library alone"]);
    }
    run(["code", "clay:200+4"]).exits(2).says(&["clay:200+4"]);
}

#[test]
fn a_matrix_from_a_file_is_judged_and_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows");
    let spec = format!("matrix:{}", file.display());
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    // ISA-L's Vandermonde generator where it is not MDS.
    write("01010101010101 # P\n0102040810204 0\n01041040 1d74cd\n");
    let found = facts(&spec);
    assert_eq!((&found["k"], &found["n"], &found["guaranteed_tolerance"]), (&7.into(), &10.into(), &3.into()));
    assert!(found["guarantee"].as_str().unwrap().starts_with("MDS"), "{found}");
    // A group's coefficients used again in the other: 3 losses are not always survived.
    write("010101000000\n000000010101\n010101010101\n010405010405");
    let found = facts(&spec);
    assert_eq!((&found["guaranteed_tolerance"], &found["undecodable"]), (&2.into(), &serde_json::json!([0, 1, 2])));
    let ran = run(["code", &spec]).exits(0);
    assert!(ran.stdout.contains("the loss of [0, 1, 2]"), "{}", ran.stdout);
    let guarantee = found["guarantee"].as_str().unwrap();
    assert!(guarantee.starts_with("neither") && guarantee.contains("as far as 2,000,000 patterns tell"), "{found}");
    for (text, said) in [
        ("", "empty"),
        ("01\n0102", "line 2 has 2 coefficients"),
        ("01 zz", "hexadecimal"),
        ("0100\n0200", "in no parity"),
        ("0101\n0000", "parity row 1 is singular"),
    ] {
        write(text);
        run(["code", &spec]).exits(2).says(&[said]);
    }
    write(&"#".repeat(2 << 20));
    run(["code", &spec]).exits(2).says(&["no matrix"]);
    run(["code", "matrix:/nowhere/at/all"]).says(&["nowhere"]);
    write("0101");
    let (out, source) = (folder.path().join("out"), folder.path().join("source"));
    std::fs::write(&source, "bytes").unwrap();
    let arguments = ["encode", source.to_str().unwrap(), "--code", &spec, "--out", out.to_str().unwrap()];
    run(arguments).exits(2).says(&["a matrix is no name of a code"]);
}

#[test]
fn a_code_of_the_library_alone_is_described_and_never_used() {
    let facts = facts("wide:1000+200");
    assert_eq!((&facts["k"], &facts["n"], &facts["guaranteed_tolerance"]), (&1000.into(), &1200.into(), &200.into()));
    assert!(facts["guarantee"].as_str().unwrap().contains("for the library alone"), "{facts}");
    assert!(facts["kernel"].is_null() && facts["patterns"].as_array().unwrap().is_empty(), "{facts}");
    run(["code", "wide:1000+200"]).exits(0);
    run(["code", "wide:1000+200", "--matrix"]).exits(2).says(&["library alone"]);
    run(["code", "wide:40000+40000"]).exits(2).says(&["65536 + 40000", "at most 65536"]);
}

#[test]
fn a_large_code_is_sampled_and_says_so() {
    let facts = facts("rs:200+50");
    let patterns = facts["patterns"].as_array().unwrap();
    assert_eq!(patterns.len(), 50);
    assert_eq!((&patterns[0]["total"], &patterns[0]["method"]), (&250.into(), &"exact".into()));
    for pattern in patterns {
        assert_eq!(pattern["decodable"], pattern["total"]);
    }
}

#[test]
fn the_text_form_tells_the_same() {
    let ran = run(["code", "lrc:12,2,2"]).exits(0);
    for words in ["1568 of 1820", "survives any 3", "6.75"] {
        assert!(ran.stdout.contains(words), "{}", ran.stdout);
    }
}

#[test]
fn golden_matrices() {
    let golden: &[(&str, usize, &[&str])] = &[
        ("rs:6+3", 6, &["1b1c1214f5e8", "1c1b1412e8f5", "12141b1cc4d8"]),
        ("rs:4+2", 4, &["03020504", "02030405"]),
        ("rs:4+4@lch", 4, &["1b1c1214", "1c1b1412", "12141b1c", "14121c1b"]),
        ("rs:4+2@vandermonde", 4, &["1b1c1214", "1c1b1412"]),
        ("rs:4+2@cauchy", 4, &["47a77aba", "a747ba7a"]),
        ("rs:4+2@power", 4, &["01010101", "01020408"]),
        ("replicate:3", 1, &["01", "01"]),
        ("lrc:12,2,2", 12, &["010101010101000000000000", "000000000000010101010101", "01984e0a99d6022d9c142fb1"]),
    ];
    for (spec, k, parity) in golden {
        let ran = run(["code", spec, "--matrix"]).exits(0);
        let lines: Vec<&str> = ran.stdout.lines().collect();
        assert!(ran.stdout.ends_with('\n') && lines.iter().all(|line| line.len() == 2 * k), "{}", ran.stdout);
        for (row, line) in lines[..*k].iter().enumerate() {
            let unit: String = (0..*k).map(|column| if column == row { "01" } else { "00" }).collect();
            assert_eq!(*line, unit, "{spec}, data row {row}");
        }
        assert_eq!(lines[*k..*k + parity.len()], **parity, "{spec}");
    }
    assert_eq!(run(["code", "lrc:12,2,2", "--matrix"]).stdout.lines().count(), 16);
}

#[test]
fn every_spelling_of_the_default_is_the_same_code() {
    let text = |spec| run(["code", spec, "--matrix"]).exits(0).stdout;
    assert_eq!(text("rs:10+4"), text("rs:10+4@lch"));
    assert_eq!(run(["code", "rs:10+4", "--json", "--matrix"]).code, 2);
}
