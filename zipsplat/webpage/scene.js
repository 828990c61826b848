// The scene: SPZ version 3, in base64 as it stands in the page, to arrays for the GPU.
// All of the viewer keeps the axes of SPZ: x right, y up, z towards the viewer.

const SPZ_MAGIC = 0x5053474e;
const HEADER_BYTES = 16;
const ANTIALIASED = 1; // flag
const HARMONICS = [0, 3, 8, 15]; // beyond the constant one, by degree

function bytesOfBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

async function gunzip(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * @returns {{num: number, numHarmonics: number, antialiased: boolean, means: Float32Array, geometry: Float32Array,
 *   colors: Uint8Array}} means (N, 3); geometry (N, 12): mean, 6 covariances, 3 unused; colors
 *   (N, 1 + harmonics, 4): RGB of the constant coefficient and opacity, then RGB_ of the others.
 */
function parseSpz(data) {
  const view = new DataView(data.buffer, data.byteOffset);
  if (view.getUint32(0, true) !== SPZ_MAGIC || view.getUint32(4, true) !== 3) {
    throw new Error("the scene in this page is damaged");
  }
  const num = view.getUint32(8, true);
  const numHarmonics = HARMONICS[data[12]];
  const unit = 1 / (1 << data[13]);
  const positions = HEADER_BYTES;
  const alphas = positions + 9 * num;
  const dcs = alphas + num;
  const scales = dcs + 3 * num;
  const rotations = scales + 3 * num;
  const rest = rotations + 4 * num;
  const means = new Float32Array(3 * num);
  const geometry = new Float32Array(12 * num);
  const colors = new Uint8Array(4 * num * (1 + numHarmonics));
  for (let i = 0, at = positions; i < 3 * num; i++, at += 3) {
    means[i] = ((data[at] | (data[at + 1] << 8) | (data[at + 2] << 16)) << 8 >> 8) * unit;
  }
  for (let i = 0; i < num; i++) {
    geometry.set(means.subarray(3 * i, 3 * i + 3), 12 * i);
    const sigmas = [0, 1, 2].map((k) => Math.exp(data[scales + 3 * i + k] / 16 - 10));
    geometry.set(covariance(unpackRotation(view.getUint32(rotations + 4 * i, true)), sigmas), 12 * i + 3);
    const color = 4 * i * (1 + numHarmonics);
    colors.set(data.subarray(dcs + 3 * i, dcs + 3 * i + 3), color);
    colors[color + 3] = data[alphas + i];
    for (let k = 0; k < numHarmonics; k++) {
      const at = rest + 3 * (i * numHarmonics + k);
      colors.set(data.subarray(at, at + 3), color + 4 * (k + 1));
    }
  }
  return { num, numHarmonics, antialiased: (data[14] & ANTIALIASED) !== 0, means, geometry, colors };
}

/** Quaternion xyzw from its three smallest parts: 2 bits that name the largest, 3 x (sign, 9 bits). */
function unpackRotation(packed) {
  const largest = packed >>> 30;
  const quat = [0, 0, 0, 0];
  let sum = 0;
  for (let i = 3, shift = 0; i >= 0; i--) {
    if (i === largest) continue;
    const field = packed >>> shift;
    const value = (field & 511) * (Math.SQRT1_2 / 511);
    quat[i] = field & 512 ? -value : value;
    sum += value * value;
    shift += 10;
  }
  quat[largest] = Math.sqrt(Math.max(0, 1 - sum));
  return quat;
}

/** Upper triangle xx xy xz yy yz zz of R diag(sigma^2) R^T. */
function covariance([x, y, z, w], [sx, sy, sz]) {
  const m = [
    [(1 - 2 * (y * y + z * z)) * sx, 2 * (x * y - w * z) * sy, 2 * (x * z + w * y) * sz],
    [2 * (x * y + w * z) * sx, (1 - 2 * (x * x + z * z)) * sy, 2 * (y * z - w * x) * sz],
    [2 * (x * z - w * y) * sx, 2 * (y * z + w * x) * sy, (1 - 2 * (x * x + y * y)) * sz],
  ];
  const product = (i, j) => m[i][0] * m[j][0] + m[i][1] * m[j][1] + m[i][2] * m[j][2];
  return [product(0, 0), product(0, 1), product(0, 2), product(1, 1), product(1, 2), product(2, 2)];
}
