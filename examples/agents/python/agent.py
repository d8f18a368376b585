"""An agent of EventFlow over NATS: it doubles `n`. README.md says how to run it."""
import asyncio, json, os, signal
import nats

TENANT, CAPABILITY, AT_ONCE = "default", os.environ.get("CAPABILITY", "double"), 10


async def perform(input):
    return {"doubled": input["n"] * 2}


async def main():
    servers = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
    client = await nats.connect(servers, max_reconnect_attempts=-1)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def say(token, **words):
        while True:  # no answer, or not now: every word may be said again
            try:
                body = json.dumps({"token": token, **words}).encode()
                answer = json.loads((await client.request(f"eventflow.results.{TENANT}", body, timeout=5)).data)
                if answer.get("status") not in (429, 500, 503):
                    return answer
            except nats.errors.Error as error:
                print(f"not heard: {error!r}", flush=True)
            await asyncio.sleep(1)

    async def beat(token):
        while await asyncio.sleep(20, True):
            await say(token, heartbeat={})

    async def attempt(message):
        task = json.loads(message.data)
        begun = await say(task["token"], begin={"agent": "python"})
        await message.ack()  # from now on the lease guards the attempt, for 60 s from each heartbeat
        if not begun.get("granted"):
            return  # paused, stopped, or somebody else's
        heart = asyncio.create_task(beat(task["token"]))
        try:
            result = {"complete": {"output": await perform(task["input"])}}
        except Exception as error:
            result = {"fail": {"error": {"title": "Agent failed", "detail": repr(error)}}}
        heart.cancel()
        await say(task["token"], **result)  # 200: it is durable; 404 or 409: nobody wants it any more

    async def work():
        queue = await client.jetstream().pull_subscribe_bind(f"{TENANT}-{CAPABILITY}", "EVENTFLOW_TASKS")
        while not stop.is_set():
            try:
                await attempt((await queue.fetch(1, timeout=5))[0])
            except nats.errors.TimeoutError:
                pass  # nothing to do for 5 s
            except nats.errors.Error as error:
                print(f"no task: {error!r}", flush=True)
                await asyncio.sleep(1)

    print(f"serving {CAPABILITY}", flush=True)
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))  # each performs one task at a time
    await client.close()


asyncio.run(main())
