// The page: one form, one answer, and a sentence for every state between them.

import { drawDocuments, drawSources, element } from "./documents.js";
import { call, rememberKey } from "./server.js";

const $ = (id) => document.getElementById(id);
const form = $("question");
let indexes = [];
let asked = 0; // an answer that is not the latest question's is dropped

function show(state, sentence) {
  $("status").dataset.state = state;
  $("status").textContent = sentence;
  $("status").hidden = state === "answered";
  $("result").hidden = state !== "answered";
  $("answer").setAttribute("aria-busy", String(state === "loading"));
  $("ask").disabled = state === "loading";
  $("ask").textContent = state === "loading" ? "Asking …" : "Find the documents";
}

function showRefusal(refusal) {
  if (refusal.status === 401) {
    $("key-field").hidden = false;
    $("key").focus();
    show("error", "This server wants an API key. Enter it and ask again.");
  } else if (refusal.status === 429 || refusal.status === 503) {
    const wait = refusal.retryAfter ? ` Ask again in ${refusal.retryAfter} s.` : "";
    show("error", refusal.status === 429 ? `Many questions are waiting.${wait}` : refusal.message);
  } else if (refusal.status) {
    if (refusal.param === "response") showFieldError(refusal.message);
    show("error", refusal.message);
  } else {
    show("error", "The server cannot be reached. Is it still running?");
  }
}

function showFieldError(sentence) {
  const field = $("response-error");
  field.textContent = sentence;
  field.hidden = sentence === "";
  $("response").setAttribute("aria-invalid", String(sentence !== ""));
}

function describe(index) {
  const documents = new Intl.NumberFormat("en").format(index.documents);
  const model = index.model.id;
  $("served").replaceChildren(element("strong", "", documents), ` training documents · ${model}`);
  $("top-k").max = String(Math.min(1000, index.documents));
  if (Number($("top-k").value) > index.documents) $("top-k").value = String(index.documents);
}

async function loadIndexes() {
  try {
    indexes = (await call("/v1/indexes")).data;
  } catch (refusal) {
    if (refusal.status === 503) {
      $("served").textContent = "The index is being opened …";
      setTimeout(loadIndexes, 1000);
    } else if (refusal.status === 401) showRefusal(refusal);
    return;
  }
  $("index").replaceChildren(...indexes.map(({ name }) => new Option(name, name)));
  $("index").value = indexes.some(({ name }) => name === "default") ? "default" : indexes[0].name;
  $("index-field").hidden = indexes.length < 2;
  describe(indexes.find(({ name }) => name === $("index").value));
}

async function ask() {
  const question = {
    prompt: $("prompt").value,
    response: $("response").value,
    top_k: Number($("top-k").value),
    score: $("score").value,
    sign: $("sign").value,
    index: $("index").value || "default",
  };
  showFieldError("");
  if (question.response === "") {
    showFieldError("Enter what the model wrote.");
    $("response").focus();
    return;
  }
  if (!$("key-field").hidden && $("key").value) {
    rememberKey($("key").value);
    if (indexes.length === 0) loadIndexes();
  }
  const turn = ++asked;
  show("loading", "Asking the model and searching the index …");
  try {
    const answer = await call("/v1/attribute", question);
    if (turn === asked) showAnswer(answer);
  } catch (refusal) {
    if (turn === asked) showRefusal(refusal);
  }
}

function showAnswer(answer) {
  if (answer.data.length === 0) {
    show("empty", "The index returned no document.");
    return;
  }
  drawSources($("sources"), answer.sources);
  drawDocuments($("documents"), answer.data);
  const { usage, timings_ms: timings, method } = answer;
  $("footnote").textContent =
    `${usage.prompt_tokens} + ${usage.response_tokens} tokens · ${Math.round(timings.total)} ms · ` +
    `${method.projection} projection, ${method.hessian} Hessian, ${method.score} score · ${answer.id}`;
  show("answered", "");
  $("answer").focus({ preventScroll: true });
  if (matchMedia("(max-width: 60rem)").matches) $("answer").scrollIntoView();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
$("index").addEventListener("change", () => describe(indexes.find(({ name }) => name === $("index").value)));
loadIndexes();
