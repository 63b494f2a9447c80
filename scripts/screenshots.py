"""The pictures of the dashboard in the documentation, taken anew: `make screenshots`.

Runs the example shop under Terrace as the demo does, with a few people who shop in it. When the charts have something to
show it takes the calm pictures; then the bank is silent for a while, and another service fails so that an objective calls, and it
takes the others.
Chromium takes them (crates/terrace/tests/browser/screenshots.mjs). Whatever else it writes is under target/screenshots.
"""

import argparse
import asyncio
import os
import sys

import demo

IMAGES = demo.ROOT / "docs/images"
SCRIPT = demo.ROOT / "crates/terrace/tests/browser/screenshots.mjs"
# Charts of the last five minutes are then nearly full.
CALM_S = 280
# Long enough that its budget shows it, short enough that the charts show its end.
TROUBLE_S = 40
AFTERMATH_S = 15
# Figures on the map are of ten seconds.
OUTAGE_S = 12


async def watched(screen, what, seconds):
    """Lets the shop be for a while."""
    for left in range(seconds, 0, -1):
        screen.progress(f"{what}: {left} s")
        await asyncio.sleep(1)
    screen.good(what)


async def photograph(screen, shop, *names):
    env = {**os.environ, "SHOP": shop.url}
    process = await asyncio.create_subprocess_exec("node", SCRIPT, await shop.dashboard(), IMAGES, *names, env=env)
    screen.clear_progress()
    if await process.wait() != 0:
        raise demo.Failed("the pictures were not taken; what the browser said is above")


async def take(screen, shop, calm_s):
    await shop.start()
    shoppers = asyncio.create_task(demo.shop_on(shop.port))
    try:
        await watched(screen, "people shop, and all is well", calm_s)
        await photograph(screen, shop, "overview", "phone", "trace")
        async with demo.Crowd(shop.port) as crowd:
            await shop.switch("payments", "?mute=100%25&for=120s")
            await demo.until(lambda: shop.is_cut_off("payments"), "the breaker to open", screen)
            await watched(screen, "the bank is silent", OUTAGE_S)
            await photograph(screen, shop, "outage", "shop-kept")
            await shop.switch("payments", "")
            await demo.until(lambda: crowd.waiting == 0, "the kept orders to be paid", screen)
        await shop.switch("catalog", f"?fail=40%25&for={TROUBLE_S}s")
        await watched(screen, "the catalog fails now and then", TROUBLE_S)
        await photograph(screen, shop, "overview-dark")
        await watched(screen, "it is well again", AFTERMATH_S)
        await photograph(screen, shop, "route", "objective")
    finally:
        shoppers.cancel()


async def run(arguments):
    screen = demo.Screen()
    demo.FOLDER = demo.TARGET / "screenshots"
    shop = demo.Shop(screen, arguments.profile, demo.free_port())
    try:
        await shop.clear_the_way()
        shop.prepare()
        IMAGES.mkdir(parents=True, exist_ok=True)
        await take(screen, shop, arguments.calm)
        return 0
    except demo.Failed as failed:
        screen.bad(str(failed))
        return 1
    finally:
        await shop.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="release", help="whose binaries: release (default) or debug")
    parser.add_argument("--calm", type=int, default=CALM_S, help=f"seconds of shopping before the first picture ({CALM_S})")
    sys.exit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
