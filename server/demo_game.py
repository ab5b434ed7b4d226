"""The demo's program: a few seconds of a small game that tells a lake what it does. Prints its process id.

python -m server.demo_game http://127.0.0.1:9000 240
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time

from lakeflight.telemetry import Telemetry, float_metric, integer_metric, span, span_fn

log = logging.getLogger("game")
FRAME_S = 1 / 120
MAIN_THREAD = "GameThread"


@span_fn
def update_physics(bodies: list[list[float]]) -> None:
    """Move everything a little."""
    for body in bodies:
        with span("Body::Integrate"):
            body[0] += body[1] * FRAME_S


@span_fn
def update_animation(bones: int) -> float:
    """A sum that takes a while."""
    return sum(index * 0.5 for index in range(bones * 20))


def render(frames: int, finished: threading.Event) -> None:
    """The second thread."""
    for _ in range(frames):
        with span("RenderFrame"):
            with span("CullScene"):
                update_animation(20)
            with span("SubmitDraws"):
                time.sleep(FRAME_S / 4)
    finished.set()


def play(frames: int) -> None:
    """Frames on two threads, with logs and metrics."""
    chance = random.Random(7)
    bodies = [[chance.random(), chance.random()] for _ in range(12)]
    finished = threading.Event()
    threading.Thread(target=render, args=(frames, finished), name="RenderThread", daemon=True).start()
    log.info("level loaded", extra={"level_name": "harbour"})
    for frame in range(frames):
        begin = time.perf_counter()
        with span("GameFrame"):
            update_physics(bodies)
            update_animation(chance.randint(10, 120))
            with span("Scripts"):
                if frame % 60 == 30:
                    log.warning("script %s took long", f"door_{frame}")
                    time.sleep(FRAME_S / 2)
        took_ms = (time.perf_counter() - begin) * 1e3
        float_metric("frame_time", took_ms, unit="ms")
        integer_metric("bodies", len(bodies), unit="count")
        time.sleep(max(0.0, FRAME_S - took_ms / 1e3))
    log.info("level finished after %d frames", frames)
    finished.wait(10)


def main() -> None:
    """Play, and wait until everything has been sent."""
    endpoint, frames = sys.argv[1], int(sys.argv[2])
    telemetry = Telemetry(endpoint, exe="harbour-game", properties={"build": "demo"})
    telemetry.install()
    logging.basicConfig(level=logging.INFO, handlers=[telemetry.logging_handler()])
    threading.current_thread().name = MAIN_THREAD
    play(frames)
    process_id = telemetry.process_id
    telemetry.close()
    print(process_id)


if __name__ == "__main__":
    main()
