// WebGL 2: the scene in two textures, one instanced quad per Gaussian, blended back to front into
// half floats: with 8 bits, the rounding of a thousand faint layers adds up to visible bands.

//{RULES}
const TEXTURE_WIDTH = 2048; // that every WebGL 2 has
const GEOMETRY_UNIT = 0, COLORS_UNIT = 1, SUM_UNIT = 2;

class Renderer {
  constructor(canvas, scene, background) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false });
    if (!gl) throw new Error("this browser offers no WebGL 2");
    Object.assign(this, { gl, canvas, background, count: 0 });
    this.halfFloats = Boolean(gl.getExtension("EXT_color_buffer_float") || gl.getExtension("EXT_color_buffer_half_float"));
    this.resolver = this.link("resolve-vertex", "resolve-fragment");
    gl.useProgram(this.resolver);
    gl.uniform1i(gl.getUniformLocation(this.resolver, "sum"), SUM_UNIT);
    this.splats = this.link("splat-vertex", "splat-fragment");
    gl.useProgram(this.splats);
    this.upload(GEOMETRY_UNIT, "geometry", gl.RGBA32F, gl.RGBA, gl.FLOAT, scene.geometry);
    this.upload(COLORS_UNIT, "colors", gl.RGBA8UI, gl.RGBA_INTEGER, gl.UNSIGNED_BYTE, scene.colors);
    gl.uniform1i(this.place("numHarmonics"), scene.numHarmonics);
    gl.uniform1i(this.place("antialiased"), scene.antialiased);
    gl.uniform1f(this.place("near"), NEAR);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    const index = gl.getAttribLocation(this.splats, "index");
    gl.enableVertexAttribArray(index);
    gl.vertexAttribIPointer(index, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(index, 1);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.sum = this.newTexture(SUM_UNIT);
    this.target = this.halfFloats ? gl.createFramebuffer() : null;
  }

  place(name) {
    return this.gl.getUniformLocation(this.splats, name);
  }

  link(...ids) {
    const { gl } = this;
    const program = gl.createProgram();
    [gl.VERTEX_SHADER, gl.FRAGMENT_SHADER].forEach((kind, i) => {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, document.getElementById(ids[i]).textContent.trim());
      gl.compileShader(shader);
      gl.attachShader(program, shader);
      const log = gl.getShaderInfoLog(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(`shader: ${log}`);
    });
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      throw new Error(gl.getProgramInfoLog(program));
    }
    return program;
  }

  newTexture(unit) {
    const { gl } = this;
    const texture = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    return texture;
  }

  /** Values, 4 per texel, in rows of TEXTURE_WIDTH texels; the last row is filled up. */
  upload(unit, name, internal, format, type, values) {
    const { gl } = this;
    const height = Math.max(1, Math.ceil(values.length / 4 / TEXTURE_WIDTH));
    if (height > gl.getParameter(gl.MAX_TEXTURE_SIZE)) {
      throw new Error("the scene is too large for this device");
    }
    const rows = new values.constructor(4 * TEXTURE_WIDTH * height);
    rows.set(values);
    this.newTexture(unit);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, TEXTURE_WIDTH, height, 0, format, type, rows);
    gl.uniform1i(this.place(name), unit);
  }

  /** Set the order of the Gaussians. */
  setOrder(order) {
    this.gl.bufferData(this.gl.ARRAY_BUFFER, order, this.gl.DYNAMIC_DRAW);
    this.count = order.length;
  }

  resize(width, height) {
    const { gl, canvas } = this;
    if (canvas.width === width && canvas.height === height && this.sized) return;
    Object.assign(canvas, { width, height });
    this.sized = true;
    if (!this.target) return;
    gl.activeTexture(gl.TEXTURE0 + SUM_UNIT);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16F, width, height, 0, gl.RGBA, gl.HALF_FLOAT, null);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.sum, 0);
  }

  render(camera, pixelRatio) {
    const { gl, canvas, background } = this;
    const width = Math.max(1, Math.round(canvas.clientWidth * pixelRatio));
    const height = Math.max(1, Math.round(canvas.clientHeight * pixelRatio));
    this.resize(width, height);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.target);
    gl.viewport(0, 0, width, height);
    gl.clearColor(...background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.useProgram(this.splats);
    this.setCamera(camera, width, height);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, this.count);
    if (!this.target) return;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.disable(gl.BLEND);
    gl.useProgram(this.resolver);
    gl.drawArraysInstanced(gl.TRIANGLES, 0, 3, 1);
  }

  setCamera(camera, width, height) {
    const { gl } = this;
    const { right: r, down: d, forward: f, position } = camera;
    const focal = height / 2 / Math.tan(camera.fovY(width / height) / 2);
    const columns = [0, 1, 2].flatMap((i) => [r[i], d[i], f[i]]);
    gl.uniformMatrix3fv(this.place("cameraFromWorld"), false, columns);
    gl.uniform3fv(this.place("position"), position);
    gl.uniform2f(this.place("focal"), focal, focal);
    gl.uniform2f(this.place("size"), width, height);
  }
}
