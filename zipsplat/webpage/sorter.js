// A worker: keeps the centres, and returns the order of the Gaussians for a viewing direction.

let means = new Float32Array(0);

onmessage = ({ data }) => {
  if (data.means) means = data.means;
  if (data.depthRow) {
    const order = backToFront(data.depthRow, data.near);
    postMessage(order, [order.buffer]);
  }
};

/** Indices of what lies beyond `near`, farthest first: two passes of a 16-bit radix sort. */
function backToFront([a, b, c, d], near) {
  const num = means.length / 3;
  const depths = new Float32Array(num);
  const bits = new Uint32Array(depths.buffer);
  let order = new Uint32Array(num);
  let visible = 0;
  for (let i = 0; i < num; i++) {
    depths[i] = a * means[3 * i] + b * means[3 * i + 1] + c * means[3 * i + 2] + d;
    if (depths[i] >= near) order[visible++] = i;
  }
  order = order.subarray(0, visible);
  // The bits of positive floats sort as the floats do; inverted, the largest come first.
  order = radixPass(order, (i) => ~bits[i] & 0xffff);
  return radixPass(order, (i) => (~bits[i] >>> 16) & 0xffff);
}

function radixPass(order, keyOf) {
  const starts = new Uint32Array(65537);
  for (const i of order) starts[keyOf(i) + 1]++;
  for (let key = 0; key < 65536; key++) starts[key + 1] += starts[key];
  const sorted = new Uint32Array(order.length);
  for (const i of order) sorted[starts[keyOf(i)]++] = i;
  return sorted;
}
