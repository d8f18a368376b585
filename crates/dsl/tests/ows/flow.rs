//! Where the flow goes: `then`, `switch`, branches side by side.

USES

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
