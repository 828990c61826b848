#version 300 es
// One quad around the ellipse of one Gaussian. The same projection, culling and colour as
// ZipSplat's renderers; all axes are those of SPZ, the camera looks along its +z with y down.
precision highp float;
precision highp int;
precision highp sampler2D;
precision highp usampler2D;

uniform sampler2D geometry;   // 3 texels per Gaussian: mean, covariance xx xy xz yy yz zz
uniform usampler2D colors;    // 1 + harmonics texels: RGB of degree 0 and opacity, then RGB_
uniform int numHarmonics;     // 0, 3, 8 or 15
uniform bool antialiased;     // whether opacities make up for EPS2D
uniform mat3 cameraFromWorld;
uniform vec3 position;        // of the camera
uniform vec2 focal;           // pixels
uniform vec2 size;            // pixels
uniform float near;

in uint index;

out vec2 sigmas;              // place in the quad in standard deviations
flat out vec4 color;

// Constants of rendering: EPS2D, ALPHA_MIN, …; inserted by rule_constants.py.
//{RULES}

ivec2 texelOf(int i, int width) {
  return ivec2(i % width, i / width);
}

vec4 geometryOf(int i) {
  return texelFetch(geometry, texelOf(i, textureSize(geometry, 0).x), 0);
}

vec3 harmonic(int k) {
  int i = int(index) * (1 + numHarmonics) + k;
  uvec4 bytes = texelFetch(colors, texelOf(i, textureSize(colors, 0).x), 0);
  return (vec3(bytes.rgb) - 128.0) / 128.0;
}

vec3 colorFrom(vec3 d, vec3 dc) {
  float x = d.x, y = d.y, z = d.z;
  vec3 sum = COLOR_OFFSET + SH_C0 * dc;
  if (numHarmonics >= 3) {
    sum += SH_C1 * (-y * harmonic(1) + z * harmonic(2) - x * harmonic(3));
  }
  if (numHarmonics >= 8) {
    sum += SH_C2[0] * (x * y * harmonic(4) - y * z * harmonic(5) - x * z * harmonic(7));
    sum += (SH_C2[1] * z * z - SH_C2[2]) * harmonic(6);
    sum += SH_C2[3] * (x * x - y * y) * harmonic(8);
  }
  if (numHarmonics >= 15) {
    sum += -SH_C3[0] * y * (3.0 * x * x - y * y) * harmonic(9);
    sum += SH_C3[1] * x * y * z * harmonic(10);
    sum += (SH_C3[2] - SH_C3[3] * z * z) * (y * harmonic(11) + x * harmonic(13));
    sum += z * (SH_C3[4] * z * z - SH_C3[5]) * harmonic(12);
    sum += SH_C3[6] * z * (x * x - y * y) * harmonic(14);
    sum += -SH_C3[0] * x * (x * x - 3.0 * y * y) * harmonic(15);
  }
  return max(sum, 0.0);
}

/** Covariance of the projection, pixels squared: xx, xy, yy. */
vec3 project(mat3 covariance, vec3 p) {
  vec2 limit = 0.5 * (1.0 + FRUSTUM_MARGIN) * size / focal; // half the image and a margin
  vec2 t = p.z * clamp(p.xy / p.z, -limit, limit);
  mat3 world = cameraFromWorld * covariance * transpose(cameraFromWorld);
  vec3 jx = vec3(focal.x / p.z, 0.0, -focal.x * t.x / (p.z * p.z));
  vec3 jy = vec3(0.0, focal.y / p.z, -focal.y * t.y / (p.z * p.z));
  return vec3(dot(jx, world * jx) + EPS2D, dot(jx, world * jy), dot(jy, world * jy) + EPS2D);
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0); // outside: renders nothing
  int i = int(index);
  vec4 g0 = geometryOf(3 * i), g1 = geometryOf(3 * i + 1), g2 = geometryOf(3 * i + 2);
  uvec4 bytes = texelFetch(colors, texelOf(i * (1 + numHarmonics), textureSize(colors, 0).x), 0);
  float opacity = float(bytes.a) / 255.0;
  vec3 p = cameraFromWorld * (g0.xyz - position);
  if (p.z < near || opacity < ALPHA_MIN) return;

  mat3 covariance = mat3(g0.w, g1.x, g1.y, g1.x, g1.z, g1.w, g1.y, g1.w, g2.x);
  vec3 c = project(covariance, p);
  if (antialiased) {
    float sharp = (c.x - EPS2D) * (c.z - EPS2D) - c.y * c.y;
    opacity *= sqrt(max(sharp, 0.0) / (c.x * c.z - c.y * c.y));
    if (opacity < ALPHA_MIN) return;
  }
  float middle = 0.5 * (c.x + c.z);
  float radius = length(vec2(0.5 * (c.x - c.z), c.y));
  float large = middle + radius;
  float small = (c.x * c.z - c.y * c.y) / large;
  if (!(small > 0.0)) return;
  // Direction of the large axis; of the two ways to write it, the one without cancellation.
  vec2 axis = c.x >= c.z ? vec2(large - c.z, c.y) : vec2(c.y, large - c.x);
  axis = radius > 0.0 ? normalize(axis) : vec2(1.0, 0.0);

  float extent = min(EXTENT_MAX, sqrt(2.0 * log(opacity / ALPHA_MIN)));
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  sigmas = corner * extent;
  vec2 offset = sigmas.x * sqrt(large) * axis + sigmas.y * sqrt(small) * vec2(-axis.y, axis.x);
  vec2 pixel = focal * p.xy / p.z + offset; // from the middle of the image, y down
  gl_Position = vec4(2.0 * pixel.x / size.x, -2.0 * pixel.y / size.y, 0.0, 1.0);
  vec3 dc = (vec3(bytes.rgb) - 127.5) / 38.25;
  color = vec4(colorFrom(normalize(g0.xyz - position), dc), opacity);
}
