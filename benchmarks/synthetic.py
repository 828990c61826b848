"""Speed of scene generation: CPU time per view, by part, and the gain from the BVH.

    python benchmarks/synthetic.py [--size 252] [--num-scenes 24] [--num-views 24]

Times are CPU times of one thread, the minimum of three for each view;
other load can only lengthen them. The views per second of two threads are wall-clock figures,
printed beside the bound that CPU time gives.
"""

from __future__ import annotations

import argparse
import io
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from PIL import Image
from records import Record, Row, least_ms

from splatfactory.datasets import depth_codec
from splatfactory.datasets.generated import stored_scene
from splatscenes.raycast import render
from splatscenes.scene import GeneratedScene, generate_scene

RENDER = "rendering colour and depth"
PLAIN, SAME = "every ray tests every primitive", "the same four scenes"
VIEWS_LIMIT = 20
FIRST = 5000  # scenes from here on were never looked at during development


def without_tree(scene: GeneratedScene) -> GeneratedScene:
    """The same scene without the BVH: every ray tests every primitive."""
    world = scene.world
    plain = world._replace(nodes=world.nodes[:0], bounds=world.bounds[:0], num_in_tree=0)
    return GeneratedScene(scene.key, scene.place, plain, scene.shot)


def image_bytes(color: np.ndarray) -> bytes:
    """Encode an image as in shards."""
    buffer = io.BytesIO()
    Image.fromarray(color).save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def measure(size: int, num_scenes: int, num_views: int, rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds per view of each part, one number per scene."""
    parts: dict[str, list[float]] = {}
    for index in range(FIRST, FIRST + num_scenes):

        def build(number: int = index) -> GeneratedScene:
            return generate_scene("train", 0, number, num_views, (size, size))

        scene = build()
        view = num_views // 2
        color, depth = scene.render(view)
        camera = scene.shot.camera(view)
        times = {
            "building its share of the scene": least_ms(build, rounds) / num_views,
            RENDER: least_ms(lambda s=scene, c=camera: render(s.world, c), rounds),
            "encoding the image": least_ms(lambda c=color: image_bytes(c), rounds),
            "encoding the depth": least_ms(
                lambda d=depth: depth_codec.encode(d, is_quick=True), rounds
            ),
        }
        if index < FIRST + 4:
            plain = without_tree(scene)
            times[PLAIN] = least_ms(lambda s=plain, c=camera: render(s.world, c), 1)
            times[SAME] = times[RENDER]
        for name, value in times.items():
            parts.setdefault(name, []).append(value)
    return parts


def by_the_clock(size: int, num_scenes: int, num_views: int) -> float:
    """Wall-clock views per second of two threads that generate and encode scenes."""

    def make(index: int) -> None:
        stored_scene(generate_scene("train", 0, index, num_views, (size, size)))

    start = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, range(FIRST, FIRST + num_scenes)))
    return num_scenes * num_views / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=252)
    parser.add_argument("--num-scenes", type=int, default=24)
    parser.add_argument("--num-views", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    generate_scene("train", 0, FIRST, 2, (32, 32)).render(0)  # compile first
    parts = measure(options.size, options.num_scenes, options.num_views, options.rounds)
    record = Record("synthetic", f"Generating scenes, views of {options.size} × {options.size}")
    own = [name for name in parts if name not in (PLAIN, SAME)]
    for name in own:
        record.add(Row(f"a view: {name}", float(np.mean(parts[name])), "ms"))
    total = sum(float(np.mean(parts[name])) for name in own)
    record.add(Row("a view with exact depth, in all", total, "ms"))
    same, plain = (float(np.mean(parts[name])) for name in (SAME, PLAIN))
    record.add(Row(f"a view: {RENDER} (4 scenes)", same, "ms", PLAIN, plain))
    clock = by_the_clock(options.size, min(options.num_scenes, 12), options.num_views)
    row = Row("scenes on two threads, by the clock", clock, "views/s", "two threads by CPU time")
    bound = 2e3 / total
    record.add(replace(row, peer_value=bound, more_is_better=True, limit=VIEWS_LIMIT))
    record.save()


if __name__ == "__main__":
    main()
