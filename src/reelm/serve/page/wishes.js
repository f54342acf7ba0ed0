// What the user says outright about creators and kinds of clips; all of it can be taken back.

const part = (id) => document.getElementById(id);

export class Wishes {
  constructor(feed, { send, toast }) {
    this.feed = feed;
    this.send = send;
    this.toast = toast;
    this.reset();
  }

  // Another user has wishes of their own.
  reset() {
    this.followed = new Set();
    this.lessened = new Set();
  }

  follow(clip, undone = false) {
    const creator = clip.item.creator;
    if (!creator) return;
    const on = flip(this.followed, creator);
    this.send({ type: on ? "follow" : "unfollow", creator });
    this.show(clip);
    if (undone) this.toast("Taken back");
    else this.toast(on ? `Following @${creator}` : `No longer following @${creator}`, () => this.follow(clip, true));
  }

  less(clip, undone = false) {
    const on = flip(this.lessened, clip.item.item_id);
    this.send({ type: on ? "less_like_this" : "undo_less_like_this", item_id: clip.item.item_id });
    clip.element.classList.toggle("refused", on || clip.refused);
    this.show(clip);
    if (on) this.toast("Fewer like this", () => this.less(clip, true));
    else if (undone) this.toast("Taken back");
    if (on) this.leave(clip);
  }

  block(clip, undone = false) {
    const creator = clip.item.creator;
    if (!creator) return;
    const on = flip(this.feed.blocked, creator);
    this.send({ type: on ? "block" : "unblock", creator });
    if (on) this.feed.hide(creator);
    else this.feed.unhide(creator);
    this.show(clip);
    if (on) this.toast(`Blocked @${creator}`, () => this.block(clip, true));
    else this.toast(undone ? "Taken back" : `@${creator} may be shown again`);
    if (on) this.leave(clip);
  }

  // Go on to the next clip, unless the user did so already.
  leave(clip) {
    setTimeout(() => this.feed.current === clip && this.feed.step(1), 350);
  }

  // Bring all buttons in line with what was said.
  show(clip = this.feed.current) {
    if (!clip) return;
    for (const one of this.feed.clips) {
      const button = one.element.querySelector('[data-act="follow"]');
      const on = this.followed.has(one.item.creator);
      button.textContent = on ? "Following" : "Follow";
      button.setAttribute("aria-pressed", on);
      button.setAttribute("aria-label", `Follow @${one.item.creator}`);
      one.element.classList.toggle("blocked", this.feed.blocked.has(one.item.creator));
    }
    if (clip !== this.feed.current) return;
    const { item_id, creator } = clip.item;
    const less = this.lessened.has(item_id);
    part("less").textContent = less ? "Undo less like this" : "Less like this";
    part("less").setAttribute("aria-pressed", less);
    part("block").hidden = !creator;
    part("block").textContent = this.feed.blocked.has(creator) ? `Unblock @${creator}` : `Block @${creator}`;
    part("block").setAttribute("aria-pressed", this.feed.blocked.has(creator));
  }
}

function flip(set, one) {
  if (set.delete(one)) return false;
  set.add(one);
  return true;
}
