# Everything a person does here. `just` lists it; `just ci` is exactly what runs on every change.

set positional-arguments

[private]
default:
    @just --list --unsorted

# run the service on its embedded default
run *args:
    cargo run --release -- "$@"

# every test, real NATS servers included
test *args:
    cargo test --workspace "$@"

# the system tests that any store serves, on a NATS server
test-nats:
    EVENTFLOW_TEST_STORE=nats cargo test --workspace --test workflows --test kill --test hostile

# what runs on every change: format, lints, docs, packages, tests
ci:
    bash .ci/run

fmt:
    cargo fmt --all

lint:
    cargo clippy --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# licences, sources and bans of every package
deny:
    cargo deny --all-features check bans licenses sources

# the speed of the service as it is built here, against the table in the README
bench *args:
    cargo build --release -p event-flow-workflow-execution -p eventflow
    target/release/eventflow bench --embedded "$@"

# every row of the README's table
bench-table:
    cargo build --release -p event-flow-workflow-execution -p eventflow
    python3 tests/bench_table.py

# kills the service under load so many times and checks everything that it acknowledged
kill-test kills="200":
    EVENTFLOW_KILLS={{kills}} cargo test --release -p eventflow-tests --test kill -- --nocapture

# the same on NATS, where the server and both are killed in turn
kill-test-nats kills="100":
    EVENTFLOW_TEST_STORE=nats EVENTFLOW_KILLS={{kills}} cargo test --release -p eventflow-tests --test kill -- --nocapture

# three servers, three nodes, agents and load over NATS, and so many faults in a row
cluster-test faults="100":
    EVENTFLOW_FAULTS={{faults}} cargo test --release -p eventflow-tests --test cluster -- --nocapture

# fails every port call of four workflows before and after it took effect; on NATS each tenth one
crash-everywhere:
    EVENTFLOW_CRASH_EVERY=10 cargo test --release -p eventflow-engine --test crash_everywhere -- --nocapture

# takes the power away from a recorded run so many times, and starts from what the disk may hold
power-loss losses="500":
    EVENTFLOW_POWER_LOSSES={{losses}} cargo test --release -p eventflow-tests --test power_loss -- --nocapture

# the same power loss again, as a failed run has named it: <its number>:<trace>
power-loss-again loss:
    EVENTFLOW_POWER_LOSS={{loss}} cargo test -p eventflow-tests --test power_loss -- --nocapture

# the model of fence and take-over, with more batches than on every change
model batches="3":
    EVENTFLOW_BATCHES={{batches}} cargo test --release -p eventflow-tests --test model -- --nocapture

# starts on a store with so many finished executions and a hundredth of open ones
large-store finished="100000":
    EVENTFLOW_FINISHED={{finished}} EVENTFLOW_READY_MS=300 cargo test --release -p eventflow-tests --test large_store -- --nocapture

# keeps the service busy for so many minutes, kills it each minute, and looks at what it uses
soak minutes="60" rate="200":
    EVENTFLOW_SOAK_MINUTES={{minutes}} EVENTFLOW_SOAK_RATE={{rate}} cargo test --release -p eventflow-tests --test soak -- --nocapture

# the engine in so many small worlds that go wrong; `--seed 7` tells the whole story of one
simulate *args:
    cargo run --release -p eventflow-simulation -- "$@"

# counts what a step costs, in stores with 100,000 finished executions
cost:
    EVENTFLOW_FINISHED=100000 cargo test --release -p eventflow-engine --test cost -- --nocapture

# what the NATS journal can take, single server
bench-journal:
    cargo run --release -p eventflow-adapter-nats --example journal_bench

# random bytes for documents, records, bodies or expressions: executions, coverage, crashes
fuzz target="documents" seconds="60":
    bash fuzz/run "{{target}}" "{{seconds}}"
