"""Prints the README's table of results: every row measured now, on this machine, by `eventflow bench --embedded`.

Usage: python3 tests/bench_table.py [path of the eventflow binary]
"""

import json
import os
import subprocess
import sys

EVENTFLOW = sys.argv[1] if len(sys.argv) > 1 else "target/release/eventflow"

# What is measured: a name, the flags, and which figures tell it.
ROWS = [
    ("agent steps, single completions, 256 in flight",
     "--workload sequence --executions 10000 --concurrency 256 --steps 3 --results single", "rate"),
    ("agent steps, batched results, 256 in flight",
     "--workload sequence --executions 20000 --concurrency 256 --steps 3 --results batched", "rate"),
    ("agent steps, batched results, 64 in flight",
     "--workload sequence --executions 5000 --concurrency 64 --steps 3 --results batched", "rate"),
    ("`set` steps inside the service, 64 in flight",
     "--workload local --executions 10000 --concurrency 64 --steps 3", "rate"),
    ("HTTP steps against a local stub, 64 in flight",
     "--workload http --executions 3000 --concurrency 64 --steps 3", "rate"),
    ("three agent steps alone", "--workload latency --executions 500 --concurrency 1 --steps 3", "time"),
    ("100 parallel agent steps", "--workload fanout --executions 50 --concurrency 1 --steps 100 --results batched",
     "time"),
    ("1,000 executions at once, 3 steps of 100 ms each",
     "--workload sequence --executions 1000 --concurrency 1000 --steps 3 --step-ms 100 --agent-concurrency 1000 "
     "--results batched", "both"),
]


def measure(flags):
    output = subprocess.run([EVENTFLOW, "bench", "--embedded", "--json", *flags.split()],
                            check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def number(value, unit=""):
    if value is None:
        return "–"
    return (f"{value:,.0f}" if value >= 100 else f"{value:.1f}") + unit


def main():
    print("| | steps/s | start to end p50 / p95 | routing p95 | device bytes per step | peak RSS |")
    print("|---|---|---|---|---|---|")
    for name, flags, tells in ROWS:
        result = measure(flags)
        rate = number(result["stepsPerSecond"]) if tells != "time" else ""
        times = f'{number(result["p50Ms"])} / {number(result["p95Ms"], " ms")}'
        print(f'| {name} | {rate} | {times} | {number(result["routingP95Ms"], " ms")} '
              f'| {number(result["deviceBytesPerStep"])} | {number(result["rssMiB"], " MiB")} |')
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                  if line.startswith("model name")), "an unknown processor")
    print(f"\n{os.cpu_count()} cores ({model}), Linux {os.uname().release}.")


if __name__ == "__main__":
    main()
