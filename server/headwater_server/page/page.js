// The page: a question, its answer, and the documents behind it.

import { answer } from "./answer.js";
import { byId } from "./dom.js";
import { readFragment, writeFragment } from "./fragment.js";
import { lens } from "./lens.js";
import { documents } from "./numbers.js";
import { question } from "./question.js";
import { keyed, reopen } from "./refusals.js";
import { call, hasKey } from "./server.js";
import { Session } from "./session.js";
import { showEmpty, showState, showUnauthorised } from "./states.js";

const session = new Session();
let indexes = [];

async function open() {
  try {
    indexes = (await call("/v1/indexes")).data;
  } catch (refusal) {
    if (refusal.status === 401) showUnauthorised(hasKey(), keyed(open));
    else if (refusal.status === 503) reopen(open);
    else if (refusal.status === 0) showState("unreachable", { actions: [["Try again", open]] });
    else showState("failed", { sentence: refusal.message, actions: [["Try again", open]] });
    return;
  }
  const { index, id } = readFragment();
  lens.offer(indexes, index);
  describe();
  if (id) session.recall(id);
  else showEmpty();
}

function describe() {
  const index = indexes.find(({ name }) => name === lens.index);
  byId("served").textContent = `${documents(index.documents)} · ${index.model.id}`;
  lens.fit(index.documents);
  question.offer(index);
  session.index = index;
}

function another() {
  session.forget();
  answer.leave();
  showEmpty();
}

lens.take(readFragment());
question.onAsk(async () => {
  if (question.fault() !== null) return;
  if (indexes.length === 0) await open();
  if (indexes.length > 0) session.ask();
});
answer.onChosen(() => session.look());
lens.onChange(({ target }) => {
  if (target.name === "index") describe();
  writeFragment(lens.state());
  session.look();
});
addEventListener("hashchange", () => {
  lens.take(readFragment());
  session.look();
});
byId("another").addEventListener("click", another);
byId("whole").addEventListener("click", () => {
  answer.choose(null);
  session.look();
});
byId("download").addEventListener("click", () => session.download());
byId("stop").addEventListener("click", () => session.stop());
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the state's
  byId("found").focus();
});
open();
