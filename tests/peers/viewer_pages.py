"""Pages that show one file in third-party viewers, from a given camera.

Each function writes what its viewer needs into the served folder and returns the address of the
page and a script to run before it. `window.loaded` becomes true when the scene has been read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

ASPECT = 4 / 3  # of the images

_IMPORTS = {
    "three": "/node_modules/three/build/three.module.js",
    "three/webgpu": "/node_modules/three/build/three.webgpu.js",
    "three/tsl": "/node_modules/three/build/three.tsl.js",
    "three/addons/": "/node_modules/three/examples/jsm/",
    "@sparkjsdev/spark": "/node_modules/@sparkjsdev/spark/dist/spark.module.js",
    "@mkkellogg/gaussian-splats-3d": "/node_modules/@mkkellogg/gaussian-splats-3d/build/"
    "gaussian-splats-3d.module.js",
}
_PAGE = """<!DOCTYPE html><html><body style="margin:0;overflow:hidden">
<script type="importmap">{{"imports": {imports}}}</script>
<script type="module">{script}</script></body></html>"""

_SPARK = """
import * as THREE from "three";
import {{ SparkRenderer, SplatMesh }} from "@sparkjsdev/spark";
const view = {view};
const renderer = new THREE.WebGLRenderer({{ antialias: false }});
renderer.setSize(innerWidth, innerHeight);
renderer.setClearColor(0xffffff, 1);
document.body.append(renderer.domElement);
const camera = new THREE.PerspectiveCamera(view.fov, innerWidth / innerHeight, 0.01, 1000);
camera.up.set(...view.up);
camera.position.set(...view.position);
camera.lookAt(...view.target);
const scene = new THREE.Scene();
scene.add(new SparkRenderer({{ renderer }}));
scene.add(new SplatMesh({{ url: "{file}", onLoad: () => {{ window.loaded = true; }} }}));
renderer.setAnimationLoop(() => renderer.render(scene, camera));
"""

_MKKELLOGG = """
import * as GaussianSplats3D from "@mkkellogg/gaussian-splats-3d";
const view = {view};
const viewer = new GaussianSplats3D.Viewer({{
  cameraUp: view.up, initialCameraPosition: view.position, initialCameraLookAt: view.target,
  sharedMemoryForWorkers: false, sphericalHarmonicsDegree: 1, useBuiltInControls: false,
  sceneRevealMode: GaussianSplats3D.SceneRevealMode.Instant,
}});
await viewer.addSplatScene("{file}", {{ showLoadingUI: false, progressiveLoad: false }});
viewer.renderer.setClearColor(0xffffff, 1);
viewer.start();
// It sorts when the camera has moved far enough, so: away, and back to where it shall be.
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
await wait(500);
viewer.camera.position.set(...view.position.map((value) => -value));
viewer.camera.lookAt(...view.target);
await wait(1500);
viewer.camera.position.set(...view.position);
viewer.camera.lookAt(...view.target);
await wait(1500);
window.loaded = true;
"""

_THREE_GLTF = """
import {{ GLTFLoader }} from "three/addons/loaders/GLTFLoader.js";
import {{ GLTFGaussianSplatLoaderExtension as Splats }} from
  "three/addons/loaders/GLTFGaussianSplatLoaderExtension.js";
const loader = new GLTFLoader().register((parser) => new Splats(parser));
const {{ scene }} = await loader.loadAsync("{file}");
window.splats = {{}};
scene.traverse((object) => {{
  for (const [name, values] of Object.entries(object.splatGeometry?.attributes ?? {{}})) {{
    window.splats[name] = [...values.array];
  }}
}});
window.loaded = true;
"""


@dataclass(frozen=True)
class View:
    """A camera in the axes of the viewer; vertical field of view in degrees."""

    position: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    fov: float

    def turned_about(self, axis: str) -> View:
        """The same view of a scene rotated by 180° about x or z."""
        signs = {"x": (1, -1, -1), "z": (-1, -1, 1)}[axis]

        def turn(vector):
            return tuple(s * v for s, v in zip(signs, vector, strict=True))

        return View(turn(self.position), turn(self.target), turn(self.up), self.fov)


def _written(folder: Path, script: str, file: str, view: View | None) -> str:
    values = {"file": f"/{file}", "view": json.dumps(vars(view)) if view else "null"}
    text = _PAGE.format(imports=json.dumps(_IMPORTS), script=script.format(**values))
    (folder / "viewer.html").write_text(text, encoding="utf-8")
    return "/viewer.html"


def spark(folder: Path, file: str, view: View) -> tuple[str, str]:
    return _written(folder, _SPARK, file, view), ""


def mkkellogg(folder: Path, file: str, view: View) -> tuple[str, str]:
    return _written(folder, _MKKELLOGG, file, view), ""


def three_gltf(folder: Path, file: str) -> str:
    """`window.splats` holds the attributes that three.js made of a .glb."""
    return _written(folder, _THREE_GLTF, file, None)


def supersplat(folder: Path, file: str, view: View) -> tuple[str, str]:
    """It rotates a .ply by 180° about z itself, and uses the larger field of view."""
    turned = view.turned_about("z")
    wide = 2 * math.degrees(math.atan(ASPECT * math.tan(math.radians(view.fov) / 2)))
    camera = {"position": turned.position, "target": turned.target, "fov": wide}
    settings = {
        "camera": {**camera, "startAnim": "none", "animTrack": ""},
        "background": {"color": [1, 1, 1]},
        "animTracks": [],
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    base = "/node_modules/@playcanvas/supersplat-viewer/public/index.html"
    query = f"?content=/{file}&settings=/settings.json&webgl&noui&noanim"
    return base + query, "window.firstFrame = () => { window.loaded = true; }"
