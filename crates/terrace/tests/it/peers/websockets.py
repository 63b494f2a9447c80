"""Holds WebSockets through whatever happens, and says whether each message came back on each of them."""

import asyncio
import os
import sys

import websockets

COUNT = 20


async def talk(url, opened):
    async with websockets.connect(url, compression=None, open_timeout=30) as socket:
        for number in range(5):
            await echo(socket, f"before {number}")
        opened.release()
        number = 0
        while not os.path.exists("changed"):
            await echo(socket, f"meanwhile {number}")
            number += 1
            await asyncio.sleep(0.01)
        await echo(socket, "after " + "x" * 100_000)
        await (await socket.ping())


async def echo(socket, text):
    await socket.send(text)
    back = await asyncio.wait_for(socket.recv(), 30)
    assert back == text, (text[:20], back[:20])


async def main():
    opened = asyncio.Semaphore(0)
    talks = [asyncio.create_task(talk(sys.argv[1], opened)) for _ in range(COUNT)]
    waiting = asyncio.create_task(all_open(opened))
    done, _ = await asyncio.wait([waiting, *talks], return_when=asyncio.FIRST_COMPLETED)
    if waiting in done:
        with open("open", "w"):
            pass
    await asyncio.gather(*talks)
    print(f"{COUNT} sockets, all in order")


async def all_open(opened):
    for _ in range(COUNT):
        await opened.acquire()


asyncio.run(main())
