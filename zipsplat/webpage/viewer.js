// The page: reads the scene, keeps it sorted for the camera, and wires the buttons.
//
// For scripts: `await zipsplat.ready`, then `await zipsplat.look(position, axes, fovY)` with the
// camera's position and its axes right, down, forward in the axes of the .ply (y down); resolves
// when the sorted image has been rendered, as `await zipsplat.rest()` does for the present camera.

const config = JSON.parse(document.getElementById("config").textContent);
const element = (id) => document.getElementById(id);
const canvas = document.querySelector("canvas");

class Viewer {
  constructor(scene) {
    this.scene = scene;
    this.camera = new Camera(config.start);
    this.renderer = new Renderer(canvas, scene, config.background);
    this.controls = new Controls(canvas, this.camera, () => this.touched());
    this.namePhoto(0);
    this.flight = null;
    this.playing = false;
    this.wiggle = 0;
    this.pathTime = 0; // seconds into the path
    this.quality = 1;
    this.lastFrame = performance.now();
    this.waiting = [];
    this.startSorter();
    new ResizeObserver(() => this.redraw()).observe(canvas);
    canvas.addEventListener("webglcontextlost", () => status("The graphics were reset; reload the page."));
    this.frame = this.frame.bind(this);
    requestAnimationFrame(this.frame);
  }

  startSorter() {
    const source = new Blob([element("sorter").textContent], { type: "text/javascript" });
    this.sorter = new Worker(URL.createObjectURL(source));
    this.sorter.onmessage = ({ data }) => this.sorted(data);
    this.sorter.onerror = () => status("The Gaussians cannot be sorted in this browser.");
    this.sorter.postMessage({ means: this.scene.means });
    this.moved();
  }

  /** The user took over. */
  touched() {
    this.setPlaying(false);
    this.moved();
  }

  reset() {
    this.camera.reset();
    this.namePhoto(0);
    this.touched();
  }

  /** Fly to the camera of the photo so many steps on, around the ends. */
  flyBy(steps) {
    const { photos } = config;
    if (!photos.length) return;
    this.setPlaying(false);
    this.namePhoto((this.photo + steps + photos.length) % photos.length);
    const from = this.camera.view(canvas.clientWidth / canvas.clientHeight);
    this.flight = new Flight(from, photos[this.photo], lessMotion() ? 0 : FLIGHT_SECONDS);
    this.moved();
  }

  namePhoto(index) {
    const { photos } = config;
    this.photo = index;
    if (photos.length) element("photo").textContent = `${photos[index].name} (${index + 1} of ${photos.length})`;
  }

  /** Whether the camera is where the photo was taken whose name is shown. */
  isAtPhoto() {
    const photo = config.photos[this.photo];
    return !!photo && Math.hypot(...add(this.camera.position, photo.position, -1)) < 1e-3 * photo.distance;
  }

  /** The camera has moved: sort again, as soon as the sorter is free. */
  moved() {
    this.stale = true;
    element("photo").classList.toggle("left", !this.isAtPhoto());
    this.redraw();
    if (this.sorting) return;
    this.stale = false;
    this.sorting = true;
    const { forward, position } = this.camera;
    this.sorter.postMessage({ depthRow: [...forward, -dot(forward, position)], near: NEAR });
  }

  sorted(order) {
    this.sorting = false;
    this.renderer.setOrder(order);
    this.redraw();
    if (this.stale) this.moved();
  }

  redraw() {
    this.dirty = true;
  }

  frame(now) {
    requestAnimationFrame(this.frame);
    const seconds = Math.min(0.1, (now - this.lastFrame) / 1000);
    this.lastFrame = now;
    const moving = this.controls.step(seconds) || this.fly(seconds) || this.play(seconds);
    if (moving) this.moved();
    this.adapt(moving || this.sorting, seconds);
    if (!this.dirty) return;
    this.dirty = false;
    this.renderer.render(this.camera, this.quality * window.devicePixelRatio);
    if (!this.sorting && !this.stale) this.settled();
  }

  /** Fewer pixels while a slow device moves; all of them when the camera rests. */
  adapt(moving, seconds) {
    const before = this.quality;
    if (!moving) this.quality = 1;
    else if (seconds > 0.05) this.quality = Math.max(0.4, this.quality * 0.9);
    if (this.quality !== before) this.redraw();
  }

  fly(seconds) {
    if (!this.flight) return false;
    this.camera.set(this.flight.step(seconds));
    if (this.flight.isOver()) this.flight = null;
    return true;
  }

  play(seconds) {
    if (!this.playing) return false;
    if (config.path) {
      this.pathTime = (this.pathTime + seconds) % config.pathSeconds;
      this.camera.set(this.pathView());
    } else if (config.sweep === null) {
      const before = Math.sin(this.wiggle);
      this.wiggle += (seconds * 2 * Math.PI) / 8;
      this.camera.turn(config.wiggle * (Math.sin(this.wiggle) - before), 0, true);
    } else {
      this.camera.turn(seconds * config.sweep, 0, true);
    }
    return true;
  }

  /** The view that the path has reached. */
  pathView() {
    const { path, pathSeconds } = config;
    const place = (this.pathTime / pathSeconds) * path.length;
    const index = Math.floor(place) % path.length;
    return new Flight(path[index], path[(index + 1) % path.length], 1).at(place % 1);
  }

  setPlaying(playing) {
    this.playing = playing;
    this.flight = null;
    if (playing && config.path) { // from wherever the camera is to where the path was left
      const from = this.camera.view(canvas.clientWidth / canvas.clientHeight);
      this.flight = new Flight(from, this.pathView(), FLIGHT_SECONDS);
    }
    this.wiggle = 0;
    element("play").setAttribute("aria-pressed", String(playing));
  }

  settled() {
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  /** Resolves when a sorted, full-resolution image of the present camera has been rendered. */
  rest() {
    this.quality = 1;
    this.moved();
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  look(position, axes, fovY) {
    const flip = ([x, y, z]) => [x, -y, -z];
    this.setPlaying(false);
    this.camera.position = flip(position);
    [this.camera.right, this.camera.down, this.camera.forward] = axes.map(flip);
    this.camera.fixedFovY = fovY;
    return this.rest();
  }
}

function status(text) {
  element("status").textContent = text;
}

function lessMotion() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function wireButtons(viewer, spz) {
  const actions = {
    play: () => viewer.setPlaying(!viewer.playing),
    fly: () => {
      viewer.controls.flying = !viewer.controls.flying;
      element("fly").setAttribute("aria-pressed", String(viewer.controls.flying));
    },
    previous: () => viewer.flyBy(-1),
    next: () => viewer.flyBy(1),
    reset: () => viewer.reset(),
    fullscreen: () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else document.documentElement.requestFullscreen();
    },
    save: () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([spz], { type: "application/octet-stream" }));
      link.download = `${config.name}.spz`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    },
    about: () => element("info").showModal(),
  };
  for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", action);
  for (const id of ["photos", "photo-keys"]) element(id).hidden = !config.photos.length;
  if (config.path) element("play").textContent = "Play";
  const keys = { Space: "play", KeyR: "reset", KeyF: "fullscreen" };
  const signs = { ",": "previous", "[": "previous", ".": "next", "]": "next" };
  addEventListener("keydown", (event) => {
    const plain = !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey;
    const onButton = event.target.tagName === "BUTTON";
    const action = signs[event.key] ?? (onButton ? undefined : keys[event.code]);
    if (action && plain) {
      event.preventDefault();
      actions[action]();
    }
  });
}

async function open() {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("this browser is too old to unpack the scene");
  }
  const spz = bytesOfBase64(element("scene").textContent.trim());
  const viewer = new Viewer(parseSpz(await gunzip(spz)));
  wireButtons(viewer, spz);
  await viewer.rest();
  status("");
  element("poster").classList.add("hidden");
  if (config.autoplay && !lessMotion()) viewer.setPlaying(true);
  return viewer;
}

const opened = open();
window.zipsplat = {
  ready: opened.then(() => true),
  look: async (...view) => (await opened).look(...view),
  rest: async () => (await opened).rest(),
  position: async () => [...(await opened).camera.position],
};
opened.catch((error) => status(`The scene cannot be shown: ${error.message}.`));
