// A sentence for every state in which no documents are shown, and what can be done about it.

import { countDown } from "./countdown.js";
import { button, byId, clone, element } from "./dom.js";

const STATES = {
  loading: ["Following the answer upstream", "The model reads it once, and the index is searched."],
  answering: ["The model is answering", "The documents follow when it is done."],
  opening: ["The index is being opened", "The page goes on by itself as soon as it is ready."],
  overloaded: ["Many questions are waiting", ""],
  unauthorised: ["This server wants a key", "Ask whoever runs it. The key is kept until this tab is closed."],
  "wrong-model": ["Another model answered", ""],
  upstream: ["The language model did not answer", ""],
  unattributed: ["The answer could not be attributed", ""],
  "none-pass": ["No document passes", "Nothing in this index is from that source."],
  late: ["This took too long", "The server gave the question up. It may be busy: try again."],
  refused: ["This cannot be asked", ""],
  gone: ["This answer is no longer kept", "The server keeps the documents of a chat for an hour. Ask again."],
  failed: ["The server failed", ""],
  unreachable: ["The server cannot be reached", "Is it still running?"],
};

const EMPTY = [...byId("state").childNodes]; // the page begins with it
let leave = () => {};

// Shows a state; { sentence, actions: [[label, what it does]], extra } say more than the table does.
export function showState(name, { sentence, actions = [], extra = null } = {}) {
  leaveState();
  const place = byId("state");
  place.dataset.state = name;
  place.hidden = false;
  const [title, plain] = STATES[name];
  const said = element("p", "state-sentence", sentence ?? plain);
  const row = element("div", "state-actions", ...actions.map(([label, act], n) => button(n ? "quiet" : "main", label, act)));
  const parts = [element("p", "state-title", title), said];
  if (extra) parts.push(extra);
  if (actions.length) parts.push(row);
  place.replaceChildren(...parts);
  if (name === "loading") place.append(clone("skeleton"));
}

export function showEmpty() {
  leaveState();
  const place = byId("state");
  place.hidden = false;
  if (place.dataset.state !== "empty") place.replaceChildren(...EMPTY);
  place.dataset.state = "empty";
}

export function leaveState() {
  leave();
  leave = () => {};
  byId("state").hidden = true;
}

// Waits for the seconds that the server asked for, then asks again.
export function showOverloaded(seconds, again, giveUp) {
  const place = element("strong", "seconds");
  place.setAttribute("role", "timer");
  const sentence = element("span", "", "This one is asked again in ", place, " s.");
  showState("overloaded", { sentence, actions: [["Do not wait", giveUp]] });
  const stop = countDown(place, seconds, again);
  leave = stop;
}

// Asks for a key; `wrong` says that one was tried.
export function showUnauthorised(wrong, use) {
  const form = clone("key-form").firstElementChild;
  const input = form.querySelector("input");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (input.value.trim()) use(input.value.trim());
  });
  showState("unauthorised", { sentence: wrong ? "The key was not accepted. Is it whole?" : undefined, extra: form });
  input.focus();
}
