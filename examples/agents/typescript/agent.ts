// An agent of EventFlow over NATS: it doubles `n`. README.md says how to run it.
import { setTimeout as sleep } from "node:timers/promises";
import { jetstream, type JsMsg } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const [tenant, capability, atOnce] = ["default", process.env.CAPABILITY ?? "double", 10];
const servers = process.env.NATS_URL ?? "nats://127.0.0.1:4222";
const client = await connect({ servers, maxReconnectAttempts: -1 });
let running = true;
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => (running = false));

async function perform(input: { n: number }): Promise<unknown> {
  return { doubled: input.n * 2 };
}

async function say(words: object): Promise<any> {
  for (;; await sleep(1_000)) { // no answer, or not now: every word may be said again
    const asked = client.request(`eventflow.results.${tenant}`, JSON.stringify(words), { timeout: 5_000 });
    const answer: any = await asked.then((message) => message.json()).catch(() => ({ status: 503 }));
    if (![429, 500, 503].includes(answer.status)) return answer;
  }
}

async function attempt(message: JsMsg): Promise<void> {
  const { token, input } = message.json<{ token: string; input: { n: number } }>();
  const { granted } = await say({ token, begin: { agent: "typescript" } });
  message.ack(); // from now on the lease guards the attempt, for 60 s from each heartbeat
  if (!granted) return; // paused, stopped, or somebody else's
  const heart = setInterval(() => say({ token, heartbeat: {} }), 20_000);
  const failed = (error: unknown) => ({ fail: { error: { title: "Agent failed", detail: String(error) } } });
  const result = await perform(input).then((output) => ({ complete: { output } }), failed);
  clearInterval(heart);
  await say({ token, ...result }); // 200: it is durable; 404 or 409: nobody wants it any more
}

async function work(): Promise<void> {
  const take = async () => {
    const queue = await jetstream(client).consumers.get("EVENTFLOW_TASKS", `${tenant}-${capability}`);
    const message = await queue.next({ expires: 5_000 });
    if (message) await attempt(message);
  };
  while (running) await take().catch((error) => sleep(1_000, console.warn(`no task: ${error}`)));
}

console.log(`serving ${capability}`);
await Promise.all(Array.from({ length: atOnce }, work)); // each performs one task at a time
await client.drain();
