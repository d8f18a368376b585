//! A thousand expressions that would hang, abort or eat the memory: refused when they are registered, each at its place,
//! or ended within their bounds when they run.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use eventflow_tests::{Client, Service};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{PATIENCE, control::Control, scale};

/// Expressions of each kind.
const OF_EACH_KIND: usize = 143;
/// Expressions in one document.
const IN_A_DOCUMENT: usize = 100;
/// From the registration to the end of the last execution, in a debug build on a busy machine.
const BATCH_MAX: Duration = Duration::from_secs(45);
/// One execution of one expression.
const ONE_MAX: Duration = Duration::from_secs(5);
/// What all of it may leave in memory.
const RSS_GROWTH_MIB_MAX: u64 = 128;

/// The number-th expression of a kind; the kinds differ in what would go wrong.
type Kind = (&'static str, fn(usize) -> String);

const KINDS: [Kind; 7] = [
    ("never-ending", never_ending),
    ("exponential", exponential),
    ("deeply recursive", recursive),
    ("deeply nested", nested),
    ("huge literals", literals),
    ("growing strings", strings),
    ("broken", broken),
];

fn one_of(number: usize, of: &[&str]) -> String {
    of[number % of.len()].to_owned()
}

fn never_ending(number: usize) -> String {
    let bodies = [
        "def f: f; f",
        "repeat(.)",
        "until(false; .)",
        "[while(true; .)]",
        "[range(1e18)]",
        "[recurse([.])]",
        "last(range(1e18))",
        "reduce range(1e9) as $i (0; . + 1)",
        "label $x | repeat(.)",
        "[limit(1e18; repeat(1))]",
        "foreach repeat(1) as $i (0; . + 1)",
        "[range(0; 1; 0)]",
        "def f: def g: f; g; f",
        "input | debug",
        "[inputs]",
    ];
    format!("{} | {}", number, one_of(number, &bodies))
}

fn exponential(number: usize) -> String {
    let stages = [
        "[., .]",
        "[.[]?, .]",
        "{a: ., b: .}",
        "[.] + [.]",
        ". + .",
        "map([., .])",
        "[., .] | flatten",
        "(., .)",
        ". as $x | [$x, $x]",
        "[.[]?, .[]?] | [combinations(2)]",
        "tojson | [., .]",
    ];
    let start = one_of(number, &[".list", ".s", ".n", "."]);
    let end = one_of(
        number / 4,
        &[
            "length",
            "tojson",
            "sort",
            "tostring | length",
            ". == .",
            "first",
        ],
    );
    let stage = one_of(number, &stages);
    format!(
        "{start} | {} | {end}",
        vec![stage; 20 + number % 60].join(" | ")
    )
}

fn recursive(number: usize) -> String {
    let depth = 10_usize.pow(2 + u32::try_from(number % 5).expect("it is below 5"));
    let bodies = [
        format!("def f($n): if $n == 0 then 0 else 1 + f($n - 1) end; f({depth})"),
        format!("def f: if length > {depth} then . else [.] | f end; f"),
        format!("reduce range({depth}) as $i (.; [.]) | tojson"),
        format!("[limit({depth}; recurse([.]))] | last"),
        "[..] | [..] | [..] | length".to_owned(),
        "walk([., .])".to_owned(),
        "[paths] | [leaf_paths] | tostream".to_owned(),
        format!("until(length > {depth}; [., .])"),
    ];
    bodies[number % bodies.len()].clone()
}

fn nested(number: usize) -> String {
    let pairs = [
        ("[", ".", "]"),
        ("(", ".", ")"),
        ("{a:", "1", "}"),
        ("\"\\(", ".", ")\""),
        (".[", "0", "]?"),
        ("-(", "1", ")"),
        ("if . then ", "1", " else 2 end"),
        ("map(", ".", ")"),
        ("first(", ".", ")"),
        ("1+(", "1", ")"),
        ("try ", "error", ""),
        (".|", ".", ""),
        ("[", "", ""),
        ("\"\\(", "", ""),
        ("def f: ", "1", "; f"),
        (". as $x|", "$x", ""),
        ("-", "1", ""),
        ("select(", ".", ")"),
        ("[.[]?|", ".", "]"),
        ("not|", ".", ""),
    ];
    let (open, core, close) = pairs[number % pairs.len()];
    let times = [10, 63, 64, 65, 200, 1_000, 5_000][number % 7];
    format!("{}{core}{}", open.repeat(times), close.repeat(times))
}

fn literals(number: usize) -> String {
    let size = [100, 1_000, 4_000, 5_000, 20_000][number % 5];
    match number % 6 {
        0 => "9".repeat(size),
        1 => format!("1e{}", "9".repeat(size.min(1_000))),
        2 => format!("\"{}\"", "x".repeat(size)),
        3 => format!("[{}]", vec!["1"; size].join(",")),
        4 => format!(".{}", "a".repeat(size)),
        _ => format!(".[{}]", "9".repeat(size)),
    }
}

fn strings(number: usize) -> String {
    let factor = [2, 100, 10_000, 1_000_000_000][number % 4];
    let stages = [
        format!(". * {factor}"),
        ". + .".to_owned(),
        "\"\\(.)\\(.)\"".to_owned(),
        "[., .] | join(.)".to_owned(),
        "split(\"\") | join(.)".to_owned(),
        "@json | @json".to_owned(),
        "@uri | @uri".to_owned(),
        "explode | tojson".to_owned(),
        "gsub(\"\"; \"aa\")".to_owned(),
        "tojson | tojson".to_owned(),
        "@base64 | @base64".to_owned(),
    ];
    let stage = stages[number % stages.len()].as_str();
    format!(".s | {} | length", vec![stage; 1 + number % 50].join(" | "))
}

fn broken(number: usize) -> String {
    let bodies = [
        "]",
        "}{",
        "|",
        ".[",
        "\"",
        "if",
        "$__loc__",
        "$ENV.PATH",
        "env",
        "now",
        "halt",
        "input_filename",
        "$secrets.key",
        "@sh \"\\(.)\" | system",
        "import \"a\" as a; .",
        "include \"a\"; .",
        "\u{0}",
        "\u{202e}.",
        "getpath([\"a\"])",
        "setpath([1000000000]; 1)",
        ".[1e18] = 1",
        "del(..)",
        "test(\"(a*)*b\")",
        "ltrimstr(1)",
        "error(error)",
        "$x",
        "f(g)",
        "limit(-1; .)",
        "splits(\"a\")",
        "ascii(1e99)",
        "implode",
        "[1114112] | implode",
        "\"\\ud800\"",
        "@base64d",
        "fromjson",
        "tonumber",
        "-(-(-(-(.))))",
        ".. == ..",
        "infinite | tojson",
        "nan < nan",
        "[nan] | sort",
        "1 / 0",
        "0 % 0",
        "5 % 0.1",
    ];
    format!("{} {}", one_of(number, &bodies), " ".repeat(number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hostile_expressions_are_refused_or_bounded() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let service = Service::start(directory.path(), &[]);
    let control = Control::begin(&service).await?;
    let client = Client::new(&service.url, PATIENCE)?;
    let mut sources = Vec::new();
    for (kind, source) in KINDS {
        sources.extend((0..OF_EACH_KIND * scale()).map(|number| (kind, source(number))));
    }
    let before = service.rss_mib();
    let began = Instant::now();
    control.beside(all(&client, &sources)).await?;
    let (took, grown) = (began.elapsed(), service.rss_mib().saturating_sub(before));
    println!(
        "{} expressions in {took:.1?}, {grown} MiB more in use",
        sources.len()
    );
    ensure!(
        took < BATCH_MAX * u32::try_from(scale())?,
        "they took {took:?}"
    );
    ensure!(grown < RSS_GROWTH_MIB_MAX, "it uses {grown} MiB more");
    control.end().await
}

async fn all(client: &Client, sources: &[(&'static str, String)]) -> anyhow::Result<()> {
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for portion in sources.chunks(IN_A_DOCUMENT) {
        let refused = refused(client, portion).await?;
        for (place, (kind, source)) in portion.iter().enumerate() {
            let end = match refused.get(&format!("/do/{place}/t{place}/set/x")) {
                Some(detail) => {
                    ensure!(detail.contains("not accepted"), "{source}: {detail}");
                    "refused".to_owned()
                }
                None => run(client, source).await.with_context(|| source.clone())?,
            };
            *counts.entry((*kind, end)).or_default() += 1;
        }
        let (status, answer) = client.get_once("/readyz").await?;
        ensure!(status == 200, "{answer}");
    }
    println!("{counts:#?}");
    let of = |end: &str| {
        counts
            .iter()
            .filter(|((_, other), _)| other == end)
            .map(|(_, count)| count)
            .sum::<usize>()
    };
    // All three ways are taken, so that each is tested.
    ensure!(
        of("refused") > 0 && of("faulted") > 0 && of("completed") > 0,
        "{counts:?}"
    );
    for kind in ["never-ending", "deeply recursive"] {
        let ran = counts
            .keys()
            .any(|(other, end)| *other == kind && end == "completed");
        ensure!(!ran, "something {kind} has completed: {counts:?}");
    }
    Ok(())
}

/// Validates the expressions in one document: by pointer, what is wrong with each of them.
async fn refused(
    client: &Client,
    portion: &[(&str, String)],
) -> anyhow::Result<BTreeMap<String, String>> {
    let tasks: Vec<Value> = (portion.iter().enumerate())
        .map(|(place, (_, source))| json!({format!("t{place}"): {"set": {"x": format!("${{ {source} }}")}}}))
        .collect();
    let (status, answer) = client
        .post("/v1/workflows/validate", &document(&json!(tasks)))
        .await?;
    ensure!(status == 200, "{answer}");
    let errors = answer["errors"].as_array().context("it has errors")?;
    let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let errors: BTreeMap<_, _> = errors
        .iter()
        .map(|error| (text(error, "pointer"), text(error, "detail")))
        .collect();
    let elsewhere = errors.keys().find(|pointer| !pointer.ends_with("/set/x"));
    ensure!(elsewhere.is_none(), "a fault at {elsewhere:?}: {answer}");
    Ok(errors)
}

/// Runs one that was admitted: how its execution ended, in time.
async fn run(client: &Client, source: &str) -> anyhow::Result<String> {
    let began = Instant::now();
    let tasks = json!([{"t": {"set": {"x": format!("${{ {source} }}")}}}]);
    let list: Vec<u32> = (0..1_000).collect();
    let body = json!({
        "definition": document(&tasks),
        "input": {"n": 1, "s": "ab".repeat(1_000), "list": list},
    });
    let request = client
        .request(Method::POST, "/v1/executions")
        .header("prefer", "wait=20");
    let response = request.json(&body).send().await?;
    let (status, view): (_, Value) = (response.status(), response.json().await?);
    ensure!(status == 200, "answered {status}: {view}");
    ensure!(began.elapsed() < ONE_MAX, "it took {:?}", began.elapsed());
    let end = view["status"].as_str().unwrap_or_default().to_owned();
    if end == "faulted" {
        let error = &view["error"];
        let kind = "https://serverlessworkflow.io/spec/1.0.0/errors/expression";
        ensure!(error["type"] == kind, "{error}");
        ensure!(error["instance"] == "/do/0/t", "{error}");
        ensure!(error["detail"].is_string(), "{error}");
    }
    Ok(end)
}

fn document(tasks: &Value) -> Value {
    json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "hostile", "version": "1.0.0"},
        "do": tasks,
    })
}
