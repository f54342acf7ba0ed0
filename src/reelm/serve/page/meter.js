// How much of a clip was really played: seconds of clip time that went by while playing. Replays
// add up, jumps do not.

export class Meter {
  constructor() {
    this.played = 0;
    this.at = 0;
  }

  // The clip is now at `time`; playing on from the last call. A jump counts for nothing.
  to(time) {
    const step = time - this.at;
    if (step > 0 && step < 1.5) this.played += step;
    this.at = time;
  }

  // The clip reached its end and starts again.
  wrap(duration) {
    this.to(duration);
    this.at = 0;
  }

  // Portion so far, then start from nothing; a clip may be reported in several parts.
  take(duration) {
    const portion = duration > 0 ? this.played / duration : 0;
    this.played = 0;
    return Math.round(portion * 1e4) / 1e4;
  }
}
