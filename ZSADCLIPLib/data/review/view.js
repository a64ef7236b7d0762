/* The three planes: NiiVue with one case at a time. */
"use strict";

/** NiiVue's numbers of the planes. */
const PLANES = ["axial", "coronal", "sagittal"];
const OUTLINE = new Uint8ClampedArray(1024).fill(255);
for (let label = 0; label < 256; label++) OUTLINE.set([0, 229, 255, label ? 255 : 0], 4 * label);
const WIDTH_MM = 0.5; // of the crosshair, which leaves a gap of 20 half widths to each side

zsadclip.View = class {
  /** `moved` is told where the crosshair is: moved([R, A, S], values as text). */
  constructor(canvas, moved) {
    this.canvas = canvas;
    this.moved = moved;
    this.pending = 0;
  }

  /** Start WebGL2; throws where the browser has none. */
  async start() {
    const { Niivue } = window.niivue;
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL2");
    this.nv = new Niivue({
      logLevel: "silent", dragAndDropEnabled: false, multiplanarShowRender: 0, isRadiologicalConvention: true, sagittalNoseLeft: true,
      dragMode: 9, crosshairGap: 20, crosshairWidth: WIDTH_MM, crosshairWidthUnit: "mm", isColorbar: true, show3Dcrosshair: false, backColor: [0, 0, 0, 1],
      colorbarHeight: 0.03, viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", loadingText: "", isNearestInterpolation: true,
    });
    await this.nv.attachToCanvas(this.canvas);
    this.nv.setSliceType(3);
    Object.assign(this.nv, { drawLut: { lut: OUTLINE, labels: [] }, drawRimOpacity: 1, drawOpacity: 0 });
    this.nv.addColormap("zsadclip-mask", { R: [0, 0], G: [0, 229], B: [0, 255], A: [0, 255], I: [0, 255] });
    this.nv.onLocationChange = (at) => this.moved([...at.mm].slice(0, 3), at.values.map((each) => each.value));
  }

  /** Show a case in the place of the one before, which is forgotten. */
  async show(data) {
    const { NVImage } = window.niivue;
    const overlay = data.map || data.mask;
    const image = await NVImage.loadFromBase64({
      base64: data.image.nifti, name: "image.nii.gz", colormap: "gray", cal_min: data.image.low, cal_max: data.image.high,
      colorbarVisible: false,
    });
    const above = await NVImage.loadFromBase64({
      base64: overlay.nifti, name: "map.nii.gz", colormap: data.map ? "inferno" : "zsadclip-mask", opacity: 0,
      cal_min: data.map ? this.edge(data.map, 0) : 0.5, cal_max: data.map ? data.display.hi : 1, colorbarVisible: Boolean(data.map),
    });
    above.colormapType = 1;
    data.image.nifti = overlay.nifti = null;
    this.nv.volumes = [];
    this.nv.addVolume(image);
    this.nv.addVolume(above);
    this.map = data.map;
    this.least = data.map ? 0 : 1;
    this.codes = this.drawing = null;
    this.count = data.map ? this.counts(above.img) : null;
    const ras = above.matRAS;
    this.voxelMl = Math.abs(ras[0] * (ras[5] * ras[10] - ras[6] * ras[9]) - ras[1] * (ras[4] * ras[10] - ras[6] * ras[8])
      + ras[2] * (ras[4] * ras[9] - ras[5] * ras[8])) / 1000;
    this.nv.setCustomLayout(this.layout(data.plane));
    this.nv.updateGLVolume();
    if (this.nv.drawBitmap) this.nv.closeDrawing(); // of the case before
  }

  /** The plane that was scored large, the two others beside or below it. */
  layout(plane) {
    const main = Math.max(PLANES.indexOf(plane), 0), rest = [0, 1, 2].filter((each) => each !== main);
    // Below them is the colour bar.
    if (this.canvas.clientWidth < this.canvas.clientHeight) {
      return [
        { sliceType: main, position: [0, 0, 1, 0.5] },
        { sliceType: rest[0], position: [0, 0.5, 0.5, 0.38] },
        { sliceType: rest[1], position: [0.5, 0.5, 0.5, 0.38] },
      ];
    }
    return [
      { sliceType: main, position: [0, 0, 0.6, 0.9] },
      { sliceType: rest[0], position: [0.6, 0, 0.4, 0.45] },
      { sliceType: rest[1], position: [0.6, 0.45, 0.4, 0.45] },
    ];
  }

  /** How many voxels have each code or a higher one, for all 65,536 codes of the map. */
  counts(codes) {
    const count = new Float64Array(65537);
    for (let n = 0; n < codes.length; n++) count[codes[n] + 32768]++;
    for (let code = 65534; code >= 0; code--) count[code] += count[code + 1];
    return count;
  }

  /** The lowest code at or above a value. */
  code(value) {
    const code = Math.ceil((value - this.map.inter) / this.map.slope - 1e-9);
    return Math.min(Math.max(code, -32768), 32768);
  }

  /** Half a step below a code, so that rounding in the shader cannot hide it. */
  edge(map, code) {
    return map.inter + (code - 0.5) * map.slope;
  }

  /** Colour what reaches a value; gives the number of these voxels. */
  setThreshold(value) {
    const code = this.least = this.code(value);
    this.nv.volumes[1].cal_min = this.edge(this.map, code);
    this.redraw();
    return this.count[code + 32768];
  }

  /** How the map is drawn: "filled", its outline alone ("outline"), or "off". */
  setLook(look, opacity) {
    this.look = look;
    this.nv.volumes[1].opacity = look === "filled" ? opacity : 0;
    this.redraw();
  }

  /** The edge of what reaches the threshold, in each plane for itself: the rim of a drawing that is not seen otherwise. */
  outline() {
    this.nv.drawOpacity = this.look === "outline" ? 1 / 255 : 0;
    if (this.look !== "outline") return;
    if (!this.drawing) {
      this.nv.createEmptyDrawing();
      this.drawing = this.nv.drawBitmap;
      this.codes = this.nv.volumes[1].img2RAS();
    }
    for (let n = 0; n < this.drawing.length; n++) this.drawing[n] = this.codes[n] >= this.least ? 1 : 0;
    this.nv.refreshDrawing(false);
  }

  setCrosshair(isShown) {
    this.nv.setCrosshairWidth(isShown ? WIDTH_MM : 0);
  }

  setSmooth(isSmooth) {
    this.nv.setInterpolation(!isSmooth);
  }

  setWindow(low, high) {
    this.nv.volumes[0].cal_min = low;
    this.nv.volumes[0].cal_max = high;
    this.redraw();
  }

  window() {
    return [this.nv.volumes[0].cal_min, this.nv.volumes[0].cal_max];
  }

  /** Put the crosshair on a place in RAS mm. */
  jump(ras) {
    // In the scanner's own space, also where the grid lies obliquely in it.
    this.nv.scene.crosshairPos = this.nv.mm2frac(ras, 0, true);
    this.nv.createOnLocationChange();
    this.nv.drawScene();
  }

  /** The crosshair in RAS mm. */
  position() {
    return [...this.nv.frac2mm(this.nv.scene.crosshairPos, 0, true)].slice(0, 3);
  }

  step(i, j, k) {
    this.nv.moveCrosshairInVox(i, j, k);
  }

  /** Colour the volumes anew, once a frame at most. */
  redraw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.outline();
      this.nv.updateGLVolume();
    });
  }
};
