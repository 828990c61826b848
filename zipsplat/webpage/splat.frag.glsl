#version 300 es
precision highp float;

in vec2 sigmas;
flat in vec4 color;
out vec4 result;

//{RULES}

void main() {
  float alpha = min(ALPHA_CLAMP, color.a * exp(-0.5 * dot(sigmas, sigmas)));
  if (alpha < ALPHA_MIN) discard;
  result = vec4(color.rgb * alpha, alpha);
}
