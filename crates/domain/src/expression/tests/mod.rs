//! What expressions yield, what they read and what is refused. Never-ending ones are in `hostile`, random ones in
//! `properties`.

use std::cell::RefCell;

use super::*;

mod hostile;
mod properties;

/// A scope over one object, which notes what it is asked for.
struct Given {
    dot: Json,
    asked: RefCell<Vec<String>>,
}

fn given(dot: &str) -> Given {
    Given {
        dot: Json::parse(dot).unwrap(),
        asked: RefCell::default(),
    }
}

impl Given {
    fn yields(&self, source: &str, expected: &str) {
        let value = self
            .evaluate(source)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(value, expected, "{source}");
    }

    fn faults(&self, source: &str, expected: &str) {
        let error = self.evaluate(source).expect_err(source);
        assert!(error.contains(expected), "{source}: {error}");
    }

    fn evaluate(&self, source: &str) -> Result<String, String> {
        let expression = Expression::compile(source).unwrap_or_else(|fault| panic!("{fault}"));
        match expression.evaluate(self) {
            Ok(json) => Ok(json.as_str().to_owned()),
            Err(error) => Err(error.detail),
        }
    }

    fn was_asked(&self) -> Vec<String> {
        self.asked.take()
    }
}

impl Scope for Given {
    fn dot(&self) -> Json {
        self.asked.borrow_mut().push(".".into());
        self.dot.clone()
    }

    fn field(&self, name: &str) -> Option<Json> {
        self.asked.borrow_mut().push(format!(".{name}"));
        field_of(&self.dot, name)
    }

    fn variable(&self, name: &str) -> Option<Json> {
        self.asked.borrow_mut().push(format!("${name}"));
        match name {
            "context" => Some(Json::parse(r#"{"user": {"id": 7, "name": "Ada"}}"#).unwrap()),
            "item" => Some(Json::of(&"an item")),
            _ => None,
        }
    }

    fn dot_is_object(&self) -> bool {
        self.dot.as_str().starts_with('{')
    }
}

fn order() -> Given {
    given(
        r#"{"id": "o-1", "total": 12, "rate": 0.25, "paid": true, "note": null, "a-b": {"c": 1},
            "items": [{"sku": "x", "price": 2, "qty": 3}, {"sku": "y", "price": 5, "qty": 1}],
            "tags": ["b", "a", "b"], "address": {"city": "Bern", "zip": "3000"}}"#,
    )
}

fn refused(source: &str) -> String {
    Expression::compile(source).expect_err(source).to_string()
}

#[test]
fn plain_reads_yield_the_value_with_its_own_text() {
    let order = order();
    order.yields(".total", "12");
    order.yields(".address.city", "\"Bern\"");
    order.yields(".items[1].price", "5");
    order.yields(".items[-1].sku", "\"y\"");
    order.yields(r#".["a-b"].c"#, "1");
    order.yields(r#"."a-b"["c"]"#, "1");
    order.yields("$context.user.name", "\"Ada\"");
    given("[1, [2.50, 3]]").yields(".[1][0]", "2.50");
    given(r#"{"a": {"b": 1, "b": 2}}"#).yields(". | .a.b", "2");
}

#[test]
fn what_is_missing_is_null() {
    let order = order();
    for source in [
        ".nope",
        ".nope.nope",
        ".nope[0].x",
        ".items[9]",
        ".items[-9]",
        ".note.x[1]",
        ".address.x",
    ] {
        order.yields(source, "null");
        order.yields(&format!("[{source}][0]"), "null");
    }
}

#[test]
fn reading_into_a_scalar_is_an_error() {
    let order = order();
    order.faults(".id.x", "cannot read the field `x` of a string");
    order.faults(".total[0]", "cannot read the item 0 of a number");
    order.faults(".items.x", "cannot read the field `x` of an array");
    order.faults(".address[0]", "cannot read the item 0 of an object");
    order.faults("(.total).x + 1", "cannot index 12");
    given("7").faults(".x", "cannot read the field `x` of a number");
    given("7").faults(".x + 1", "cannot index 7");
}

#[test]
fn a_path_is_built_from_any_keys() {
    let key = |key: &str| Segment::Key(key.into());
    let path = Expression::path(Root::Dot, vec![key("a-b"), key("c")]);
    assert_eq!(path.source(), r#".["a-b"].c"#);
    assert_eq!(path.evaluate(&order()).unwrap().as_str(), "1");
    assert_eq!(path.roots().unwrap(), ["a-b".into()]);

    let path = Expression::path(
        Root::Variable("context".into()),
        vec![key("user"), key("a\"b")],
    );
    assert_eq!(path.source(), r#"$context.user["a\"b"]"#);
    assert_eq!(path.roots().unwrap(), []);

    let path = Expression::path(
        Root::Dot,
        vec![key("items"), Segment::Index(-1), key("sku")],
    );
    assert_eq!(path.source(), ".items[-1].sku");
    assert_eq!(path.evaluate(&order()).unwrap().as_str(), "\"y\"");
    assert!(Expression::path(Root::Dot, vec![]).is_identity());
    assert_eq!(Expression::path(Root::Dot, vec![]).source(), ".");
}

#[test]
fn arithmetic_keeps_integers() {
    let order = order();
    order.yields(".total + 1", "13");
    order.yields(".total * .rate", "3");
    order.yields(".total / 4", "3");
    order.yields(".total / 5", "2.4");
    order.yields(".total % 5", "2");
    order.yields("-.total - 1", "-13");
    order.yields("9007199254740993 + 0", "9007199254740993");
    order.yields("9223372036854775807 + 1", "9223372036854775808");
    order.yields(".items[.total / 12].sku", "\"y\"");
    order.faults(".total / 0", "divide by zero");
    order.faults(".total % (1 - 1)", "divide by zero");
    order.faults(".total + .id", "cannot calculate 12 + \"o-1\"");
}

#[test]
fn values_are_added_as_in_jq() {
    let order = order();
    order.yields(r#".id + "!""#, "\"o-1!\"");
    order.yields(".tags + [1]", r#"["b","a","b",1]"#);
    order.yields(".tags - [\"b\"]", r#"["a"]"#);
    order.yields(".address + {zip: 1}", r#"{"city":"Bern","zip":1}"#);
    order.yields("{a: {b: 1}} * {a: {c: 2}}", r#"{"a":{"b":1,"c":2}}"#);
    order.yields(".note + 1", "1");
    order.yields("\"ab\" * 3", "\"ababab\"");
    order.yields("\"a,b\" / \",\"", r#"["a","b"]"#);
    order.yields(".tags | add", "\"bab\"");
    order.yields("[] | add", "null");
    order.yields("[[1], null, [2]] | add", "[1,2]");
    order.faults("[\"a\", 1] | add", "cannot add number to a string");
}

#[test]
fn conditions_follow_jqs_truth() {
    let order = order();
    order.yields(".total > 10 and .paid", "true");
    order.yields(".note or false", "false");
    order.yields("(.paid | not) == false", "true");
    order.yields(".items == .items", "true");
    order.yields("{a: 1, b: 2} == {b: 2, a: 1}", "true");
    order.yields(
        r#"if .total > 20 then "big" elif .total > 10 then "medium" else "small" end"#,
        "\"medium\"",
    );
    order.yields(r#".nope // "default""#, "\"default\"");
    order.yields(
        "[1, [2], {}, \"x\", null, true] | sort",
        r#"[null,true,1,"x",[2],{}]"#,
    );
    for (source, truth) in [
        (".paid", true),
        (".note", false),
        (".nope", false),
        (".total", true),
        ("0", true),
        ("1 > 2", false),
        ("empty", false),
        ("[]", true),
    ] {
        assert_eq!(
            Expression::compile(source).unwrap().evaluate_bool(&order),
            Ok(truth),
            "{source}"
        );
    }
}

#[test]
fn arrays_and_objects_are_built_and_taken_apart() {
    let order = order();
    order.yields(".items | map(.price * .qty) | add", "11");
    order.yields("[.items[] | select(.price > 2) | .sku]", r#"["y"]"#);
    order.yields(
        "{id, n: .total, (.address.city): 1}",
        r#"{"id":"o-1","n":12,"Bern":1}"#,
    );
    order.yields(
        "{\"x y\": 1, $context}",
        r#"{"x y":1,"context":{"user":{"id":7,"name":"Ada"}}}"#,
    );
    order.yields(
        "[.tags[1:], .tags[:1], .id[0:1], .note[1:2]]",
        r#"[["a","b"],["b"],"o",null]"#,
    );
    order.yields("[.items[].price]", "[2,5]");
    order.yields(
        "[{a: (1, 2), b: (3, 4)} | [.a, .b]]",
        "[[1,3],[1,4],[2,3],[2,4]]",
    );
    order.yields(".address | to_entries | map(.key)", r#"["city","zip"]"#);
    order.yields(
        ".address | with_entries(select(.key == \"zip\"))",
        r#"{"zip":"3000"}"#,
    );
    order.yields(
        "[{name: \"a\", v: 1}, {k: 2}] | from_entries",
        r#"{"a":1,"2":null}"#,
    );
    order.yields(".address | map_values(length)", r#"{"city":4,"zip":4}"#);
    order.yields("[[1, 2], 3] | map_values(arrays)", "[[1,2]]");
    order.yields(
        ".address | [keys, length, has(\"zip\"), has(\"x\")]",
        r#"[["city","zip"],2,true,false]"#,
    );
    order.yields(
        "[1, [2, [3]]] | [flatten, flatten(1)]",
        "[[1,2,3],[1,2,[3]]]",
    );
    order.yields(
        ".tags | [unique, reverse, first, last, nth(1)]",
        r#"[["a","b"],["b","a","b"],"b","b","a"]"#,
    );
    order.yields(
        ".items | [min_by(.price), max_by(.price) | .sku]",
        r#"["x","y"]"#,
    );
    order.yields(".items | sort_by(-.price) | map(.sku)", r#"["y","x"]"#);
    order.yields(".tags | group_by(.) | map(length)", "[1,2]");
    order.yields("[[3, 1] | min, max] + [[] | min]", "[1,3,null]");
    order.yields(
        "[.tags | any(. == \"a\"), all(. == \"a\"), any(.[]; . == \"z\"), isempty(.[])]",
        "[true,false,false,false]",
    );
    order.yields("[.tags | contains([\"a\"]), inside([\"a\", \"b\"]), index(\"b\"), rindex(\"b\"), indices(\"b\")]", "[true,true,0,2,[0,2]]");
    order.yields(
        "[first(.tags[]), last(.tags[]), (\"a\" | in({a: 1}))]",
        r#"["b","b",true]"#,
    );
    order.yields(
        ". as $all | .items | map($all.id + .sku)",
        r#"["o-1x","o-1y"]"#,
    );
    order.yields("[.tags[.total - 11], [1, 2, 1][[1]]]", r#"["a",[0,2]]"#);
}

#[test]
fn text_is_taken_apart_and_put_together() {
    let order = order();
    order.yields(
        r#""Order \(.id): \(.total) for \(.address)""#,
        r#""Order o-1: 12 for {\"city\":\"Bern\",\"zip\":\"3000\"}""#,
    );
    order.yields(r#""a\tb\u00e9\(1 + 1)""#, r#""a\tbé2""#);
    order.yields(r#".tags | join("-")"#, "\"b-a-b\"");
    order.yields(r#"[1, null, true, "x"] | join(",")"#, "\"1,,true,x\"");
    order.yields(r#""a b  c" | split(" ")"#, r#"["a","b","","c"]"#);
    order.yields(r#"" x " | [trim, ltrim, rtrim]"#, r#"["x","x "," x"]"#);
    order.yields(
        r#""aBc" | [ascii_downcase, ascii_upcase, length]"#,
        r#"["abc","ABC",3]"#,
    );
    order.yields(
        r#".id | [startswith("o"), endswith("o"), ltrimstr("o-"), rtrimstr("1")]"#,
        r#"[true,false,"1","o-"]"#,
    );
    order.yields(r#"["1.50", "2"] | map(tonumber)"#, "[1.50,2]");
    order.yields(r#"[1, "x", null] | map(tostring)"#, r#"["1","x","null"]"#);
    order.yields("[.address | tojson | fromjson | .zip]", r#"["3000"]"#);
    order.yields(
        r#""a b/ü" | [@base64, @uri, (@base64 | @base64d), @json]"#,
        r#"["YSBiL8O8","a%20b%2F%C3%BC","a b/ü","\"a b/ü\""]"#,
    );
    order.yields(r#"@base64 "x=\(.id)!""#, "\"x=by0x!\"");
    order.yields(
        "[.id, 1, null, [], {}, true | type]",
        r#"["string","number","null","array","object","boolean"]"#,
    );
    order.yields(
        "[1.5, -1.5 | floor, ceil, round, abs]",
        "[1,2,2,1.5,-2,-1,-2,1.5]",
    );
    order.faults(r#""x" | tonumber"#, "cannot read `x`");
    order.faults(r#""NaN" | fromjson"#, "cannot read `NaN`");
}

#[test]
fn errors_can_be_passed_over_but_not_caught() {
    let order = order();
    order.yields("(.id | tonumber)? // 0", "0");
    order.yields(
        "[.items[] | try (if .qty > 1 then error(\"many\") else .sku end)]",
        r#"["y"]"#,
    );
    order.yields("[.total[]?, .id.x?, .id[0:1]?, .total[\"x\"]?]", r#"["o"]"#);
    order.faults("error(\"no stock\")", "no stock");
    order.faults("error({a: 1})", r#"{"a":1}"#);
}

#[test]
fn the_first_output_counts_and_none_is_null() {
    let order = order();
    order.yields(".items[].sku", "\"x\"");
    order.yields("empty", "null");
    order.yields(".items[] | select(.qty > 9)", "null");
    order.yields("1, error(\"late\")", "1");
}

#[test]
fn an_error_names_the_expression_and_is_short() {
    let long = format!("[{}1]", "1,".repeat(10_000));
    let error = Expression::compile(". + 1")
        .unwrap()
        .evaluate(&given(&long))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the expression `. + 1` has no value: cannot calculate [1,1,")
    );
    assert!(error.detail.len() < 600);
}

#[test]
fn a_scope_is_asked_for_what_is_read_and_no_more() {
    for (source, asked) in [
        (".a.b", vec![".a"]),
        (".a.b + .c[0]", vec![".a", ".c"]),
        ("$context.user | .id", vec!["$context"]),
        ("{a, b: .b, c: [.d[] | .e]}", vec![".a", ".b", ".d"]),
        (".a | map(. + 1) | length", vec![".a"]),
        (".a as $x | .b + $x", vec![".a", ".b"]),
        ("first(.a[]?) // any(.b[]?; true)", vec![".a", ".b"]),
        ("\"\\(.a) \\(.b)\"", vec![".a", ".b"]),
        (".a[.b]?", vec![".a", ".b"]),
        ("1 + 1", vec![]),
        ("true", vec![]),
        (".", vec!["."]),
        (".[\"a\", \"b\"]", vec!["."]),
        (". | .a", vec!["."]),
        ("if .a then .b end", vec!["."]),
        ("keys", vec!["."]),
        ("select(.a)", vec!["."]),
    ] {
        let given = given(r#"{"a": [1], "b": 0, "c": [1], "d": [{"e": 1}]}"#);
        let expression = Expression::compile(source).unwrap();
        let _ = expression.evaluate(&given);
        assert_eq!(given.was_asked(), asked, "{source}");
        let roots = expression.roots().map(|roots| {
            roots
                .iter()
                .map(|root| format!(".{root}"))
                .collect::<Vec<_>>()
        });
        let fields = asked
            .iter()
            .filter(|asked| asked.starts_with('.'))
            .map(|field| (*field).to_owned());
        assert_eq!(
            roots,
            (!asked.contains(&".")).then(|| fields.collect()),
            "{source}"
        );
    }
}

#[test]
fn a_variable_must_be_known_when_it_is_compiled_and_defined_when_it_is_read() {
    assert!(refused("$pet.name").contains("`$pet` is not defined; there are $context, $input"));
    assert!(refused("$ENV.PATH").contains("not defined"));
    let item = Expression::compile_with("$item + \"!\"", &["item"]).unwrap();
    assert_eq!(item.evaluate(&order()).unwrap().as_str(), "\"an item!\"");
    order().faults("$task.name", "`$task` is not defined here");
    order().faults("$task.name + 1", "`$task` is not defined here");
    order().faults("$task + 1", "`$task` is not defined here");
}

#[test]
fn only_the_fields_of_a_variable_that_are_read_count() {
    let order = order();
    order.yields("$context.user.id + 1", "8");
    order.yields(
        "[$context.nope, $context.user.nope, $context[\"user\"].id]",
        "[null,null,7]",
    );
    order.yields("$context | length", "1");
    order.yields("[$context, $context.user.id][0] | length", "1");
    let item = Expression::compile_with("$item.id + 1", &["item"]).unwrap();
    assert!(
        item.evaluate(&order)
            .unwrap_err()
            .detail
            .contains("cannot index \"an item\"")
    );
}

#[test]
fn what_is_refused_is_refused_with_the_reason() {
    for (source, reason) in [
        (
            "def f: 1; f",
            "`def`, `reduce` and `foreach` are not available",
        ),
        ("reduce .[] as $x (0; . + $x)", "use `map`"),
        ("..", "`..` is not available"),
        (".a |= 1", "assignment is not available"),
        (
            "del(.a)",
            "`del` is not available: paths are not values here",
        ),
        ("test(\"a\")", "regular expressions are not bounded"),
        (
            "split(\"a\"; \"g\")",
            "`split/2` is not available, only `split/1`",
        ),
        ("[range(10)]", "it need not end"),
        ("now", "no clock"),
        ("input", "sees nothing but `.`"),
        ("@csv", "of the formats"),
        ("_add(1; 2)", "`_add` is not known"),
        ("frobnicate", "`frobnicate` is not known"),
        ("a::b", "not known"),
        ("label $x | 1", "use `first(…)`"),
        ("try error catch .", "`catch` is not available"),
        (". as [$a] | $a", "`as` binds one variable"),
        (".a +", "at its end term is expected"),
        (".a ]", "`]` at byte 3 closes nothing"),
        ("1 2", "at byte 2 nothing is expected, not `2`"),
        ("a & b", "at byte 2 a token is expected"),
        ("\"\\q\"", "string escape sequence"),
        ("", "the source is empty"),
    ] {
        let fault = refused(source);
        assert!(fault.contains(reason), "{source}: {fault}");
    }
}

#[test]
fn the_standards_own_expressions_are_admitted() {
    for source in [
        ".pets + [{ \"id\": $pet.id }]",
        ".vet != null",
        "$context + { processed: (.processed // 0) + 1 }",
        ".correlationId == $context.userId and .payload.from.firstName == $context.contact.firstName",
        "($context.consumedMessages | length) == 5",
        "\"Executing task '\\($task.reference)'...\"",
        "$task.with.endpoint != null and ($task.with.endpoint | startswith(\"https://mocked\"))",
        ".data.reading.temperature > 38",
        "{ colors: (.colors + [ $color ]), indexes: (.indexes + [ $index ])}",
        "$workflow.input[0].id",
        "[.users[] | select(.age >= 18) | {name, mail: .contact.email}]",
        "$input.petId | tostring",
        ".status | . == 503 or . == 504",
        "{ \"price\": .quantity * .unitPrice }",
    ] {
        Expression::compile_with(source, &["pet", "color", "index"])
            .unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[test]
fn an_expression_goes_between_threads() {
    fn check<T: Send + Sync + Clone>() {}
    check::<Expression>();
    check::<Template>();
}
