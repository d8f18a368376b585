//! Documents from text: what strict YAML and JSON are, and that nothing hostile is expensive.

use std::{fmt::Write as _, time::Instant};

use eventflow_domain::error::{Fault, Place};
use eventflow_dsl::{
    DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX, TextFaultKind, compile, digest, is_json, locate, parse,
    parse_json, parse_yaml, utf8,
};

fn yaml(text: &str) -> String {
    parse_yaml(text)
        .unwrap_or_else(|fault| panic!("{fault}\n{text}"))
        .as_str()
        .to_owned()
}

#[test]
fn yaml_is_read_as_json() {
    assert_eq!(
        yaml("a: [1, 2.5, text, null, ~, true]\nb: {c: 'd'}\n"),
        r#"{"a":[1,2.5,"text",null,null,true],"b":{"c":"d"}}"#
    );
    assert_eq!(
        yaml("a: |\n  two\n  lines\nb: >\n  one\n  line\n"),
        r#"{"a":"two\nlines\n","b":"one line\n"}"#
    );
    assert_eq!(
        yaml("# only a comment\na: 1 # and one more\n"),
        r#"{"a":1}"#
    );
}

#[test]
fn only_true_and_false_are_booleans() {
    assert_eq!(
        yaml("a: yes\nb: no\nc: on\nd: off\ne: y\nf: true\ng: False\n"),
        r#"{"a":"yes","b":"no","c":"on","d":"off","e":"y","f":true,"g":false}"#
    );
}

#[test]
fn versions_dates_and_grouped_digits_stay_text() {
    assert_eq!(
        yaml("a: 1.0.3\nb: 2024-07-26\nc: 1_000\n"),
        r#"{"a":"1.0.3","b":"2024-07-26","c":"1_000"}"#
    );
}

#[test]
fn the_same_document_has_the_same_digest_however_it_is_spelt() {
    let yaml = parse("a: 1\nb: {c: [x, 1.5], d: \"é\"}\n").unwrap();
    let json =
        parse("\u{feff} {\"b\": {\"d\": \"\\u00e9\", \"c\": [\"x\", 1.50]}, \"a\": 1.0}").unwrap();
    assert_eq!(digest(&yaml), digest(&json));
    assert_ne!(digest(&yaml), digest(&parse("a: 2\n").unwrap()));
    // RFC 8785: keys sorted, no spaces.
    let known =
        eventflow_domain::Digest::of(br#"{"a":1,"b":{"c":["x",1.5],"d":"\u{e9}"}}"#.as_slice());
    assert_ne!(digest(&yaml), known, "an escape is no canonical spelling");
    let known =
        eventflow_domain::Digest::of("{\"a\":1,\"b\":{\"c\":[\"x\",1.5],\"d\":\"é\"}}".as_bytes());
    assert_eq!(digest(&yaml), known);
}

#[test]
fn anchors_aliases_and_merge_keys_are_replaced() {
    assert_eq!(
        yaml("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n"),
        r#"{"a":{"k":1},"b":{"k":1},"c":{"l":2,"k":1}}"#
    );
}

#[test]
fn what_is_not_strict_is_refused_with_its_place() {
    for (text, line, says) in [
        ("a: 1\na: 2\n", 2, "`a` stands twice"),
        ("a: 1\n---\nb: 2\n", 2, "one document"),
        ("a: !!binary aGk=\nb: !custom x\n", 2, "tag"),
        ("a: [1, 2\n", 1, "unclosed"),
        ("a: b\n  c: d\n", 2, ""),
        ("a: .nan\n", 1, ""),
        ("a: *unknown\n", 1, ""),
        ("a: 9007199254740993\n", 1, "string"),
    ] {
        let fault = parse_yaml(text).expect_err(text);
        assert_eq!(fault.place.line, line, "{text}: {fault}");
        assert!(
            fault.detail.to_lowercase().contains(says),
            "{text}: {fault}"
        );
        assert!(!fault.detail.contains('\n'), "{fault}");
    }
    for text in [
        "{\"a\": 1, \"a\": 2}",
        "{a: 1}",
        "[1,]",
        "{\"a\": 01}",
        "{\"a\": 1} x",
        "{\"a\": \"\u{1}\"}",
        "{",
    ] {
        parse(text).expect_err(text);
    }
}

#[test]
fn every_fault_has_its_kind_and_its_place_in_both_spellings() {
    use TextFaultKind::{Malformed, TooLarge, Unsound};
    let deep = "[".repeat(400_000) + &"]".repeat(400_000);
    let large = " ".repeat(DOCUMENT_BYTES_MAX + 1);
    let read = |json| if json { parse_json } else { parse_yaml };
    for (json, text, kind, line, column, says) in [
        (true, "{\n \"a\": ]\n}", Malformed, 2, 7, "expected value"),
        (
            true,
            "{\"a\": 1,\n \"a\": 2}",
            Malformed,
            2,
            4,
            "`a` stands twice",
        ),
        (true, "{\"a\":\n 1e400}", Malformed, 2, 6, "number"),
        (true, "{} {}", Malformed, 1, 4, "trailing"),
        (true, "", Malformed, 1, 1, "EOF"),
        (true, "\u{feff}{\n]", Malformed, 2, 1, "key"),
        (true, "[\n9007199254740993]", Unsound, 2, 16, "string"),
        (true, &*deep, Unsound, 1, 65, "more than 64 deep"),
        (true, &*large, TooLarge, 1, 1, "1048576 bytes"),
        (false, "a:\n  b: [1, 2\n  c: }\n", Malformed, 3, 4, ""),
        (false, "a: 1\n b: 2\n", Malformed, 2, 3, ""),
        (false, "a: 1\na: 2\n", Malformed, 2, 1, "`a` stands twice"),
        (
            false,
            "\u{feff}a: 1\r\na: 2\r\n",
            Malformed,
            2,
            1,
            "`a` stands twice",
        ),
        (false, "a: 1\n---\nb: 2\n", Malformed, 2, 1, "one document"),
        (false, "x: 1\na: .inf\n", Malformed, 2, 4, "inf"),
        (false, "a: *nowhere\n", Malformed, 1, 4, "anchor"),
        (
            false,
            "b: 1\na: 9007199254740993\n",
            Unsound,
            2,
            4,
            "string",
        ),
        (false, &*deep, Unsound, 1, 65, "more than 64 deep"),
        (
            false,
            &*"- ".repeat(500_000),
            Unsound,
            1,
            129,
            "more than 64 deep",
        ),
        (
            false,
            &*"? ".repeat(500_000),
            Unsound,
            1,
            129,
            "more than 64 deep",
        ),
        (false, &*large, TooLarge, 1, 1, "1048576 bytes"),
    ] {
        let shown: String = text.chars().take(40).collect();
        let fault = read(json)(text).expect_err(&shown);
        assert_eq!(fault.kind, kind, "{shown}: {fault}");
        assert_eq!(fault.place, Place { line, column }, "{shown}: {fault}");
        assert!(fault.detail.contains(says), "{shown}: {fault}");
        assert!(!fault.detail.contains(" line "), "its place twice: {fault}");
    }
}

#[test]
fn too_many_aliases_are_unsound_and_called_aliases() {
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let nine = vec![format!("*a{}", level - 1); 9].join(",");
        let _ = writeln!(laughs, "a{level}: &a{level} [{nine}]");
    }
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a,".repeat(20));
    let uses = format!("a: &a 1\nb: [{}]\n", "*a,".repeat(1_001));
    let anchors = (0..1_001).fold(String::new(), |text, key| {
        text + &format!("k{key}: &a{key} 1\n")
    });
    let mut hidden = "a0: &a0 [x]\n".to_owned();
    for level in 1..DOCUMENT_DEPTH_MAX + 2 {
        let _ = writeln!(hidden, "a{level}: &a{level} [*a{}]", level - 1);
    }
    for (text, says) in [
        (laughs, "aliases"),
        (long, "aliases"),
        (uses, "aliases"),
        (anchors, "aliases"),
        (hidden, ""),
    ] {
        let fault = parse_yaml(&text).expect_err(says);
        assert_eq!(fault.kind, TextFaultKind::Unsound, "{fault}");
        assert!(fault.detail.contains(says), "{fault}");
    }
}

#[test]
fn what_grows_beyond_the_bound_as_json_is_unsound() {
    let text = (0..100_000).fold(String::new(), |text, key| text + &format!("k{key}:\n"));
    assert!(text.len() < DOCUMENT_BYTES_MAX);
    let fault = parse_yaml(&text).unwrap_err();
    assert_eq!(fault.kind, TextFaultKind::Unsound, "{fault}");
    assert!(fault.detail.contains("1048576 bytes"), "{fault}");
}

#[test]
fn bytes_that_are_no_text_are_named_with_their_place() {
    assert_eq!(utf8("é".as_bytes()), Ok("é"));
    let fault = utf8(b"{\"a\":\n \"\xc3\xa9\xe9\"}").unwrap_err();
    assert_eq!(fault.kind, TextFaultKind::Malformed);
    assert_eq!(fault.place, Place { line: 2, column: 4 });
    assert_eq!(fault.detail, "byte 10 is not UTF-8");
    assert!(utf8(&[0xff, 0xfe, b'a']).is_err());
}

#[test]
fn a_text_says_by_its_beginning_what_it_is() {
    for json in ["{", " \n[", "\u{feff}{"] {
        assert!(is_json(json), "{json}");
    }
    for yaml in ["a: 1", "- 1", "\u{feff}# {", ""] {
        assert!(!is_json(yaml), "{yaml}");
    }
}

#[test]
fn a_fault_of_a_text_is_a_fault_of_its_document() {
    let fault = Fault::from(parse("a: 1\na: 2\n").unwrap_err());
    assert_eq!(fault.pointer, "");
    assert_eq!(fault.place, Some(Place { line: 2, column: 1 }));
}

#[test]
fn faults_of_a_document_are_located_in_its_text() {
    let header = "document: {dsl: 1.0.3, namespace: default, name: wrong, version: 1.0.0}";
    let yaml = format!(
        "{header}\ndo:\n  - a:\n      frobnicate: 1\n  - b:\n      set: {{x: '${{ .a | nonsense }}'}}\n"
    );
    let json = serde_json::to_string_pretty(&parse(&yaml).unwrap().to_value()).unwrap();
    for (text, places) in [
        (yaml, [(4, 7), (3, 5), (6, 13)]),
        (json, [(11, 9), (10, 7), (17, 11)]),
    ] {
        let faults = compile(&parse(&text).unwrap()).unwrap_err();
        assert!(faults.iter().all(|fault| fault.place.is_none()));
        let located = locate(&text, faults.clone());
        let found: Vec<_> = located
            .iter()
            .map(|fault| fault.place.map(|place| (place.line, place.column)))
            .collect();
        assert_eq!(found, places.map(Some), "{located:#?}\n{text}");
        let without: Vec<Fault> = located
            .into_iter()
            .map(|fault| Fault::at(fault.pointer, fault.detail))
            .collect();
        assert_eq!(without, faults);
    }
}

#[test]
fn nothing_is_an_error_or_null() {
    assert!(parse_json("").is_err());
    assert_eq!(yaml(""), "null");
}

#[test]
fn sixty_four_levels_are_read_in_every_spelling_and_one_more_in_none() {
    let flow = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let dashes = |depth: usize| "- ".repeat(depth) + "x";
    let lines = |depth: usize| {
        let mut text = String::new();
        for level in 0..depth {
            let _ = writeln!(text, "{}k:", " ".repeat(level));
        }
        text + &" ".repeat(depth) + "x"
    };
    let limit = DOCUMENT_DEPTH_MAX;
    for spelling in [flow, dashes, lines] as [fn(usize) -> String; 3] {
        assert!(parse_yaml(&spelling(limit)).is_ok(), "{}", spelling(limit));
        assert!(
            parse_yaml(&spelling(limit + 1)).is_err(),
            "{}",
            spelling(limit + 1)
        );
    }
    assert!(parse_json(&flow(limit)).is_ok());
    assert!(parse_json(&flow(limit + 1)).is_err());
}

#[test]
fn an_alias_does_not_hide_depth() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for level in 1..DOCUMENT_DEPTH_MAX + 2 {
        let _ = writeln!(text, "a{level}: &a{level} [*a{}]", level - 1);
    }
    assert!(parse_yaml(&text).is_err());
}

#[test]
fn a_document_of_a_mebibyte_is_read_and_a_larger_one_is_not() {
    let text = |bytes: usize| format!("a: {}", "x".repeat(bytes - 3));
    assert!(parse_yaml(&text(DOCUMENT_BYTES_MAX - 16)).is_ok());
    assert!(
        parse_yaml(&text(DOCUMENT_BYTES_MAX + 1))
            .unwrap_err()
            .detail
            .contains("at most")
    );
    assert!(
        parse_json(&" ".repeat(DOCUMENT_BYTES_MAX + 1))
            .unwrap_err()
            .detail
            .contains("at most")
    );
}

/// Every text that could make a reader hang or swell: refused or read, quickly.
#[test]
fn bombs_are_cheap() {
    let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    let mut merges = "m0: &m0 {k0: 1}\n".to_owned();
    for level in 1..12 {
        let last = level - 1;
        let nine = vec![format!("*a{last}"); 9].join(", ");
        let _ = writeln!(laughs, "a{level}: &a{level} [{nine}]");
        let _ = writeln!(
            merges,
            "m{level}: &m{level} {{<<: [*m{last}, *m{last}], k{level}: 1}}"
        );
    }
    let long = format!(
        "a: &a {}\nb: [{}]",
        "x".repeat(100_000),
        vec!["*a"; 900].join(", ")
    );
    let many = DOCUMENT_BYTES_MAX / 2 - 8;
    for (name, bomb, refused) in [
        ("billion laughs", laughs, true),
        ("a long text nine hundred times", long, true),
        ("brackets", "[".repeat(2 * many), true),
        ("braces", "{a: ".repeat(many / 4), true),
        ("dashes", "- ".repeat(many), true),
        ("questions", "? ".repeat(many), true),
        ("anchors", "&a ".repeat(many / 2), true),
        ("quotes", "'".repeat(many), false),
        (
            "keys",
            (0..50_000).fold(String::new(), |text, key| text + &format!("k{key}: 1\n")),
            false,
        ),
        ("comments", "#\n".repeat(many), false),
        ("merges", merges, false),
    ] {
        let begin = Instant::now();
        let result = parse_yaml(&bomb);
        let seconds = begin.elapsed().as_secs_f64();
        assert!(seconds < 20.0, "{name} took {seconds} s");
        assert!(!refused || result.is_err(), "{name} was read");
        let size = result.map_or(0, |json| json.as_str().len());
        assert!(size <= DOCUMENT_BYTES_MAX, "{name} has {size} bytes");
    }
}
