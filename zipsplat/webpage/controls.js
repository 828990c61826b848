// Mouse, touch and keyboard to movements of the camera.

const TURN = Math.PI; // radians per image height
const KEYS = { KeyW: [0, 0, 1], KeyS: [0, 0, -1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyQ: [0, 1, 0], KeyE: [0, -1, 0] };

class Controls {
  /** @param changed called after each movement by the user. */
  constructor(canvas, camera, changed) {
    Object.assign(this, { canvas, camera, changed, flying: false, pointers: new Map(), keys: new Set() });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const type of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(type, (event) => this.pointers.delete(event.pointerId));
    }
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    addEventListener("keydown", (event) => this.key(event, true));
    addEventListener("keyup", (event) => this.key(event, false));
    addEventListener("blur", () => this.keys.clear());
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    this.canvas.focus();
    this.changed();
  }

  drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const after = [event.clientX, event.clientY];
    const height = this.canvas.clientHeight;
    const aspect = this.canvas.clientWidth / height;
    const [x, y] = [(after[0] - before[0]) / height, (after[1] - before[1]) / height];
    if (this.pointers.size === 2) {
      this.pinch(event.pointerId, before, after);
      this.camera.pan(x / 2, y / 2, aspect);
    } else if (event.buttons & 2 || event.shiftKey) {
      this.camera.pan(x, y, aspect);
    } else if (this.flying) {
      const fovY = this.camera.fovY(aspect);
      this.camera.turn(-x * fovY, y * fovY, false);
    } else {
      this.camera.turn(-x * TURN, y * TURN, true);
    }
    this.pointers.set(event.pointerId, after);
    this.changed();
  }

  pinch(id, before, after) {
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, place]) => place);
    const length = (place) => Math.max(1, Math.hypot(place[0] - other[0], place[1] - other[1]));
    this.camera.zoom(length(before) / length(after));
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 30 : 1;
    const amount = Math.max(-300, Math.min(300, event.deltaY * lines));
    if (this.flying) this.camera.move(0, 0, (-amount / 600) * this.camera.distance);
    else this.camera.zoom(Math.exp(amount / 600));
    this.changed();
  }

  key(event, pressed) {
    if (!(event.code in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (pressed) this.keys.add(event.code);
    else this.keys.delete(event.code);
    this.fast = event.shiftKey;
    this.changed();
  }

  /** Fly on with the keys that are held. @returns whether the camera moved. */
  step(seconds) {
    const speed = seconds * this.camera.distance * (this.fast ? 2 : 0.5);
    for (const code of this.keys) this.camera.move(...KEYS[code].map((value) => value * speed));
    return this.keys.size > 0;
  }
}
