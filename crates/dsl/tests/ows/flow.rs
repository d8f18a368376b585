//! Where the flow goes and when: `then`, `switch`, branches side by side, and waiting.

use eventflow_domain::plan::{Kind, Then};

use crate::{
    check_fault, node,
    support::{outline, plan, tasks},
};

#[test]
fn then_reaches_siblings_forward_and_backward() {
    let plan = plan(&tasks(
        "
- a: {set: {x: 1}, then: c}
- b: {set: {x: 2}, then: end}
- c: {set: {x: 3}, then: b}
- d: {set: {x: 4}, then: continue}
",
    ));
    let target = |pointer| node(&plan, pointer).then;
    assert_eq!(target("/do/0/a"), Then::Task(plan.find("/do/2/c").unwrap()));
    assert_eq!(target("/do/2/c"), Then::Task(plan.find("/do/1/b").unwrap()));
    assert_eq!(target("/do/1/b"), Then::End);
    assert_eq!(target("/do/3/d"), Then::Continue);
}

#[test]
fn the_default_case_is_tried_last_wherever_it_stands() {
    let plan = plan(&tasks(
        "
- choose:
    switch:
      - otherwise: {then: exit}
      - large: {when: '${ .amount > 100 }', then: next}
      - small: {when: .amount < 1, then: end}
- next: {set: {a: 1}}
",
    ));
    let Kind::Switch(cases) = &node(&plan, "/do/0/choose").kind else {
        panic!("a switch")
    };
    let names: Vec<(&str, bool)> = cases
        .iter()
        .map(|case| (&*case.name, case.when.is_some()))
        .collect();
    assert_eq!(
        names,
        [("large", true), ("small", true), ("otherwise", false)]
    );
    assert_eq!(cases[0].then, Then::Task(plan.find("/do/1/next").unwrap()));
}

#[test]
fn then_reaches_nothing_but_siblings() {
    check_fault(
        "\n- a: {do: [{b: {set: {x: 1}}}]}\n- c: {set: {x: 1}, then: b}\n",
        "/do/1/c/then",
        "no task `b`",
    );
    check_fault(
        "\n- greet: {set: {x: 1}, then: greed}\n",
        "/do/0/greet/then",
        "did you mean `greet`?",
    );
}

#[test]
fn branches_run_side_by_side() {
    let plan = plan(&tasks(
        "
- all:
    fork:
      branches:
        - one: {set: {x: 1}, then: exit}
        - two: {do: [{inner: {set: {x: 2}}}]}
- first:
    fork:
      compete: true
      branches:
        - three: {switch: [{a: {when: .x, then: end}}]}
    timeout: {after: PT1M}
",
    ));
    insta::assert_snapshot!(outline(&plan), @r##"
default/test:1.0.0 timeout 86400000 ms
/do `do` in -: sequence of all, first
/do/0/all `all` in /do: fork of one, two
/do/0/all/fork/branches/0/one `one` in /do/0/all: set
    then exit
    set {"x":1}
/do/0/all/fork/branches/1/two `two` in /do/0/all: sequence of inner
/do/0/all/fork/branches/1/two/do/0/inner `inner` in /do/0/all/fork/branches/1/two: set
    set {"x":2}
/do/1/first `first` in /do: race of three
    timeout 60000 ms
/do/1/first/fork/branches/0/three `three` in /do/1/first: switch
    a: .x -> end
"##);
}

#[test]
fn a_branch_has_no_siblings_to_go_to() {
    let branch = |then: &str| {
        format!("\n- f: {{fork: {{branches: [{{a: {{{then}}}}}, {{b: {{set: {{x: 1}}}}}}]}}}}\n")
    };
    let at = "/do/0/f/fork/branches/0/a";
    check_fault(
        &branch("set: {x: 1}, then: b"),
        &format!("{at}/then"),
        "`b` runs beside this branch",
    );
    check_fault(
        &branch("switch: [{c: {then: b}}]"),
        &format!("{at}/switch/0/c/then"),
        "`b` runs beside this branch",
    );
    check_fault(
        &branch("set: {x: 1}, then: exti"),
        &format!("{at}/then"),
        "did you mean `exit`?",
    );
    // Within a branch there are.
    plan(&tasks(&branch(
        "do: [{c: {set: {x: 1}, then: c}}], then: end",
    )));
}

#[test]
fn a_fork_has_branches() {
    for (fork, pointer, says) in [
        ("{}", "", "must have the property `branches`"),
        ("{branches: []}", "/branches", "at least one task"),
        (
            "{branches: {a: {set: {x: 1}}}}",
            "/branches",
            "must be an array",
        ),
        (
            "{branches: [{a: {set: {x: 1}}}], compete: 'yes'}",
            "/compete",
            "true or false",
        ),
        (
            "{branches: [{a: {set: {x: 1}}}], competes: true}",
            "/competes",
            "did you mean `compete`?",
        ),
        (
            "{branches: [{a: {set: {x: 1}}}, {a: {set: {x: 1}}}]}",
            "/branches/1/a",
            "already",
        ),
        ("[{a: {set: {x: 1}}}]", "", "must be an object"),
    ] {
        let pointer = format!("/do/0/f/fork{pointer}");
        check_fault(&format!("\n- f: {{fork: {fork}}}\n"), &pointer, says);
    }
}

#[test]
fn a_wait_is_written_out_or_computed() {
    let plan = plan(&tasks(
        "
- iso: {wait: PT1M30S}
- object: {wait: {minutes: 1, milliseconds: 5}}
- none: {wait: PT0S}
- computed: {wait: '${ .patience }', then: iso}
",
    ));
    insta::assert_snapshot!(outline(&plan), @r##"
default/test:1.0.0 timeout 86400000 ms
/do `do` in -: sequence of iso, object, none, computed
/do/0/iso `iso` in /do: wait 90000 ms
/do/1/object `object` in /do: wait 60005 ms
/do/2/none `none` in /do: wait 0 ms
/do/3/computed `computed` in /do: wait ${ .patience }
    then /do/0/iso
"##);
}

#[test]
fn what_is_no_time_to_wait_is_refused() {
    for (wait, says) in [
        ("30s", "is not a duration"),
        ("P1M", "no fixed length"),
        ("30", "must be a duration"),
        ("{}", "at least one of days"),
        ("'${ .x[ }'", "is not accepted"),
        ("'${ $error.after }'", "$error"),
    ] {
        let text = format!("\n- w: {{wait: {wait}}}\n");
        check_fault(&text, "/do/0/w/wait", says);
    }
    check_fault(
        "\n- w: {wait: {second: 1, minutes: 1}}\n",
        "/do/0/w/wait/second",
        "did you mean `seconds`?",
    );
    check_fault(
        "\n- w: {wait: {seconds: -1}}\n",
        "/do/0/w/wait/seconds",
        "must be an integer",
    );
}
