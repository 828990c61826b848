#version 300 es
precision highp float;

uniform sampler2D sum;
out vec4 result;

void main() {
  result = vec4(texelFetch(sum, ivec2(gl_FragCoord.xy), 0).rgb, 1.0);
}
