// A smooth way from one view to another.

const FLIGHT_SECONDS = 0.9;

const mix = (a, b, share) => a.map((value, i) => value + share * (b[i] - value));
const geometricMix = (a, b, share) => a * (b / a) ** share;
const pivotOf = ({ position, axes, distance }) => add(position, axes[2], distance);

class Flight {
  /** @param from, to views as `Camera.set` takes them. */
  constructor(from, to, duration) {
    Object.assign(this, { from, to, duration, seconds: 0 });
    [this.axis, this.angle] = rotationBetween(from.axes, to.axes);
  }

  /** @returns the view after so many more seconds. */
  step(seconds) {
    this.seconds += seconds;
    if (this.isOver()) return this.to;
    const time = this.seconds / this.duration;
    return this.at(time * time * (3 - 2 * time));
  }

  isOver() {
    return this.seconds >= this.duration;
  }

  /** Axes turn evenly and the pivot moves straight, so cameras around a thing fly around it. */
  at(share) {
    const { from, to } = this;
    const axes = from.axes.map((axis) => turned(axis, this.axis, share * this.angle));
    const distance = geometricMix(from.distance, to.distance, share);
    const pivot = mix(pivotOf(from), pivotOf(to), share);
    return {
      position: add(pivot, axes[2], -distance),
      axes,
      distance,
      extent: mix(from.extent, to.extent, share),
    };
  }
}

/** The axis and angle that turn one triple of orthonormal axes into another. */
function rotationBetween(from, to) {
  // Entry i, j of the sum of the outer products to_k from_kᵀ.
  const entry = (i, j) => [0, 1, 2].reduce((sum, k) => sum + to[k][i] * from[k][j], 0);
  const cosine = (entry(0, 0) + entry(1, 1) + entry(2, 2) - 1) / 2;
  const angle = Math.acos(Math.max(-1, Math.min(1, cosine)));
  const skew = [entry(2, 1) - entry(1, 2), entry(0, 2) - entry(2, 0), entry(1, 0) - entry(0, 1)];
  if (Math.hypot(...skew) > 1e-4) return [normalize(skew), angle];
  if (cosine > 0) return [UP, 0];
  // Half a turn: R + I is twice the outer product of the axis with itself.
  const columns = [0, 1, 2].map((j) => [0, 1, 2].map((i) => entry(i, j) + (i === j ? 1 : 0)));
  const longest = columns.reduce((best, one) => (Math.hypot(...one) > Math.hypot(...best) ? one : best));
  return [normalize(longest), Math.PI];
}
