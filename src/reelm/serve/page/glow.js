// The light that a clip throws on the wall behind it: a tiny copy of its picture, blurred by CSS.

const EVERY_MS = 120;

export class Glow {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
      setInterval(() => this.draw(), EVERY_MS);
    }
  }

  follow(video) {
    this.video = video;
  }

  draw() {
    const shown = this.canvas.offsetParent !== null || getComputedStyle(this.canvas).position === "fixed";
    if (!shown || document.hidden || !this.video || this.video.readyState < 2) return;
    this.context.globalAlpha = 0.35; // each picture fades in over the last
    this.context.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
  }
}
