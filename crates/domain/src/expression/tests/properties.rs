//! Random sources over random values: no panic, no abort, no value that cannot be read again.

use proptest::prelude::*;

use super::*;

/// A value of a few levels, with few keys, so that sources find something in it.
fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        (-5..5_i64).prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "[ab,\\[\\]0-9é\"]{0,6}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let key =
            prop_oneof![Just("a"), Just("b"), Just("key"), Just("value")].prop_map(String::from);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

fn plain_reads() -> impl Strategy<Value = String> {
    let step = prop_oneof![
        Just(".a"),
        Just(".b"),
        Just("[0]"),
        Just("[-1]"),
        Just("[\"key\"]"),
        Just("[3]")
    ];
    let root = prop_oneof![Just("."), Just(".a"), Just("$context"), Just(".[0]")];
    (root, prop::collection::vec(step, 0..4)).prop_map(|(root, steps)| {
        let source = root.to_owned() + &steps.concat();
        source.replace("..", ".")
    })
}

const LEAVES: &str =
    "1 -2 1.5 1e3 \"a\" \"\" null true [] {} .[]? .[] $x empty error 9223372036854775807";
const OPERATORS: &str = "| , + - * / % == < >= and or //";
const NATIVES: &str = "length keys values add any all min max sort unique reverse first last flatten tostring tonumber \
    type ascii_downcase trim floor round abs to_entries from_entries tojson fromjson not @base64 \
    @base64d @uri keys_unsorted scalars";
const OF_FILTERS: &str = "map select map_values with_entries sort_by group_by unique_by min_by max_by first last any all \
    add isempty error has in contains inside index indices split join startswith ltrimstr rtrimstr \
    endswith nth flatten";

/// Sources in the part of jq's grammar that is admitted.
fn sources() -> impl Strategy<Value = String> {
    let word = |words: &'static str| prop::sample::select(words.split(' ').collect::<Vec<_>>());
    let leaf = prop_oneof![plain_reads(), word(LEAVES).prop_map(String::from),];
    let admitted = leaf.prop_recursive(5, 48, 4, move |inner| {
        let one = inner.clone();
        let two = (inner.clone(), inner.clone());
        let three = (inner.clone(), inner.clone(), inner);
        let (operators, natives, of_filters) = (word(OPERATORS), word(NATIVES), word(OF_FILTERS));
        prop_oneof![
            (two.clone(), operators).prop_map(|((a, b), operator)| format!("({a} {operator} {b})")),
            (one.clone(), natives).prop_map(|(a, native)| format!("({a} | {native})")),
            (two.clone(), of_filters).prop_map(|((a, b), native)| format!("({a} | {native}({b}))")),
            one.clone().prop_map(|a| format!("[{a}]")),
            two.clone()
                .prop_map(|(a, b)| format!("{{a: {a}, ({b} | tostring): 1}}")),
            two.clone()
                .prop_map(|(a, b)| format!("\"x\\({a})-\\({b})\"")),
            one.clone().prop_map(|a| format!("({a})?")),
            one.clone().prop_map(|a| format!("-({a})")),
            two.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            three
                .clone()
                .prop_map(|(a, b, c)| format!("({a})[{b}:{c}]?")),
            three
                .clone()
                .prop_map(|(a, b, c)| format!("if {a} then {b} else {c} end")),
            two.prop_map(|(a, b)| format!("({a} as $x | {b})")),
        ]
    });
    admitted.prop_map(|source| format!(". as $x | {source}"))
}

/// Sources in the whole of jq's grammar, as far as it is refused.
fn unbounded_sources() -> impl Strategy<Value = String> {
    let wrong = prop::sample::select(&[
        "..",
        "repeat(.)",
        "range(9)",
        "def f: f; f",
        "reduce . as $y (1; 2)",
        ". |= 1",
        "input",
        "now",
    ]);
    (sources(), wrong, sources()).prop_map(|(a, wrong, b)| format!("[({a}), ({wrong}), ({b})]"))
}

struct Any(serde_json::Value);

impl Scope for Any {
    fn dot(&self) -> Json {
        Json::of(&self.0)
    }

    fn field(&self, name: &str) -> Option<Json> {
        self.0.get(name).map(Json::of)
    }

    fn variable(&self, _: &str) -> Option<Json> {
        Some(self.dot())
    }

    fn dot_is_object(&self) -> bool {
        self.0.is_object()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_source_is_refused_or_yields_json_and_the_same_each_time(source in sources(), dot in values()) {
        let compiled = Expression::compile(&source);
        if let Err(fault) = &compiled {
            prop_assert!(fault.detail.contains("nest"), "{}", fault);
        }
        if let Ok(expression) = compiled {
            let scope = Any(dot);
            let value = expression.evaluate(&scope);
            prop_assert_eq!(&expression.evaluate(&scope), &value);
            match value {
                Ok(json) => {
                    let read: Result<serde_json::Value, _> = json.read();
                    let read = read.expect("what an expression yields can be read");
                    let truth = !matches!(read, serde_json::Value::Null | serde_json::Value::Bool(false));
                    prop_assert_eq!(expression.evaluate_bool(&scope), Ok(truth));
                }
                Err(error) => prop_assert!(error.detail.len() < 1_000),
            }
        }
    }

    #[test]
    fn what_need_not_end_is_refused_wherever_it_stands(source in unbounded_sources()) {
        prop_assert!(Expression::compile(&source).is_err());
    }

    #[test]
    fn any_text_is_refused_or_compiles(source in any::<String>(), symbols in "[\\[\\](){}\".\\\\$@|,:;?+*/<=>a-z0 -]{0,80}") {
        let _ = Expression::compile(&source);
        let _ = Expression::compile(&symbols);
    }

    #[test]
    fn a_plain_read_is_what_jq_reads(source in plain_reads(), dot in values()) {
        let scope = Any(dot);
        let plain = Expression::compile(&source).unwrap().evaluate(&scope);
        let by_jq = Expression::compile(&format!("[{source}][0]")).unwrap().evaluate(&scope);
        match (plain, by_jq) {
            (Ok(plain), Ok(by_jq)) => prop_assert_eq!(plain.to_value(), by_jq.to_value()),
            (plain, by_jq) => prop_assert!(plain.is_err() && by_jq.is_err(), "{:?} {:?}", plain, by_jq),
        }
    }

    #[test]
    fn a_value_that_jq_passes_on_stays_as_it_is(dot in values()) {
        let passed = Expression::compile("[.][0]").unwrap().evaluate(&Any(dot.clone())).unwrap();
        prop_assert_eq!(passed.as_str(), serde_json::to_string(&dot).unwrap());
    }

    #[test]
    fn a_template_without_expressions_is_itself(dot in values()) {
        let template = Template::strict(&dot).unwrap();
        let value = template.evaluate(&order()).unwrap();
        prop_assert_eq!(value.as_str(), serde_json::to_string(&dot).unwrap());
        prop_assert!(matches!(template, Template::Literal(_)));
    }
}
