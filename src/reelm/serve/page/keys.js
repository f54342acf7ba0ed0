// The API key, where the service asks for one: typed once, kept in this tab, changed for a cookie
// that lets video elements load media.

const KEY = "reelm.key";
const RENEW_MS = 6 * 3600 * 1000; // the cookie lasts twice as long

const part = (id) => document.getElementById(id);
let needs = ["feed", "write"];
let asking = null;

export const key = () => sessionStorage.getItem(KEY);

// Which scopes the page cannot do without.
export function need(...scopes) {
  needs = scopes;
}

// With a key from before in this tab: make sure that media opens.
export async function begin() {
  if (!key()) return;
  await open(key()).catch((error) => error.refused && wanted(error.message));
}

// Ask for a key until there is one that opens what the page needs; one form for all who wait.
export function wanted(why = "") {
  asking ??= form(why).finally(() => (asking = null));
  return asking;
}

function form(why) {
  const dialog = part("keys");
  part("keys-lead").textContent = `It has to open: ${needs.join(" and ")}. Make one with: reelm keys add NAME ${needs.map((one) => `--scope ${one}`).join(" ")}`;
  part("keys-wrong").textContent = key() ? why || "The key that was used so far is no longer valid." : why;
  sessionStorage.removeItem(KEY);
  part("key").value = "";
  dialog.oncancel = (event) => event.preventDefault(); // without a key there is nothing to see
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = async (event) => {
      event.preventDefault();
      const typed = part("key").value.trim();
      try {
        await open(typed);
      } catch (error) {
        part("keys-wrong").textContent = error.message;
        part("key").select();
        return;
      }
      sessionStorage.setItem(KEY, typed);
      dialog.close();
      resolve();
    };
  });
}

async function open(typed) {
  const headers = /^[\x21-\x7e]+$/.test(typed) ? { "x-api-key": typed } : {};
  const answer = await fetch("/v1/session", { method: "POST", headers });
  const said = await answer.json().catch(() => ({}));
  const lacks = needs.filter((one) => !said.scopes?.includes(one) && !said.scopes?.includes("admin"));
  let wrong = "";
  if (answer.status === 401) wrong = "The service does not know this key.";
  else if (!answer.ok) wrong = said.error ?? `The service answered ${answer.status}.`;
  else if (lacks.length) wrong = `This key does not open: ${lacks.join(", ")}.`;
  if (!wrong) return;
  throw Object.assign(new Error(wrong), { refused: answer.status < 429 });
}

setInterval(() => key() && open(key()).catch(() => {}), RENEW_MS);
