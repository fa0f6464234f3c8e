// What the server refuses or fails in, as the state that a person sees, with the way out.

import { lens } from "./lens.js";
import { question } from "./question.js";
import { hasKey, rememberKey } from "./server.js";
import { showOverloaded, showState, showUnauthorised } from "./states.js";

// `again` asks the same once more, `back` returns to the form.
export function showRefusal(refusal, { again, back }) {
  const { status, code, message } = refusal;
  const retry = { sentence: message, actions: [["Try again", again], ["Change the question", back]] };
  if (status === 0) showState("unreachable", { actions: [["Try again", again]] });
  else if (status === 401) showUnauthorised(hasKey(), keyed(again));
  else if (status === 429) showOverloaded(refusal.retryAfter ?? 5, again, back);
  else if (code === "loading") reopen(again);
  else if (code === "unsupported_model") showState("wrong-model", { sentence: message });
  else if (status === null) showState("unattributed", { sentence: message, actions: [["Try again", again]] });
  else if (code === "deadline_passed") showState("late", { actions: retry.actions });
  else if (status === 502 || code?.startsWith("upstream")) showState("upstream", retry);
  else if (code === "attribution_not_found") showState("gone");
  else if (status < 500) refuse(refusal, back);
  else showState("failed", retry);
}

export function showNonePass(all) {
  const sentence = `Nothing in this index is from the source “${lens.source}”.`;
  showState("none-pass", { sentence, actions: [["Search all documents", all]] });
}

export function reopen(then) {
  showState("opening");
  setTimeout(then, 1000);
}

export const keyed = (then) => (key) => {
  rememberKey(key);
  then();
};

function refuse({ message, param }, back) {
  const field = { prompt: "prompt", messages: "prompt", response: "response" }[param];
  const actions = [["Change the question", () => {
    back();
    if (field) question.complain(message, document.getElementById(field));
  }]];
  showState("refused", { sentence: message, actions });
}
