// The answer as it is read: its words can be chosen, and are shaded by what a document does to them.

import { byId, element } from "./dom.js";
import { shaded, unshaded } from "./shading.js";
import { findWords, spanOf } from "./text.js";

const said = byId("said");
let text = "";
let words = []; // { start, stop, node }
let chosen = null; // { first, last }: words that are asked about
let caret = 0; // the word that the arrows have reached
let anchor = 0; // where a choice by Shift began
let whenChosen = () => {};

export const answer = {
  get span() {
    return chosen && spanOf(text, words[chosen.first].start, words[chosen.last].stop);
  },
  get chosenText() {
    return chosen && text.slice(words[chosen.first].start, words[chosen.last].stop);
  },

  // The form makes room for it. While the model speaks its words are plain text.
  begin(prompt) {
    byId("said-prompt").textContent = prompt;
    byId("said-prompt").hidden = prompt === "";
    byId("reading").hidden = false;
    byId("question").hidden = true;
    said.setAttribute("aria-busy", "true");
    said.removeAttribute("aria-activedescendant");
    said.replaceChildren();
    [text, words, chosen, caret, anchor] = ["", [], null, 0, 0];
  },
  hear(more) {
    said.append(more);
  },
  leave() {
    byId("reading").hidden = true;
    byId("question").hidden = false;
    byId("prompt").focus({ preventScroll: true });
  },

  show(whole) {
    text = whole;
    words = findWords(text);
    chosen = null;
    said.removeAttribute("aria-busy");
    draw(unshaded(text));
  },

  shade(tokens) {
    draw(tokens ? shaded(text, tokens) : unshaded(text));
  },

  choose(first, last) {
    chosen = first === null ? null : { first: Math.min(first, last), last: Math.max(first, last) };
    mark();
  },

  onChosen(act) {
    whenChosen = act;
  },
};

function draw({ part }) {
  const nodes = [];
  let at = words[0]?.start ?? 0; // the space that an answer often begins with is not shown
  words.forEach((word, n) => {
    if (word.start > at) nodes.push(text.slice(at, word.start));
    word.node = element("span", "word", ...part(word.start, word.stop));
    word.node.id = `word-${n}`;
    word.node.dataset.word = String(n);
    word.node.setAttribute("role", "option");
    nodes.push(word.node);
    at = word.stop;
  });
  said.replaceChildren(...nodes, text.slice(at));
  mark();
}

function mark() {
  words.forEach(({ node }, n) => {
    const within = chosen !== null && n >= chosen.first && n <= chosen.last;
    node.setAttribute("aria-selected", String(within));
    node.classList.toggle("caret", n === caret);
  });
  if (words.length) said.setAttribute("aria-activedescendant", `word-${caret}`);
  byId("about").textContent = chosen ? `About “${answer.chosenText}” alone` : "Choose words to ask about them alone.";
  byId("whole").hidden = chosen === null;
}

function take(first, last) {
  const before = JSON.stringify(chosen);
  answer.choose(first, last);
  if (JSON.stringify(chosen) !== before) whenChosen();
}

const wordOf = (node) => {
  const found = (node?.nodeType === Node.TEXT_NODE ? node.parentElement : node)?.closest?.("[data-word]");
  return found && said.contains(found) ? Number(found.dataset.word) : null;
};

// A drag chooses the words that it touches, a click one word or, again, none.
function point(event) {
  const selection = getSelection();
  const touched = selection.isCollapsed ? [] : words.map(({ node }, n) => (selection.containsNode(node, true) ? n : -1));
  const within = touched.filter((n) => n >= 0);
  if (within.length) {
    anchor = within[0];
    caret = within.at(-1);
    take(anchor, caret);
    return;
  }
  const one = wordOf(event.target);
  if (one === null) return;
  caret = one;
  if (!event.shiftKey) anchor = one;
  if (event.shiftKey) take(anchor, one);
  else if (chosen && chosen.first === one && chosen.last === one) take(null);
  else take(one, one);
}

said.addEventListener("pointerdown", () => document.addEventListener("pointerup", point, { once: true }));

said.addEventListener("keydown", (event) => {
  if (!words.length || event.ctrlKey || event.metaKey || event.altKey) return;
  const forward = getComputedStyle(said).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
  const backward = forward === "ArrowLeft" ? "ArrowRight" : "ArrowLeft";
  const steps = { [forward]: caret + 1, [backward]: caret - 1, Home: 0, End: words.length - 1 };
  if (event.key in steps) {
    caret = Math.min(words.length - 1, Math.max(0, steps[event.key]));
    if (event.shiftKey) answer.choose(anchor, caret);
    else anchor = caret;
    mark();
    words[caret].node.scrollIntoView({ block: "nearest" });
  } else if (event.key === "Enter" || event.key === " ") {
    if (chosen === null || caret < chosen.first || caret > chosen.last) answer.choose(caret, caret);
    whenChosen();
  } else if (event.key === "Escape") take(null);
  else return;
  event.preventDefault();
});
