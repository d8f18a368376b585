"""An agent of EventFlow over NATS: it doubles `n`. README.md says how to run it."""
import asyncio, json, nats, os, signal
from contextlib import suppress

TENANT, CAPABILITY, AT_ONCE = "default", os.environ.get("CAPABILITY", "double"), 10

async def perform(input):
    return {"doubled": input["n"] * 2}

async def say(client, token, **words):
    body = json.dumps({"token": token, **words}).encode()
    while True:
        with suppress(nats.errors.Error):
            answer = json.loads((await client.request(f"eventflow.results.{TENANT}", body, timeout=5)).data)
            if answer.get("status") not in (429, 500, 503):
                return answer
        await asyncio.sleep(1)  # no answer, or not now: every word may be said again

async def beat(client, token):
    while await asyncio.sleep(20, True):
        await say(client, token, heartbeat={})

async def attempt(client, message):
    task = json.loads(message.data)
    begun = await say(client, task["token"], begin={"agent": "python"})
    await message.ack()  # from now on the lease guards the attempt, for 60 s from each heartbeat
    if not begun.get("granted"):
        return  # paused, stopped, or somebody else's
    heart = asyncio.create_task(beat(client, task["token"]))
    try:
        result = {"complete": {"output": await perform(task["input"])}}
    except Exception as error:
        result = {"fail": {"error": {"title": "Agent failed", "detail": repr(error)}}}
    heart.cancel()
    await say(client, task["token"], **result)  # 200: it is durable; 404 or 409: nobody wants it any more

async def work(client, stop):
    queue = await client.jetstream().pull_subscribe_bind(f"{TENANT}-{CAPABILITY}", "EVENTFLOW_TASKS")
    while not await asyncio.sleep(0.01, stop.is_set()):
        with suppress(nats.errors.Error):  # a time-out: nothing to do for 5 s
            await attempt(client, (await queue.fetch(1, timeout=5))[0])

async def main():
    client = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"serving {CAPABILITY}", flush=True)
    await asyncio.gather(*(work(client, stop) for _ in range(AT_ONCE)))  # each performs one task at a time

asyncio.run(main())
