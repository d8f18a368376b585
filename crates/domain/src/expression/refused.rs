//! Why a name is not available: the reason, and what to write instead.

/// Names of jq that tier 1 leaves out, by reason.
const REASONS: &[(&[&str], &str)] = &[
    (
        &["test", "match", "capture", "scan", "splits", "sub", "gsub"],
        "regular expressions are not bounded; compare with `==`, `startswith`, `endswith`, `contains` or `split`",
    ),
    (
        &[
            "range",
            "repeat",
            "until",
            "while",
            "limit",
            "skip",
            "recurse",
            "combinations",
            "walk",
            "paths",
            "leaf_paths",
            "tostream",
            "fromstream",
            "truncate_stream",
        ],
        "it need not end, or yields more than it is given; use `map`, `select`, `first`, `any`, `all`",
    ),
    (
        &["path", "pick", "getpath", "setpath", "delpaths", "del"],
        "paths are not values here; read with `.a.b`, build with `{…}`, `with_entries`, `map_values`",
    ),
    (
        &[
            "now",
            "localtime",
            "strflocaltime",
            "mktime",
            "gmtime",
            "strftime",
            "strptime",
            "todate",
            "fromdate",
            "date",
            "dateadd",
            "datesub",
            "todateiso8601",
            "fromdateiso8601",
        ],
        "an expression has no clock and no calendar; read `$workflow.startedAt`, or let a task compute it",
    ),
    (
        &[
            "env",
            "input",
            "inputs",
            "debug",
            "stderr",
            "halt",
            "halt_error",
            "input_filename",
            "input_line_number",
            "get_search_list",
            "modulemeta",
            "import",
            "include",
            "builtins",
        ],
        "an expression sees nothing but `.` and its variables",
    ),
    (
        &["@csv", "@tsv", "@html", "@htmld", "@sh", "@urid"],
        "of the formats there are `@text`, `@json`, `@base64`, `@base64d` and `@uri`",
    ),
];

/// What to say about a call of `name` with so many arguments that is not known.
pub(super) fn call(name: &str, arguments: usize, known_with: Option<usize>) -> String {
    if let Some(expected) = known_with {
        return format!("`{name}/{arguments}` is not available, only `{name}/{expected}`");
    }
    let reason = REASONS
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map(|(_, reason)| reason);
    match reason {
        Some(reason) => format!("`{name}` is not available: {reason}"),
        None => format!("`{name}` is not known"),
    }
}

/// What to say about a variable that is not one of these.
pub(super) fn variable(name: &str, known: &[&str]) -> String {
    let known = known
        .iter()
        .map(|name| format!("${name}"))
        .collect::<Vec<_>>()
        .join(", ");
    format!("`{name}` is not defined; there are {known}, and what `… as $name |` binds")
}

/// `def`, `reduce` and `foreach`.
pub(super) const LOOPS: &str = "`def`, `reduce` and `foreach` are not available: what they compute need not end; \
    use `map`, `select`, `add`, `any`, `all`, `group_by`";
/// `=`, `|=`, `+=` and the like.
pub(super) const ASSIGNMENT: &str = "assignment is not available: build the new value, as in `. + {a: 1}` or with \
    `with_entries` and `map_values`";
/// `..`
pub(super) const RECURSION: &str =
    "`..` is not available: it yields every value at any depth; name the path";
/// `label` and `break`.
pub(super) const LABEL: &str = "`label` and `break` are not available: use `first(…)`";
/// `try … catch …`
pub(super) const CATCH: &str =
    "`catch` is not available: write `(…)? // …`, or catch the error with a task's `try`";
/// `. as [$a, $b] | …`
pub(super) const PATTERN: &str = "`as` binds one variable here: write `.a as $a | .b as $b | …`";
