// One document is looked into: its words and the answer's are shaded by what it does to the answer.

import { answer } from "./answer.js";
import { byId } from "./dom.js";
import { result } from "./result.js";
import { Refusal, call } from "./server.js";

let asked = null; // the question whose documents are shown
let found = [];
let explained = new Map(); // by document id
let abort = new AbortController();
let current = null;

export const looking = {
  // Begins with the most influential document.
  begin(question, documents, explains) {
    this.forget();
    [asked, found] = [question, documents];
    if (explains) this.at(documents[0].document_id);
    else if (question.response) say(documents[0].text === null ? WITHHELD : NO_FACTORS);
  },

  // Shades by this document; by none, if it is already looked into.
  async at(id) {
    abort.abort();
    const mine = (abort = new AbortController());
    current = id === current ? null : id;
    if (current === null) return show(null);
    if (!explained.has(id)) {
      show(null);
      say(`Looking into document ${rank(id)} …`);
      try {
        const { data } = await call("/v1/explain", { ...asked, document_ids: [id] }, mine.signal);
        explained.set(id, data[0]);
      } catch (refusal) {
        if (refusal instanceof Refusal) fail(refusal);
        else if (refusal.name !== "AbortError") throw refusal;
        return;
      }
    }
    show(explained.get(id));
    say(`Shaded by what document ${rank(id)} does to each word.`);
  },

  known: () => [...explained.values()],

  forget() {
    abort.abort();
    [asked, found, explained, current] = [null, [], new Map(), null];
    say("");
  },
};

const NO_FACTORS = "Words are not shaded: this index keeps no factors (a build with --factors does).";
const WITHHELD = "Words are not shaded: this server tells no document’s text.";

const rank = (id) => found.find((one) => one.document_id === id).rank;

function show(explanation) {
  answer.shade(explanation?.response);
  result.shade(found, current, explanation?.document);
  say("");
}

function fail(refusal) {
  current = null;
  show(null);
  say(`The words could not be shaded. ${refusal.message}`);
}

function say(sentence) {
  byId("shading").textContent = sentence;
  byId("legend").classList.toggle("unseen", current === null || !explained.has(current));
}
