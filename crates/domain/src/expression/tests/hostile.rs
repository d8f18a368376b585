//! Sources that would hang, abort or eat the memory: each is refused, or ends soon with an error.

use std::time::{Duration, Instant};

use super::*;

/// An evaluation takes some 30 ms; this is a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn piped(stage: &str, times: usize) -> String {
    vec![stage; times].join(" | ")
}

fn nested(open: &str, core: &str, close: &str, times: usize) -> String {
    format!("{}{core}{}", open.repeat(times), close.repeat(times))
}

/// Compiles and evaluates over a number of values, and says how that ended.
fn outcome(source: &str) -> Result<usize, String> {
    let expression = Expression::compile(source).map_err(|fault| fault.detail)?;
    let numbers = Json::of(&(0..1_000).collect::<Vec<_>>());
    let text = Json::of(&"ab".repeat(50_000));
    let object =
        Json::of(&serde_json::json!({"a": {"b": [1, [2, {"c": "x"}]]}, "s": "text", "n": 1}));
    let mut longest = 0;
    for dot in [object, numbers, text] {
        let given = given(dot.as_str());
        longest = longest.max(
            expression
                .evaluate(&given)
                .map_err(|error| error.detail)?
                .as_str()
                .len(),
        );
    }
    Ok(longest)
}

#[test]
fn what_never_ends_is_refused() {
    for source in [
        "def f: f; f",
        "def f: f, f; f",
        "def f: 1 + f; f",
        "[def f: ., f; f]",
        "repeat(.)",
        "[repeat(1)]",
        "until(false; .)",
        "[while(true; .)]",
        "[range(1e18)]",
        "[range(0; 1; 0)]",
        "[recurse([.])]",
        "[recurse]",
        "[..]",
        "last(range(1e18))",
        "[limit(1e18; repeat(1))]",
        "first(range(1e18; 0; -1) | select(. < 0))",
        "reduce range(1e9) as $i (0; . + 1)",
        "foreach repeat(1) as $i (0; . + 1)",
        "label $x | repeat(.)",
        "[combinations(99)]",
        "walk([., .])",
        "input",
        "[inputs]",
        "halt",
        "env",
        "$ENV",
        "now",
        "debug",
        "input_line_number",
        "\"x\" | test(\"(a*)*b\")",
        "gsub(\"\"; \"aa\")",
        ".[1e18] = 1",
        ".[1000000000] |= 1",
        ".a += 1",
        "setpath([1000000000]; 1)",
        "del(..)",
        "getpath([\"a\"])",
        "[paths]",
        "import \"x\" as x; 1",
        "include \"x\"; 1",
        "modulemeta",
        "try error(.) catch (., .)",
    ] {
        assert!(Expression::compile(source).is_err(), "{source}");
    }
}

#[test]
fn what_nests_too_deep_is_refused_or_runs() {
    for times in [10, 20, 30, 40, 60, 64, 65, 500, 1_000, 4_000] {
        for (open, core, close) in [
            ("[", ".", "]"),
            ("(", ".", ")"),
            ("{a:", "1", "}"),
            ("{(", "1", "|tostring):1}"),
            ("\"\\(", ".", ")\""),
            (".[", "0", "]?"),
            (".[", "0", ":]?"),
            ("-", ".", ""),
            ("- ", "1", ""),
            ("-(", "1", ")"),
            ("try ", "error", ""),
            ("if ", ".", " then 1 else 2 end"),
            ("if 1 then ", ".", " end"),
            ("if 1 then . else ", ".", " end"),
            ("1+(", "1", ")"),
            ("1+", "1", ""),
            (".+", ".", ""),
            (".|", ".", ""),
            (".,", ".", ""),
            (".//", ".", ""),
            (". and ", ".", ""),
            ("map(", ".", ")"),
            ("first(", ".", ")"),
            ("select(", ".", ")"),
            ("sort_by(", ".", ")"),
            ("with_entries(", ".", ")"),
            ("[.[]?|", ".", "]"),
            ("def f: ", "1", "; f"),
            ("def end: ", "1", "; end"),
            ("label $x|", "1", ""),
            (". as $x|", "$x", ""),
            (". as [$x]|", "$x", ""),
            ("reduce ", ".", " as $x (1; 2)"),
            ("f(", ".", ")"),
            ("(.", "", ")?"),
            ("[", "", ""),
            ("\"\\(", "", ""),
            ("]", "", ""),
        ] {
            let _ = outcome(&nested(open, core, close, times));
        }
    }
}

#[test]
fn what_grows_without_bound_is_stopped() {
    for source in [
        piped("[., .]", 60) + " | tojson",
        piped("[., .]", 60) + " | tostring | length",
        piped("[., .]", 60) + " | . == .",
        piped("[., .]", 60) + " | . < [.]",
        piped("[., .]", 60) + " | sort",
        piped("[., .]", 60) + " | unique",
        piped("[., .]", 60) + " | min_by(.)",
        piped("[., .]", 60) + " | flatten",
        piped("[., .]", 60) + " | contains(.)",
        piped("[., .]", 60) + " | indices(.)",
        piped("[., .]", 60) + " | . - .",
        piped("[., .]", 60),
        piped("{a: ., b: .}", 60),
        piped("{a: ., b: .}", 60) + " | . * .",
        piped("[.[]?, .[]?, 1]", 60),
        piped("(., .)", 80) + " | empty",
        format!("[{}]", piped("(., .)", 80)),
        format!("[{} | error?]", piped("(., .)", 80)),
        format!("last({})", piped("(., .)", 80)),
        format!("isempty({} | empty)", piped("(., .)", 80)),
        "\"a\" | ".to_string() + &piped(". + .", 60),
        "\"a\" | ".to_string() + &piped("\"\\(.)\\(.)\"", 60),
        "\"a\" | ".to_string() + &piped("[., .] | add", 40),
        "\"a\" | ".to_string() + &piped("[., .] | join(.)", 40),
        "\"a\" | ".to_string() + &piped("tojson + tojson", 40),
        "\"a\" | ".to_string() + &piped("@base64 + @uri", 60),
        "[1] | ".to_string() + &piped(". + .", 60),
        "[\"a\" * 1000000000]".into(),
        "\"a\" * 9223372036854775807".into(),
        "\"a\" * 100000000000000000000000".into(),
        "\"a\" | ".to_string() + &piped(". * 1000", 20),
        "99 | ".to_string() + &piped(". * .", 100) + " | tojson | fromjson | tojson",
        "99999999999999999999 | ".to_string() + &piped(". * .", 100),
        "[.[]? as $a | .[]? as $b | .[]? as $c | $a + $b + $c]".into(),
        "[1, 2, 3, 4] | [.[] as $a | .[] as $b | .[] as $c | .[] as $d | .[] as $e | .[] as $f | .[] as $g | .[] as $h | .[] as $i | .[] as $j | 1]".into(),
        "[\"x\"] | ".to_string() + &piped("map(., .)", 60),
        piped("to_entries?", 60) + " | " + &piped("[., .]", 30),
        "[[[1, 2, 3] | combinations]]".into(),
        "\"[\" * 100000 | fromjson".into(),
        "(\"[\" * 100000) + (\"]\" * 100000) | fromjson".into(),
        "\"9\" * 100000 | tonumber".into(),
        "\"9\" * 100000 | fromjson".into(),
        "\"1e999999999\" | tonumber | . * 10 | tojson".into(),
        "1e1000000000".into(),
        "9".repeat(4_000),
        "[limit(3; 1)]".into(),
        ".[9223372036854775807]?, .[-9223372036854775808]?".into(),
        "-9223372036854775808 | length, abs".into(),
        "[.[]?] | .[-1:9223372036854775807]".into(),
        "[.[]?] | group_by(.) | map(add) | add".into(),
        format!("[.[]? | .[\"{}\"]?]", "k".repeat(3_900)),
        format!("[.[]? | \"{}\"] | length", "k".repeat(3_900)),
    ] {
        let started = Instant::now();
        let _ = outcome(&source);
        assert!(started.elapsed() < SOON, "{source}");
    }
}

#[test]
fn an_empty_meter_is_not_caught_by_anything() {
    let endless = piped("(., .)", 80);
    for source in [
        format!("({endless} | empty)? // 1"),
        format!("try ({endless} | empty)"),
        format!("isempty({endless} | empty)"),
        format!("first({endless} | empty), 1"),
        format!("[1, 2] | sort_by([{endless}])"),
        format!("[1] | map_values({endless} | empty)"),
        format!("any({endless}; false)"),
    ] {
        let error = order().evaluate(&source).unwrap_err();
        assert!(
            error.contains("takes more than 500000 steps"),
            "{source}: {error}"
        );
    }
}

#[test]
fn hostile_inputs_are_refused_before_they_are_read() {
    let nested = |depth: usize| format!(r#"{{"a": {}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    given(&nested(90)).yields(".a | length", "1");
    given(&nested(100_000)).faults(". | length", "nests deeper than 100");
    given(&format!("[{}]", "9".repeat(100_000)))
        .faults("map(. + 1)", "a number is longer than 320");
    given(Json::of(&"x".repeat(8_000_000)).as_str())
        .faults("length", "takes more than 500000 steps");
}

/// A scope of which everything is the same value.
struct Deep(Json);
impl Scope for Deep {
    fn dot(&self) -> Json {
        self.0.clone()
    }
    fn field(&self, _: &str) -> Option<Json> {
        Some(self.0.clone())
    }
    fn variable(&self, _: &str) -> Option<Json> {
        Some(self.0.clone())
    }
}

#[test]
fn a_plain_read_goes_through_values_of_any_depth_and_size() {
    let deep = format!(
        r#"{{"a": {}1{}, "b": 2}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let dot = Json::parse(&deep).unwrap();
    let read = |source: &str| {
        Expression::compile(source)
            .unwrap()
            .evaluate(&Deep(dot.clone()))
            .unwrap()
    };
    assert_eq!(read("$context.b").as_str(), "2");
    assert_eq!(read("$context.a[0][0]").as_str().len(), 199_997);
}

#[test]
fn the_largest_sources_compile_and_run_on_a_small_stack() {
    let sources = [
        format!(
            "{{{}}}",
            (0..400)
                .map(|field| format!("k{field}:.a"))
                .collect::<Vec<_>>()
                .join(",")
        ),
        vec!["."; 1_500].join(","),
        format!("[{}]", vec!["[]"; 1_000].join(",")),
        format!("\"{}\"", "\\(1)".repeat(900)),
        format!(".{}", "[0]".repeat(1_300)),
        format!(".{}", "[]?".repeat(1_300)),
        format!(".{}", ".a?".repeat(1_300)),
        piped("map(.)", 250),
        piped("with_entries(.)", 20),
        nested("[", ".", "]", 64),
        nested("[.[]?|", ".", "]", 63),
        nested("(", "1", ",2|.)", 63),
        nested("if . then ", ".", " else . end", 40),
        vec!["."; 60].join("+"),
    ];
    for source in sources {
        let run = move || {
            if let Err(reason) = outcome(&source) {
                assert!(!reason.contains("too many terms"), "{reason}");
            }
        };
        // Tokio's threads have 2 MiB, too.
        std::thread::Builder::new()
            .stack_size(2 * 1024 * 1024)
            .spawn(run)
            .unwrap()
            .join()
            .unwrap();
    }
}
