// The camera: where it is, its axes right, down and forward, and how far in front its pivot lies.

const UP = [0, 1, 0];
const STEEPEST = 0.99; // of the viewing direction against up

const add = (a, b, factor = 1) => a.map((value, i) => value + factor * b[i]);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
const normalize = (a) => a.map((value) => value / Math.hypot(...a));

/** A vector turned about a unit axis (Rodrigues' formula). */
function turned(vector, axis, angle) {
  const along = dot(vector, axis) * (1 - Math.cos(angle));
  const side = cross(axis, vector);
  return vector.map((v, i) => v * Math.cos(angle) + side[i] * Math.sin(angle) + axis[i] * along);
}

class Camera {
  /**
   * @param start a view: position, the axes as rows right, down, forward, the pivot's distance, and
   *   the extent: tangents of the half fields of view in x and y that must be visible.
   */
  constructor(start) {
    this.start = start;
    this.reset();
  }

  reset() {
    this.set(this.start);
  }

  set({ position, axes, distance, extent }) {
    this.position = [...position];
    [this.right, this.down, this.forward] = axes.map((axis) => [...axis]);
    this.distance = distance;
    this.extent = extent;
    this.fixedFovY = null;
  }

  /** Where it is now, for `set`; for an image of this width / height. */
  view(aspect) {
    const half = Math.tan(this.fovY(aspect) / 2);
    const extent = this.fixedFovY === null ? this.extent : [half * aspect, half];
    return { position: this.position, axes: [this.right, this.down, this.forward], distance: this.distance, extent };
  }

  /** Vertical field of view in an image of this width / height. */
  fovY(aspect) {
    return this.fixedFovY ?? 2 * Math.atan(Math.max(this.extent[1], this.extent[0] / aspect));
  }

  get pivot() {
    return add(this.position, this.forward, this.distance);
  }

  /** Turn about the vertical, then up or down; around the pivot, or on the spot. */
  turn(yaw, pitch, aroundPivot) {
    const pivot = this.pivot;
    this.rotate(UP, yaw);
    const steep = dot(turned(this.forward, this.right, pitch), UP);
    if (Math.abs(steep) < STEEPEST || Math.abs(steep) < Math.abs(dot(this.forward, UP))) {
      this.rotate(this.right, pitch);
    }
    if (aroundPivot) this.position = add(pivot, this.forward, -this.distance);
  }

  rotate(axis, angle) {
    this.forward = normalize(turned(this.forward, axis, angle));
    this.right = normalize(turned(this.right, axis, angle));
    this.down = cross(this.forward, this.right);
  }

  /** Move along the own axes, world units. */
  move(right, down, forward) {
    this.position = add(this.position, this.right, right);
    this.position = add(this.position, this.down, down);
    this.position = add(this.position, this.forward, forward);
  }

  /** Pan with the pivot, so that the scene there follows the pointer; in image heights. */
  pan(x, y, aspect) {
    const height = 2 * this.distance * Math.tan(this.fovY(aspect) / 2);
    this.move(-x * height, -y * height, 0);
  }

  zoom(factor) {
    const pivot = this.pivot;
    this.distance *= factor;
    this.position = add(pivot, this.forward, -this.distance);
  }
}
